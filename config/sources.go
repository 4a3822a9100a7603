package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Source is one entry of proxy.sources.
type Source struct {
	File     string `key:"file" required:"true" check:"path" doc:"A platform's file: YAML with httpRules (port, name, path) and tcpRules, or a ModelArts config.json with apis and health. Each rule, and each path of the apis, becomes a route."`
	Listen   string `key:"listen" default:":8080" check:"listen" doc:"Address of the routes of a config.json, which names none."`
	Upstream string `key:"upstream" default:"127.0.0.1:8000" check:"upstream" doc:"The server behind the routes of a config.json."`
	Shift    int    `key:"shift" default:"10000" check:"notnegative" doc:"httpRules name the port that clients use; the server behind it is at 127.0.0.1 on that port plus this number."`
	Optional bool   `key:"optional" default:"false" doc:"The file may be missing."`
}

// Rules are the routes that a platform's file names.
type Rules struct {
	HTTP   []HTTPRule
	TCP    []TCPRule
	APIs   []string // paths
	Health *HealthRule
}

// HTTPRule is one entry of httpRules.
type HTTPRule struct {
	Port       int
	Name, Path string
}

// TCPRule is one entry of tcpRules.
type TCPRule struct {
	Port int
	Name string
}

// HealthRule is health of a config.json, with what it leaves out zero.
type HealthRule struct {
	Exec            bool
	URL, Command    string
	Timeout, Period time.Duration
	Failures        int
}

// applySources adds the routes of the files, where those are.
func (c *Config) applySources(elsewhere bool) Problems {
	var ps Problems
	for i, s := range c.Proxy.Sources {
		at := "proxy.sources[" + strconv.Itoa(i) + "]"
		if s.File == "" || checkPath(s.File) != "" {
			continue
		}
		c.SourceFiles = append(c.SourceFiles, s.File)
		if elsewhere {
			continue
		}
		data, err := readFile(s.File)
		if err != nil && s.Optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var rules *Rules
		if err == nil {
			rules, err = ParseRules(data)
		}
		if err != nil {
			ps = append(ps, c.origins[at+".file"].problem(at+".file", "%s: %v", s.File, err))
			continue
		}
		if port := rules.highest(); s.Shift > 65535-port {
			from, set := c.origins[at+".shift"]
			if !set {
				from = c.origins[at]
			}
			ps = append(ps, from.problem(at+".shift", "%s has the port %d, and with %d that is more than 65535; want a smaller shift", s.File, port, s.Shift))
			continue
		}
		c.addRules(s, rules)
	}
	return ps
}

// highest is the highest port of the httpRules.
func (r *Rules) highest() int {
	port := 0
	for _, rule := range r.HTTP {
		port = max(port, rule.Port)
	}
	return port
}

func (c *Config) addRules(s Source, rules *Rules) {
	add := func(listen, path, upstream string, more func(r *Route)) {
		var r Route
		(&decoder{origins: map[string]origin{}, budget: maxNodes}).defaults("", reflect.ValueOf(&r).Elem())
		r.Listen, r.Path, r.Upstream = listen, path, upstream
		at := routeKey(len(c.Proxy.Routes))
		for _, key := range []string{"", ".listen", ".path", ".upstream", ".health"} {
			c.origins[at+key] = origin{file: s.File, line: 1}
		}
		if more != nil {
			more(&r)
		}
		c.Proxy.Routes = append(c.Proxy.Routes, r)
	}
	for _, rule := range rules.HTTP {
		add(":"+strconv.Itoa(rule.Port), rule.Path, net.JoinHostPort("127.0.0.1", strconv.Itoa(rule.Port+s.Shift)), nil)
	}
	for _, path := range rules.APIs {
		add(s.Listen, path, s.Upstream, func(r *Route) { rules.Health.apply(r) })
	}
}

// apply lays the health of a config.json over a route's.
func (h *HealthRule) apply(r *Route) {
	if h == nil {
		return
	}
	switch {
	case h.Exec && h.Command != "":
		r.Health = "exec:" + h.Command
	case h.URL != "":
		r.Health = h.URL
	}
	if h.Timeout > 0 {
		r.HealthTimeout = h.Timeout
	}
	if h.Period > 0 {
		r.HealthPeriod = h.Period
	}
	if h.Failures > 0 {
		r.HealthFailures = h.Failures
	}
}

// ParseRules reads a platform's file, of whichever kind it is.
func ParseRules(data []byte) (*Rules, error) {
	if t := bytes.TrimSpace(data); len(t) > 0 && t[0] == '{' && json.Valid(t) {
		return parseModelArts(t)
	}
	return parseNeolink(data)
}

