package xmlrpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/inpod/inpod/supervisor"
)

type handler struct {
	o       Options
	log     *slog.Logger
	methods map[string]*method
}

// NewHandler serves /RPC2, /logtail/NAME[/stdout|/stderr] and /mainlogtail. Every call runs by itself: one that waits
// holds up no other. Requests that a browser sends for another site are refused.
func NewHandler(o Options) http.Handler {
	if o.Identification == "" {
		o.Identification = "supervisor"
	}
	if o.PID == nil {
		o.PID = os.Getpid
	}
	h := &handler{o: o, log: o.Logger, methods: methods()}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	var next http.Handler = http.HandlerFunc(h.route)
	next = http.NewCrossOriginProtection().Handler(next)
	if o.Username != "" || o.Password != "" {
		next = basicAuth(o.Username, o.Password, next)
	}
	return next
}

// route takes prefixes, as Supervisor does.
func (h *handler) route(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/RPC2"):
		h.serveRPC(w, r)
	case strings.HasPrefix(path, "/mainlogtail"):
		h.serveMainLog(w, r)
	case strings.HasPrefix(path, "/logtail"):
		h.serveLog(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (h *handler) state() (int, string) {
	if h.o.State == nil {
		return StateRunning, "RUNNING"
	}
	return h.o.State()
}

func (h *handler) serveRPC(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "XML-RPC calls are POST requests", http.StatusBadRequest)
		return
	}
	if r.ContentLength < 0 {
		http.Error(w, "a call needs a Content-Length", http.StatusLengthRequired)
		return
	}
	// The body has a time limit and the waiting afterwards has none.
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = rc.SetReadDeadline(time.Time{})
	if err != nil {
		status := http.StatusBadRequest
		if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	name, params, err := ParseCall(body)
	if err == nil && name == "" {
		err = errors.New("cannot parse a request: no methodName")
	}
	if err != nil {
		h.log.Warn("an XML-RPC request was refused", "err", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := h.answer(r.Context(), name, params)
	if err != nil {
		h.log.Error("an XML-RPC answer could not be encoded", "method", name, "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if r.Context().Err() != nil {
		return // the client left during a wait
	}
	_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer)
}

func (h *handler) answer(ctx context.Context, name string, params []any) ([]byte, error) {
	value, err := h.call(ctx, name, params)
	if err != nil {
		return MarshalFault(h.fault(err)), nil
	}
	return Marshal(value)
}

// call runs one method.
func (h *handler) call(ctx context.Context, name string, params []any) (any, error) {
	m := h.methods[name]
	if m == nil {
		return nil, &supervisor.Fault{Code: supervisor.UnknownMethod}
	}
	least := len(m.params)
	for least > 0 && m.params[least-1].optional {
		least--
	}
	if len(params) < least || len(params) > len(m.params) {
		return nil, incorrect()
	}
	if code, _ := h.state(); !m.always && code < StateRunning {
		return nil, &supervisor.Fault{Code: supervisor.ShutdownState}
	}
	return m.call(ctx, h, params)
}

// fault turns what went wrong into what the client sees.
func (h *handler) fault(err error) *supervisor.Fault {
	var f *supervisor.Fault
	if errors.As(err, &f) {
		return f
	}
	if !errors.Is(err, context.Canceled) {
		h.log.Error("an XML-RPC call failed", "err", err)
	}
	return &supervisor.Fault{Code: supervisor.Failed, Detail: err.Error()}
}
