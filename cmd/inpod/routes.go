package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/inpod/inpod/config"
	"github.com/spf13/cobra"
)

// exportFlags say for what the routes are written.
type exportFlags struct {
	format, name, namespace, host, gateway string
	selector                               []string
}

func newRoutes(a *app) *cobra.Command {
	var file string
	f := exportFlags{}
	formats := []string{"table", "json", "service", "ingress", "httproute", "neolink"}
	cmd := &cobra.Command{
		Use:   "routes [--format FORMAT] [--name NAME] [--config FILE]",
		Short: "Write the routes of the configuration as a table, JSON, Service, Ingress, HTTPRoute or Neolink rules",
		Long: "routes reads the configuration and writes what a platform must know of its routes. It asks no agent: inpod ctl routes\n" +
			"shows those of one that runs.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !slices.Contains(formats, f.format) {
				return fmt.Errorf("unknown format %q: want one of %s", f.format, strings.Join(formats, ", "))
			}
			cfg, err := config.Load(config.Options{File: file, Env: a.env, UID: os.Getuid()})
			if err != nil {
				return a.fail(fmt.Errorf("cannot read the configuration:\n%w", err))
			}
			text, err := exportRoutes(cfg, f)
			if err != nil {
				return a.fail(err)
			}
			return a.print(text)
		},
	}
	a.configFlag(cmd, &file)
	cmd.Flags().StringVarP(&f.format, "format", "o", "table", strings.Join(formats, ", "))
	cmd.Flags().StringVar(&f.name, "name", "inpod", "name of the objects")
	cmd.Flags().StringVarP(&f.namespace, "namespace", "n", "", "namespace of the objects")
	cmd.Flags().StringVar(&f.host, "host", "", "host of routes that have none, in Ingress and HTTPRoute")
	cmd.Flags().StringVar(&f.gateway, "gateway", "gateway", "Gateway that HTTPRoutes belong to, as NAME or NAMESPACE/NAME")
	cmd.Flags().StringSliceVar(&f.selector, "selector", nil, "labels of the pods of the Service (default app=NAME)")
	return cmd
}

// exportRoutes writes the routes in one format.
func exportRoutes(cfg *config.Config, f exportFlags) (string, error) {
	ports := exportPorts(cfg)
	if f.format != "table" && f.format != "json" {
		if msg := badName(f.name); msg != "" {
			return "", fmt.Errorf("cannot name the objects %q: %s", f.name, msg)
		}
		http := slices.ContainsFunc(ports, func(p port) bool { return !p.tcp })
		switch needed := f.format == "ingress" || f.format == "httproute"; {
		case http, len(ports) > 0 && !needed:
		case len(cfg.Proxy.Routes) > 0:
			return "", fmt.Errorf("cannot write as %s: no route of the configuration listens where others can connect (proxy.routes[].listen)", f.format)
		default:
			return "", fmt.Errorf("cannot write as %s: the configuration has no routes (proxy.routes)", f.format)
		}
	}
	switch f.format {
	case "json":
		b, err := json.MarshalIndent(cfg.Tree()["proxy"].(map[string]any)["routes"], "", "  ")
		return string(b) + "\n", err
	case "service":
		return serviceYAML(ports, f)
	case "ingress":
		return ingressYAML(ports, f), nil
	case "httproute":
		return httpRouteYAML(ports, f), nil
	case "neolink":
		return neolinkYAML(ports), nil
	}
	return tableText(cfg), nil
}

func tableText(cfg *config.Config) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "LISTEN\tHOST\tPATH\tUPSTREAM\tHEALTH\tTIMEOUT\tFROM")
	for i, r := range cfg.Proxy.Routes {
		host, from := r.Host, cfg.Origin("proxy.routes["+strconv.Itoa(i)+"]")
		if host == "" {
			host = "*"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Listen, host, r.Path, r.Upstream, r.Health, r.Timeout, from)
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}

// port is one port that others connect to, with the routes behind it.
type port struct {
	number int
	name   string // of the Service's port
	tcp    bool   // not HTTP: SSH
	routes []config.Route
}

// exportPorts groups the routes by port, in their order. Routes that listen on the loopback are nobody else's. SSH is told
// of where somebody asked for it: ssh.listen is set.
func exportPorts(cfg *config.Config) []port {
	var ports []port
	find := func(listen string) *port {
		host, text, _ := net.SplitHostPort(listen) // config has looked at it
		number, _ := strconv.Atoi(text)
		if host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1" || number == 0 {
			return nil
		}
		for i := range ports {
			if ports[i].number == number {
				return &ports[i]
			}
		}
		ports = append(ports, port{number: number, name: "http-" + text})
		return &ports[len(ports)-1]
	}
	for _, r := range cfg.Proxy.Routes {
		if r.Listen == config.Off {
			continue
		}
		if p := find(r.Listen); p != nil {
			p.routes = append(p.routes, r)
		}
	}
	if cfg.IsSet("ssh.listen") && cfg.SSH.Listen != config.Off {
		if p := find(cfg.SSH.Listen); p != nil && len(p.routes) == 0 {
			p.tcp, p.name = true, "ssh"
		}
	}
	return ports
}

// badName says what is wrong with a name of an object (a DNS label, RFC 1123); "" means nothing.
func badName(s string) string {
	ok := len(s) > 0 && len(s) <= 63 && s[0] >= 'a' && s[0] <= 'z' && s[len(s)-1] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
	if ok {
		return ""
	}
	return "want at most 63 letters, digits and -, in small letters, with a letter first"
}

// ruleName is what a route is called in Neolink's rules: its preset, the last word of its path, or its port.
func ruleName(r config.Route, p port) string {
	words := strings.FieldsFunc(r.Path, func(c rune) bool { return c == '/' })
	switch {
	case r.Preset != "":
		return r.Preset
	case len(words) > 0:
		return words[len(words)-1]
	}
	return "http-" + strconv.Itoa(p.number)
}