// parseNeolink reads httpRules and tcpRules; what else is in the file is the platform's.
func parseNeolink(data []byte) (*Rules, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("is not valid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("has neither httpRules nor tcpRules, nor apis")
	}
	r, found := &Rules{}, false
	for i := 0; i+1 < len(doc.Content[0].Content); i += 2 {
		key, list := doc.Content[0].Content[i], doc.Content[0].Content[i+1]
		if key.Value != "httpRules" && key.Value != "tcpRules" {
			continue
		}
		found = true
		if list.Kind != yaml.SequenceNode && !isNull(list) {
			return nil, fmt.Errorf("line %d: %s is a %s; want a list", list.Line, key.Value, kindName(list))
		}
		for _, item := range list.Content {
			port, name, path, err := neolinkRule(item)
			if err != nil {
				return nil, fmt.Errorf("line %d: %s: %w", item.Line, key.Value, err)
			}
			if key.Value == "tcpRules" {
				r.TCP = append(r.TCP, TCPRule{port, name})
				continue
			}
			if path == "" {
				path = "/"
			}
			if msg := checkURLPath(path); msg != "" {
				return nil, fmt.Errorf("line %d: %s: path: %s", item.Line, key.Value, msg)
			}
			r.HTTP = append(r.HTTP, HTTPRule{port, name, path})
		}
	}
	if !found {
		return nil, errors.New("has neither httpRules nor tcpRules, nor apis")
	}
	return r, nil
}

func neolinkRule(n *yaml.Node) (port int, name, path string, err error) {
	if n.Kind != yaml.MappingNode {
		return 0, "", "", fmt.Errorf("is a %s; want port, name and path", kindName(n))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		value := n.Content[i+1]
		if value.Kind != yaml.ScalarNode {
			continue
		}
		switch n.Content[i].Value {
		case "port":
			if !validPort(value.Value) {
				return 0, "", "", fmt.Errorf("port: %q is not a number from 1 to 65535", clip(value.Value))
			}
			port, _ = strconv.Atoi(value.Value)
		case "name":
			name = value.Value
		case "path":
			path = value.Value
		}
	}
	if port == 0 {
		return 0, "", "", errors.New("port is missing")
	}
	return port, name, path, nil
}

// number is a JSON number, or one in quotes, as ModelArts writes them.
type number string

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	*n = number(strings.Trim(string(b), `"`))
	return nil
}

func (n number) seconds(key string) (time.Duration, error) {
	if n == "" || n == "null" {
		return 0, nil
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(string(n)), 64)
	if err != nil || f < 0 || f > 1e6 {
		return 0, fmt.Errorf("health.%s: %q is not a number of seconds", key, clip(string(n)))
	}
	return time.Duration(f * float64(time.Second)), nil
}

// parseModelArts reads a config.json (support.huaweicloud.com, "Specifications for editing a model configuration file").
func parseModelArts(data []byte) (*Rules, error) {
	var file struct {
		APIs []struct {
			URL string `json:"url"`
		} `json:"apis"`
		Health *struct {
			URL         string `json:"url"`
			Protocol    string `json:"protocol"`
			CheckMethod string `json:"check_method"`
			Command     string `json:"command"`
			Timeout     number `json:"timeout_seconds"`
			Period      number `json:"period_seconds"`
			Failures    number `json:"failure_threshold"`
		} `json:"health"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("is not a config.json: %w", err)
	}
	r, seen := &Rules{}, map[string]bool{}
	for i, api := range file.APIs {
		path := api.URL
		if u, err := url.Parse(path); err == nil && u.Host != "" {
			path = u.EscapedPath()
		}
		if path == "" {
			path = "/"
		}
		if msg := checkURLPath(path); msg != "" {
			return nil, fmt.Errorf("apis[%d].url: %s", i, msg)
		}
		if !seen[strings.TrimSuffix(path, "/")] {
			r.APIs = append(r.APIs, path)
		}
		seen[strings.TrimSuffix(path, "/")] = true
	}
	if len(r.APIs) == 0 {
		return nil, errors.New("has no apis with a url")
	}
	if h := file.Health; h != nil {
		rule := &HealthRule{
			Exec: strings.EqualFold(h.CheckMethod, "exec") || strings.EqualFold(h.Protocol, "exec"), URL: h.URL, Command: h.Command,
		}
		var err error
		if rule.Timeout, err = h.Timeout.seconds("timeout_seconds"); err != nil {
			return nil, err
		}
		if rule.Period, err = h.Period.seconds("period_seconds"); err != nil {
			return nil, err
		}
		if h.Failures != "" && h.Failures != "null" {
			if rule.Failures, err = strconv.Atoi(strings.TrimSpace(string(h.Failures))); err != nil || rule.Failures < 1 {
				return nil, fmt.Errorf("health.failure_threshold: %q is not a number from 1", clip(string(h.Failures)))
			}
		}
		r.Health = rule
	}
	return r, nil
}
