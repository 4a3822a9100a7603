package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	nginxBinary   = "/usr/sbin/nginx"
	haproxyBinary = "/usr/sbin/haproxy"
	queueModule   = "knative.dev/serving/cmd/queue"
	queueVersion  = "v0.45.0"
)

// inpodLimits are more settings of inpod's route: a limit that is watched, at a height that no part here reaches.
const inpodLimits = ", concurrency: 1024, queue: 1024"

// peersNote says how everybody is set up.
const peersNote = "inpod: `timeout: 600s" + inpodLimits + "`, with metrics and the watch over clients, which are always on. nginx: 2 workers, `listen … reuseport`, `proxy_http_version 1.1`, `Connection` cleared, " +
	"`keepalive 512`, no access log; `proxy_buffering off` for events and `proxy_request_buffering off` for uploads. HAProxy: `nbthread 2`, `http-reuse always`, `option abortonclose`, no log; `option http-no-delay` for events. " +
	"queue-proxy " + queueVersion + ": `CONTAINER_CONCURRENCY=1024`, request metrics on, no request log. ReverseProxy: net/http/httputil with 1,024 idle upstream connections and a buffer pool."

// missingError says that a peer cannot be had here.
type missingError struct{ err error }

func (e *missingError) Error() string { return e.err.Error() }

// proxyArgv writes what the proxy needs into dir and returns its command line and environment.
func (b *bench) proxyArgv(ctx context.Context, name, dir, addr, upstream string) (argv, env []string, err error) {
	conf := filepath.Join(dir, "conf")
	_, port, _ := strings.Cut(addr, ":")
	_, upPort, _ := strings.Cut(upstream, ":")
	text := ""
	switch name {
	case ours:
		text = fmt.Sprintf(inpodConf, addr, upstream, inpodLimits)
		argv = []string{b.bins.Inpod, "run", "--config", conf}
	case nginx:
		text = nginxHead(2) + fmt.Sprintf(nginxProxy, upstream, addr) + "}\n"
		argv = nginxArgv(dir, conf)
	case haproxy:
		text = fmt.Sprintf(haproxyConf, addr, upstream)
		argv = []string{haproxyBinary, "-db", "-f", conf}
	case queueProxy:
		file, err := b.queueProxy(ctx)
		if err != nil {
			return nil, nil, &missingError{err}
		}
		argv = []string{file}
		env = []string{
			"CONTAINER_CONCURRENCY=1024", "QUEUE_SERVING_PORT=" + port, "QUEUE_SERVING_TLS_PORT=0", "USER_PORT=" + upPort,
			"REVISION_TIMEOUT_SECONDS=600", "SERVING_LOGGING_CONFIG=", "SERVING_LOGGING_LEVEL=error", "SERVING_REQUEST_METRICS_BACKEND=prometheus",
			"SERVING_NAMESPACE=bench", "SERVING_CONFIGURATION=bench", "SERVING_REVISION=bench", "SERVING_POD=bench", "SERVING_POD_IP=127.0.0.1",
		}
	case reverseProxy:
		argv = []string{b.self, "role-proxy", addr, upstream}
	}
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, nil, fmt.Errorf("cannot write the configuration of %s: %w", name, err)
	}
	return argv, env, nil
}

const inpodConf = `
admin: {listen: "off", socket: "off"}
supervisor: {include: []}
proxy:
  routes:
    - {listen: "%s", upstream: "%s", timeout: 600s%s}
`

// nginxHead is what the upstream and the proxy have in common; the http block is open at its end.
func nginxHead(workers int) string {
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n" // who can read the temporary directory
	}
	return fmt.Sprintf(`%sworker_processes %d;
worker_rlimit_nofile 20000;
daemon off;
pid nginx.pid;
error_log stderr crit;
events { worker_connections 19000; }
http {
access_log off;
client_body_temp_path tmp-body;
proxy_temp_path tmp-proxy;
fastcgi_temp_path tmp-fastcgi;
uwsgi_temp_path tmp-uwsgi;
scgi_temp_path tmp-scgi;
sendfile on;
tcp_nopush on;
keepalive_timeout 600s;
keepalive_requests 1000000000;
default_type text/plain;
`, user, workers)
}

const nginxProxy = `
upstream up {
    server %s;
    keepalive 512;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
}
server {
    listen %s reuseport backlog=4096;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 600s;
    client_max_body_size 0;
    location / { proxy_pass http://up; }
    location /events { proxy_pass http://up; proxy_buffering off; }
    location /sink { proxy_pass http://up; proxy_request_buffering off; }
}
`

func nginxArgv(dir, conf string) []string {
	return []string{nginxBinary, "-p", dir, "-c", conf, "-e", "stderr"}
}

const haproxyConf = `
global
    nbthread 2
    maxconn 9500
defaults
    mode http
    http-reuse always
    option abortonclose
    timeout connect 10s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    timeout http-request 600s
frontend f
    bind %[1]s
    use_backend events if { path_beg /events }
    default_backend b
backend b
    server s %[2]s
backend events
    option http-no-delay
    server s %[2]s
`

// queueProxy builds Knative's queue-proxy, once for all runs of the benchmark.
func (b *bench) queueProxy(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = b.tmp
	}
	dir := filepath.Join(cache, "inpod-bench", "queue-proxy-"+queueVersion)
	file := filepath.Join(dir, "queue")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "install", queueModule+"@"+queueVersion)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("cannot build %s@%s: %w: %s", queueModule, queueVersion, err, lines[len(lines)-1])
	}
	return file, nil
}

// roleProxy is the standard library's reverse proxy. argv: LISTEN UPSTREAM
func roleProxy(args []string) int {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy, transport.DisableCompression = nil, true
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 1024, 1024
	target := &url.URL{Scheme: "http", Host: args[1]}
	server := &http.Server{
		Addr: args[0],
		Handler: &httputil.ReverseProxy{
			Transport:  transport,
			BufferPool: &buffers{},
			ErrorLog:   log.New(os.Stderr, "", 0),
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.SetXForwarded()
			},
		},
	}
	err := server.ListenAndServe()
	if errors.Is(err, http.ErrServerClosed) {
		return 0
	}
	fmt.Fprintf(os.Stderr, "cannot serve: %v\n", err)
	return 1
}

// buffers is an httputil.BufferPool.
type buffers struct{ pool sync.Pool }

func (p *buffers) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *buffers) Put(b []byte) { p.pool.Put(&b) }
