package config

import "time"

// Proxy is the proxy section.
type Proxy struct {
	KeepAlive      time.Duration `key:"keep_alive" default:"200s" check:"positive" doc:"How long an idle client connection is kept."`
	MaxConnections int           `key:"max_connections" default:"0" check:"notnegative" doc:"Client connections that are open at the same time, over all listeners. 0: half of the limit of open files."`
	Debug          bool          `key:"debug" default:"false" doc:"Routes are ready without their upstream: nothing is checked and nothing is warmed up. true where it is not set and KUBEFLOW_ENV is debug."`
	Routes         []Route       `key:"routes" default:"[]" doc:"The routes. An exact host wins over *.domain, that over any; then the longest path that matches wins."`
	Sources        []Source      `key:"sources" default:"[]" doc:"Files of platforms whose routes are added to proxy.routes."`
	AccessLog      AccessLog     `key:"access_log" doc:"Which requests are written to the log. One is written when any of these keys says so."`
}

// Route is one entry of proxy.routes.
type Route struct {
	Listen   string `key:"listen" required:"true" check:"listen" doc:"Address that clients connect to, host:port or :port. Routes may share one. off turns the route off."`
	Host     string `key:"host" default:"" check:"host" doc:"Host that the request names, without a port: one such as model.example.com, or *.example.com for every name below it. Empty: any."`
	Path     string `key:"path" default:"/" check:"urlpath" doc:"Prefix of the request path, matched at a /."`
	Upstream string `key:"upstream" default:"" check:"routeupstream" doc:"host:port of the server behind the route. Required without preset."`
	Preset   string `key:"preset" default:"" check:"preset" doc:"What the server is: jupyter, tensorboard, ollama, vllm, triton, tfserving, torchserve, onnxruntime, webui or novnc. Gives upstream, health, timeout and idle_timeout where they are not set."`

	StripPrefix bool          `key:"strip_prefix" default:"false" doc:"The upstream gets the path without this prefix; X-Forwarded-Prefix names it."`
	Timeout     time.Duration `key:"timeout" default:"60s" check:"positive" doc:"How long the upstream may take until its response begins; after that the client gets 504."`
	IdleTimeout time.Duration `key:"idle_timeout" default:"5m" check:"positive" doc:"How long a body may pause, in either direction. Upgraded connections may for ever."`

	Concurrency    int           `key:"concurrency" default:"0" check:"notnegative" doc:"Requests that the upstream works on at the same time; each counts until its response has ended. 0: no limit."`
	Queue          int           `key:"queue" default:"64" check:"notnegative" doc:"Requests that wait for one of proxy.routes[].concurrency, first in, first out. More get proxy.routes[].overload_status at once."`
	QueueTimeout   time.Duration `key:"queue_timeout" default:"30s" check:"positive" doc:"How long a request waits at most; after that it gets proxy.routes[].overload_status."`
	OverloadStatus string        `key:"overload_status" default:"503" enum:"503|429" doc:"Status of a request that finds no place, with Retry-After."`

	MaxBody   Size `key:"max_body" default:"0" check:"notnegative" doc:"The largest request body; over it the client gets 413. 0: no limit."`
	Buffer    Size `key:"buffer" default:"64Ki" check:"buffer" doc:"Bytes of a response that are held for a client that reads slower than the upstream writes; then the upstream waits."`
	WebSocket bool `key:"websocket" default:"true" doc:"Upgrades (WebSocket and others) are passed on. When false the request goes on without its Upgrade."`

	Health         string        `key:"health" default:"tcp" doc:"What the upstream must pass before the route is ready: a path such as /health, PORT:/path on the upstream's host, a URL, tcp, tcp:PORT, exec:COMMAND ARGS (ends with 0), grpc or grpc:SERVICE (grpc.health.v1), or off."`
	HealthPeriod   time.Duration `key:"health_period" default:"10s" check:"positive" doc:"Time between two checks while the route is ready. While it is not, they come at least every second."`
	HealthTimeout  time.Duration `key:"health_timeout" default:"2s" check:"positive" doc:"How long one check may take."`
	HealthFailures int           `key:"health_failures" default:"3" check:"atleast1" doc:"Failures in a row that make the route not ready. One success makes it ready again."`

	TLSCert string `key:"tls_cert" default:"" check:"path" doc:"PEM file with the certificate chain; the listener then speaks TLS, as must every route that shares it. Each host may have its own."`
	TLSKey  string `key:"tls_key" default:"" check:"path" doc:"PEM file with the key of proxy.routes[].tls_cert."`

	Warmup []Warmup `key:"warmup" default:"[]" doc:"Requests that must succeed (200–399) before the route is ready, one after the other, each time the upstream has come up."`
}

// Name is what a route is called in metrics and logs: its listen address, host and path.
func (r Route) Name() string { return r.Listen + r.Host + r.Path }

// Warmup is one entry of proxy.routes[].warmup.
type Warmup struct {
	Method      string        `key:"method" default:"GET" check:"method" doc:"Method of the request."`
	Path        string        `key:"path" required:"true" check:"target" doc:"Path, with a query if need be, as the upstream knows it."`
	Body        string        `key:"body" default:"" doc:"Body of the request."`
	ContentType string        `key:"content_type" default:"" check:"headervalue" doc:"Content-Type of the body. Where it is empty and there is a body: application/json."`
	Count       int           `key:"count" default:"1" check:"times" doc:"How many times it must succeed, 1 to 10000."`
	Timeout     time.Duration `key:"timeout" default:"60s" check:"positive" doc:"How long one request may take, its response included."`
}

// AccessLog is proxy.access_log.
type AccessLog struct {
	Sample float64       `key:"sample" default:"0" check:"share" doc:"Share of all requests, 0 to 1."`
	Slow   time.Duration `key:"slow" default:"0s" check:"notnegative" doc:"Requests that took at least this long. 0s: none for that."`
	Errors bool          `key:"errors" default:"true" doc:"Requests that inpod answered itself, with an error."`
}
