package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/inpod/inpod/injector"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// serveFlags are those of serve.
type serveFlags struct {
	listen, metricsListen, image, redirectImage, defaults    string
	namespace, service, secret, webhook, certDir, kubeconfig string
	logLevel                                                 string
	lookup, pullSecrets, localRegistries                     bool
	registries                                               []string
	drainDelay                                               time.Duration
}

func newServe() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the admission webhook",
		Long: "serve answers the API server's admission reviews on --listen (HTTPS, /mutate), and /livez, /readyz and /metrics on\n" +
			"--metrics-listen. It makes its certificate itself, replaces it in time and tells the API server which authority to trust,\n" +
			"unless --cert-dir names files of somebody else. Any number of replicas may run.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	s := cmd.Flags()
	s.StringVar(&f.listen, "listen", ":8443", "address of the webhook")
	s.StringVar(&f.metricsListen, "metrics-listen", ":9881", "address of health and metrics")
	s.StringVar(&f.image, "image", defaultImage, "image that holds inpod")
	s.StringVar(&f.redirectImage, "redirect-image", defaultRedirectImage, "image that holds inpod-injector")
	s.StringVar(&f.defaults, "defaults", "", "YAML file with the installation's defaults")
	s.StringVar(&f.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the injector (environment: POD_NAMESPACE)")
	s.StringVar(&f.service, "service", "inpod-injector", "name of the injector's Service")
	s.StringVar(&f.secret, "secret", "inpod-injector-tls", "Secret that the replicas share the certificate in")
	s.StringVar(&f.webhook, "webhook-config", "inpod-injector", "MutatingWebhookConfiguration that gets the authority")
	s.StringVar(&f.certDir, "cert-dir", "", "directory of tls.crt and tls.key of another authority, such as cert-manager")
	s.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig; empty: that of the pod")
	s.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	s.BoolVar(&f.lookup, "lookup", true, "ask registries what images start, where a pod has no command")
	s.BoolVar(&f.pullSecrets, "pull-secrets", true, "read the pull secrets of pods for that")
	s.StringArrayVar(&f.registries, "registry", nil, "pattern of registries that may be asked, such as *.example.com; may be repeated; none: all")
	s.BoolVar(&f.localRegistries, "local-registries", false, "registries may be at addresses of the node or its link")
	s.DurationVar(&f.drainDelay, "drain-delay", 5*time.Second, "how long to go on answering after SIGTERM")
	s.Lookup("namespace").DefValue = ""
	return cmd
}

func (f *serveFlags) run(ctx context.Context, stderr io.Writer) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return fmt.Errorf("cannot use --log-level %q: want debug, info, warn or error", f.logLevel)
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level}))
	if f.namespace == "" && f.certDir == "" {
		return errors.New("cannot keep a certificate: --namespace is not set")
	}
	defaults, err := readDefaults(f.defaults)
	if err != nil {
		return err
	}
	client, err := f.client()
	if err != nil {
		return fmt.Errorf("cannot reach the API server: %w", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := injector.NewMetrics(registry)
	api := injector.NewAPI(client, f.pullSecrets)
	events := injector.NewRecorder(client, log, m)
	certs := &injector.Certificates{
		Client: client, Namespace: f.namespace, Secret: f.secret, Webhook: f.webhook, Dir: f.certDir, Log: log, Metrics: m, Now: time.Now,
		Names: []string{f.service + "." + f.namespace + ".svc", f.service + "." + f.namespace + ".svc.cluster.local"},
	}
	server := &injector.Server{
		Settings: injector.Settings{Image: f.image, RedirectImage: f.redirectImage, Defaults: defaults},
		Cluster:  api, Events: events, Metrics: m, Log: log,
	}
	if f.lookup {
		server.Registry = &injector.Registry{Allow: f.registries, Local: f.localRegistries}
	}
	return f.serve(ctx, log, server, certs, registry, api.Run, events.Run, certs.Run)
}

func (f *serveFlags) client() (kubernetes.Interface, error) {
	cfg, err := rest.InClusterConfig()
	if f.kubeconfig != "" {
		cfg, err = clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	}
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = "inpod-injector/" + version
	cfg.Timeout = 4 * time.Second
	cfg.QPS, cfg.Burst = 500, 1000 // the API server's own limits count: an admission must not wait for a budget of ours
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	return kubernetes.NewForConfig(cfg)
}

// serve runs everything until ctx ends, and then lets the API server notice before it closes.
func (f *serveFlags) serve(ctx context.Context, log *slog.Logger, hook http.Handler, certs *injector.Certificates, metrics prometheus.Gatherer,
	background ...func(context.Context),
) error {
	draining := make(chan struct{})
	hooks := http.NewServeMux()
	hooks.HandleFunc("/mutate", func(w http.ResponseWriter, req *http.Request) {
		select {
		case <-draining:
			// The API server goes on with the connections it has, whatever the Service says. Those that are idle when they
			// are closed could just be taken by a review; those that it is told of are not.
			w.Header().Set("Connection", "close")
		default:
		}
		hook.ServeHTTP(w, req)
	})
	admin := http.NewServeMux()
	admin.Handle("/metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	admin.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	admin.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		err := certs.Ready()
		select {
		case <-draining:
			err = errors.New("draining")
		default:
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	// The API server keeps its connections for 90 s (k8s.io/apimachinery, SetTransportDefaults). Who closes first must be
	// it: a review sent into a connection that is just being closed here fails, and is not sent again.
	const idle = 3 * time.Minute
	logger := slog.NewLogLogger(log.Handler(), slog.LevelDebug) // port scans and probes make noise
	servers := []*http.Server{
		{Handler: hooks, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: idle, ErrorLog: logger},
		{Handler: admin, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second, ErrorLog: logger},
	}
	var listeners []net.Listener
	for _, address := range []string{f.listen, f.metricsListen} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			for _, open := range listeners {
				open.Close()
			}
			return fmt.Errorf("cannot listen: %w", err)
		}
		log.Info("listening", "address", l.Addr().String())
		listeners = append(listeners, l)
	}
	tlsConfig := &tls.Config{GetCertificate: certs.Get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	servers[0].TLSConfig = tlsConfig
	bg, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	for _, run := range background {
		wg.Go(func() { run(bg) })
	}
	failed := make(chan error, len(servers))
	wg.Go(func() { failed <- servers[0].ServeTLS(listeners[0], "", "") })
	wg.Go(func() { failed <- servers[1].Serve(listeners[1]) })
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		close(draining)
		log.Info("draining", "delay", f.drainDelay)
		select {
		case <-time.After(f.drainDelay):
		case err = <-failed:
		}
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, s := range servers {
		if e := s.Shutdown(end); e != nil && err == nil {
			err = e
		}
	}
	stop()
	wg.Wait()
	return err
}
