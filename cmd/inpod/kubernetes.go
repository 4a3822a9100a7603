package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/inpod/inpod/config"
)

// yamlText writes YAML line by line: what these few objects need, without a library's weight in the binary.
type yamlText struct{ strings.Builder }

func (y *yamlText) line(indent int, format string, args ...any) {
	y.WriteString(strings.Repeat("  ", indent))
	fmt.Fprintf(y, format, args...)
	y.WriteByte('\n')
}

// quoted is a YAML string: those of JSON are.
func quoted(s string) string { return strconv.Quote(s) }

// head writes what every object begins with.
func (y *yamlText) head(api, kind, name string, f exportFlags) {
	y.line(0, "apiVersion: %s", api)
	y.line(0, "kind: %s", kind)
	y.line(0, "metadata:")
	y.line(1, "name: %s", name)
	if f.namespace != "" {
		y.line(1, "namespace: %s", quoted(f.namespace))
	}
	y.line(1, "labels: {app.kubernetes.io/name: %s}", f.name)
}

// serviceYAML is a Service with a port for each that the routes listen on, and SSH's.
func serviceYAML(ports []port, f exportFlags) (string, error) {
	selector := f.selector
	if len(selector) == 0 {
		selector = []string{"app=" + f.name}
	}
	y := &yamlText{}
	y.head("v1", "Service", f.name, f)
	y.line(0, "spec:")
	y.line(1, "selector:")
	for _, s := range selector {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return "", fmt.Errorf("cannot use the selector %q: want label=value", s)
		}
		y.line(2, "%s: %s", quoted(key), quoted(value))
	}
	y.line(1, "ports:")
	for _, p := range ports {
		y.line(1, "- name: %s", p.name)
		y.line(2, "port: %d", p.number)
		y.line(2, "targetPort: %d", p.number)
		y.line(2, "protocol: TCP")
	}
	return y.String(), nil
}

// byHost groups the routes of all ports by host, in their order.
func byHost(ports []port, otherwise string) (hosts []string, routes map[string][]exported) {
	routes = map[string][]exported{}
	for _, p := range ports {
		for _, r := range p.routes {
			host := r.Host
			if host == "" {
				host = otherwise
			}
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
			// Two ports may have the same path; from outside there is one port, and the first has it.
			if !slices.ContainsFunc(routes[host], func(e exported) bool { return e.path() == (exported{r, p.number}).path() }) {
				routes[host] = append(routes[host], exported{r, p.number})
			}
		}
	}
	return hosts, routes
}

// exported is a route and the port that it has.
type exported struct {
	config.Route
	port int
}

// path is the prefix as Ingress and Gateway mean it: matched at a /, so without one at its end.
func (e exported) path() string {
	if p := strings.TrimRight(e.Path, "/"); p != "" {
		return p
	}
	return "/"
}

// longest is the longest timeout of the routes, in seconds.
func longest(ports []port) int {
	most := 60.0
	for _, p := range ports {
		for _, r := range p.routes {
			most = max(most, r.Timeout.Seconds(), r.IdleTimeout.Seconds())
		}
	}
	return int(most)
}

// ingressYAML is an Ingress for all routes. The annotations are for ingress-nginx: others ignore them.
func ingressYAML(ports []port, f exportFlags) string {
	y := &yamlText{}
	y.head("networking.k8s.io/v1", "Ingress", f.name, f)
	y.line(1, "annotations:")
	seconds := longest(ports)
	for _, a := range [][2]string{
		{"proxy-read-timeout", strconv.Itoa(seconds)},
		{"proxy-send-timeout", strconv.Itoa(seconds)},
		{"proxy-body-size", "0"},
		{"proxy-buffering", "off"},
		{"proxy-request-buffering", "off"},
	} {
		y.line(2, "nginx.ingress.kubernetes.io/%s: %s", a[0], quoted(a[1]))
	}
	y.line(0, "spec:")
	y.line(1, "rules:")
	hosts, routes := byHost(ports, f.host)
	for _, host := range hosts {
		if host == "" {
			y.line(1, "- http:")
		} else {
			y.line(1, "- host: %s", quoted(host))
			y.line(2, "http:")
		}
		y.line(3, "paths:")
		for _, e := range routes[host] {
			y.line(3, "- path: %s", quoted(e.path()))
			y.line(4, "pathType: Prefix")
			y.line(4, "backend: {service: {name: %s, port: {number: %d}}}", f.name, e.port)
		}
	}
	return y.String()
}

// maxRules is how many rules an HTTPRoute may have (gateway-api.sigs.k8s.io/reference/spec).
const maxRules = 16

// httpRouteYAML is an HTTPRoute for each host.
func httpRouteYAML(ports []port, f exportFlags) string {
	y := &yamlText{}
	hosts, routes := byHost(ports, f.host)
	namespace, gateway, both := strings.Cut(f.gateway, "/")
	if !both {
		namespace, gateway = "", f.gateway
	}
	n := 0
	for _, host := range hosts {
		for rules := range slices.Chunk(routes[host], maxRules) {
			name := f.name
			if n++; n > 1 {
				name += "-" + strconv.Itoa(n)
				y.line(0, "---")
			}
			y.head("gateway.networking.k8s.io/v1", "HTTPRoute", name, f)
			y.line(0, "spec:")
			y.line(1, "parentRefs:")
			y.line(1, "- name: %s", quoted(gateway))
			if namespace != "" {
				y.line(2, "namespace: %s", quoted(namespace))
			}
			if host != "" {
				y.line(1, "hostnames: [%s]", quoted(host))
			}
			y.line(1, "rules:")
			for _, e := range rules {
				y.line(1, "- matches:")
				y.line(2, "- path: {type: PathPrefix, value: %s}", quoted(e.path()))
				y.line(2, "backendRefs:")
				y.line(2, "- {name: %s, port: %d}", f.name, e.port)
			}
		}
	}
	return y.String()
}

// neolinkYAML is httpRules and tcpRules, as config reads them too.
func neolinkYAML(ports []port) string {
	y := &yamlText{}
	y.line(0, "httpRules:")
	for _, p := range ports {
		for _, r := range p.routes {
			y.line(0, "- {port: %d, name: %s, path: %s}", p.number, quoted(ruleName(r, p)), quoted(r.Path))
		}
	}
	y.line(0, "tcpRules:")
	for _, p := range ports {
		if p.tcp {
			y.line(0, "- {port: %d, name: %s}", p.number, p.name)
		}
	}
	return y.String()
}
