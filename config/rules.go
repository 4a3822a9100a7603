package config

import (
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// kubernetesDelay is how long endpoints and load balancers of a cluster take to notice that a pod is not ready.
const kubernetesDelay = 60 * time.Second

// derive sets what depends on more than one key.
func (c *Config) derive(env map[string]string, uid int) {
	c.deriveSSH(env, uid)
	c.deriveModels()
	if !c.IsSet("drain.delay") && env["KUBERNETES_SERVICE_HOST"] != "" && len(c.Proxy.Routes) > 0 {
		c.Drain.Delay = min(kubernetesDelay, c.Drain.Deadline)
	}
	if !c.IsSet("proxy.debug") && env["KUBEFLOW_ENV"] == "debug" {
		c.Proxy.Debug = true
	}
	for i := range c.Proxy.Routes {
		c.Proxy.Routes[i].Host = strings.ToLower(c.Proxy.Routes[i].Host)
	}
}

// validate applies the check tags and then the rules that concern several keys.
func (c *Config) validate() Problems {
	var ps Problems
	c.checkFields("", reflect.ValueOf(c).Elem(), &ps)
	report := func(key, format string, args ...any) {
		from, ok := c.origins[key]
		if !ok { // what is missing is told where it is missing
			from = c.origins[key[:max(0, strings.LastIndexByte(key, '.'))]]
		}
		ps = append(ps, from.problem(key, format, args...))
	}
	if c.Drain.Deadline < c.Drain.Delay && c.Drain.Delay > 0 {
		key := "drain.deadline"
		if !c.IsSet(key) {
			key = "drain.delay"
		}
		report(key, "drain.deadline (%s) is before the end of drain.delay (%s); want at least %s",
			short(c.Drain.Deadline), short(c.Drain.Delay), short(c.Drain.Delay))
	}
	c.checkRoutes(report)
	c.checkSSH(report)
	c.checkModels(report)
	c.checkUsers(report)
	c.checkSeed(report)
	c.checkHooks(report)
	c.checkFiles(report)
	return ps
}

func (c *Config) checkFields(path string, v reflect.Value, ps *Problems) {
	for _, f := range fieldsOf(v) {
		at := join(path, f.key)
		switch {
		case f.val.Kind() == reflect.Struct:
			c.checkFields(at, f.val, ps)
		case f.val.Kind() == reflect.Slice:
			for i := range f.val.Len() {
				item := at + "[" + strconv.Itoa(i) + "]"
				if f.val.Index(i).Kind() == reflect.Struct {
					c.checkFields(item, f.val.Index(i), ps)
				} else if msg := checkValue(f.tag.Get("check"), f.val.Index(i)); msg != "" {
					*ps = append(*ps, c.origins[item].problem(item, "%s", msg))
				}
			}
		default:
			if msg := checkValue(f.tag.Get("check"), f.val); msg != "" {
				*ps = append(*ps, c.origins[at].problem(at, "%s", msg))
			}
		}
	}
}

// startRules are the rules of users, seed and hooks.
var startRules = map[string]func(string) string{
	"account": checkAccount, "id": checkID, "owner": checkOwner, "mode": checkMode, "variable": checkVariable,
	"realpath": checkRealPath, "hookname": checkHookName, "preset": checkPreset,
}

// checkValue applies the rule that a check tag names; "" means that the value is good.
func checkValue(rule string, v reflect.Value) string {
	if check := startRules[rule]; check != nil {
		return check(v.String())
	}
	switch rule {
	case "":
		return ""
	case "listen":
		if v.String() == Off {
			return ""
		}
		return checkAddress(v.String(), "listen")
	case "upstream":
		return checkAddress(v.String(), "upstream")
	case "routeupstream":
		if v.String() == "" {
			return "" // checkRoutes knows whether it is missing
		}
		return checkAddress(v.String(), "upstream")
	case "path":
		return checkPath(v.String())
	case "socket":
		// sun_path holds 108 bytes with the NUL at its end (unix(7)).
		if s := v.String(); len(s) > 107 {
			return fmt.Sprintf("is %d bytes long; a socket's path has at most 107", len(s))
		} else if s == Off {
			return ""
		} else if s == "" {
			return "is empty; want an absolute path, or off"
		}
		return checkPath(v.String())
	case "urlpath":
		return checkURLPath(v.String())
	case "host":
		return checkHost(v.String())
	case "target":
		return checkTarget(v.String())
	case "method":
		return checkMethod(v.String())
	case "headervalue":
		return checkHeaderValue(v.String())
	case "username":
		return checkUserName(v.String())
	case "modelname":
		return checkModelName(v.String())
	case "modelurl":
		return checkModelURL(v.String())
	case "sha256":
		return checkSHA256(v.String())
	case "subpath":
		return checkSubPath(v.String())
	case "endpoint":
		return checkEndpoint(v.String())
	case "keypath":
		return checkKeyPath(v.String())
	case "permit":
		return checkPermit(v.String())
	case "positive":
		if v.Int() <= 0 {
			return fmt.Sprintf("%s is too short; want more than 0s", short(time.Duration(v.Int())))
		}
	case "notnegative":
		if v.Int() < 0 {
			zero := "0"
			if v.Type() == durationType {
				zero = "0s"
			}
			return fmt.Sprintf("%v is negative; want %s or more", plain(v), zero)
		}
	case "atleast1":
		if v.Int() < 1 {
			return fmt.Sprintf("%d is too few; want 1 or more", v.Int())
		}
	case "times":
		if v.Int() < 1 || v.Int() > maxWarmup {
			return fmt.Sprintf("%d is out of range; want 1 to %d", v.Int(), maxWarmup)
		}
	case "buffer":
		if v.Int() < minBuffer || v.Int() > maxBuffer {
			return fmt.Sprintf("%v is out of range; want %v to %v", plain(v), Size(minBuffer), Size(maxBuffer))
		}
	case "share":
		if v.Float() < 0 || v.Float() > 1 {
			return fmt.Sprintf("%v is out of range; want a share from 0 to 1", v.Float())
		}
	default:
		panic("BUG: config: no such check: " + rule)
	}
	return ""
}

func checkAddress(s, what string) string {
	example := ":8080"
	if what == "upstream" {
		example = "127.0.0.1:8000"
	}
	if s == "" {
		return "is empty; want host:port, such as " + example
	}
	if _, rest, ok := strings.Cut(s, "://"); ok {
		rest = strings.TrimSuffix(rest, "/")
		return fmt.Sprintf("%q is a URL; want host:port, such as %s", clip(s), clip(rest))
	}
	if _, err := strconv.ParseUint(s, 10, 16); err == nil {
		if what == "upstream" {
			return fmt.Sprintf("%q has no host; did you mean 127.0.0.1:%s?", s, s)
		}
		return fmt.Sprintf("%q is a bare port; did you mean :%s?", s, s)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Sprintf("%q is not host:port, such as %s", clip(s), example)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && what == "upstream" {
		return fmt.Sprintf("%q has no valid port; want 1 to 65535", clip(s))
	}
	if what == "upstream" && host == "" {
		return fmt.Sprintf("%q has no host; did you mean 127.0.0.1:%s?", s, port)
	}
	if strings.ContainsAny(host, " \t\r\n/") {
		return fmt.Sprintf("%q has no valid host", clip(s))
	}
	return ""
}

func checkPath(s string) string {
	switch {
	case s == "":
		return ""
	case strings.ContainsRune(s, 0):
		return "holds a NUL byte"
	case !filepath.IsAbs(s):
		return fmt.Sprintf("%q is a relative path; want an absolute one", clip(s))
	}
	if _, err := filepath.Match(s, ""); err != nil {
		return fmt.Sprintf("%q is not a valid glob: a [ is not closed", clip(s))
	}
	return ""
}

func checkURLPath(s string) string {
	if !strings.HasPrefix(s, "/") {
		return fmt.Sprintf("%q does not begin with a /; did you mean /%s?", clip(s), clip(s))
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '?' || r == '#' }); i >= 0 {
		return fmt.Sprintf("%q holds %q, which no path of a request does", clip(s), s[i])
	}
	return ""
}

// sameAddress tells whether two listen addresses cannot both be had: same port, and the same host or one of them every host.
func sameAddress(a, b string) bool {
	ah, ap, aerr := net.SplitHostPort(a)
	bh, bp, berr := net.SplitHostPort(b)
	if aerr != nil || berr != nil || ap != bp || ap == "0" {
		return false
	}
	return ah == bh || everyHost(ah) && local(bh) || everyHost(bh) && local(ah)
}

func everyHost(h string) bool { return h == "" || h == "0.0.0.0" || h == "::" }

func local(h string) bool {
	if everyHost(h) || h == "localhost" {
		return true
	}
	ip := net.ParseIP(h)
	return ip != nil && ip.IsLoopback()
}

// short writes a duration as people do: 1m30s, 60s becomes 1m0s in Go, which reads badly.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
