package agent

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

// endpoint is one path of the admin server.
type endpoint struct {
	methods []string
	handle  http.HandlerFunc
	changes bool // needs the control socket or the token
}

// adminHandler serves health, metrics and the API. On the control socket (trusted) nothing needs a token, and
// supervisorctl is answered as well.
func (a *agent) adminHandler(trusted bool) http.Handler {
	mux := http.NewServeMux()
	get := func(h http.HandlerFunc) endpoint { return endpoint{methods: []string{"GET", "HEAD"}, handle: h} }
	post := func(h http.HandlerFunc) endpoint {
		return endpoint{methods: []string{"POST"}, handle: h, changes: true}
	}
	for path, e := range map[string]endpoint{
		"/livez":                           get(healthHandler("livez", a.liveChecks)),
		"/readyz":                          get(healthHandler("readyz", a.readyChecks)),
		"/startupz":                        get(healthHandler("startupz", a.startupChecks)),
		"/health":                          get(a.handleHealth),
		"/load":                            get(a.handleLoad),
		"/metrics":                         get(a.metrics.ServeHTTP),
		"/api/v1/phase":                    get(a.handlePhase),
		"/api/v1/config":                   get(a.handleConfig),
		"/api/v1/routes":                   get(a.handleRoutes),
		"/api/v1/start":                    get(a.handleStart),
		"/api/v1/sessions":                 get(a.handleSessions),
		"/api/v1/sessions/{id}/kill":       post(a.handleKillSession),
		"/api/v1/programs":                 get(a.handlePrograms),
		"/api/v1/programs/{name}":          get(a.handleProgram),
		"/api/v1/programs/{name}/{action}": post(a.handleProgramAction),
		"/api/v1/drain":                    post(a.handleDrain),
		"/api/v1/reload":                   post(a.handleReload),
	} {
		mux.HandleFunc(path, a.guard(e, trusted))
	}
	if trusted {
		rpc := func(w http.ResponseWriter, r *http.Request) { a.current.Load().rpc.ServeHTTP(w, r) }
		for _, path := range []string{"/RPC2", "/RPC2/", "/logtail/", "/mainlogtail", "/mainlogtail/"} {
			mux.HandleFunc(path, rpc)
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, fmt.Sprintf("no such path: %s", r.URL.Path))
	})
	return a.recovering(mux)
}

// guard checks the method and, where something changes, the right to.
func (a *agent) guard(e endpoint, trusted bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(e.methods, r.Method) {
			w.Header().Set("Allow", strings.Join(e.methods, ", "))
			writeError(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s is not allowed here; use %s", r.Method, strings.Join(e.methods, " or ")))
			return
		}
		if e.changes && !trusted {
			if status, why := a.mayChange(r); status != 0 {
				if status == http.StatusUnauthorized {
					w.Header().Set("WWW-Authenticate", `Bearer realm="inpod"`)
				}
				writeError(w, status, why)
				return
			}
		}
		e.handle(w, r)
	}
}

// mayChange compares the bearer token (RFC 6750) with admin.token_file. The file is read each time, so that it can be
// rotated. Without a file nobody may.
func (a *agent) mayChange(r *http.Request) (status int, why string) {
	file := a.settings.Load().Admin.TokenFile
	if file == "" {
		return http.StatusForbidden, "admin.token_file is not set; use the control socket (inpod ctl)"
	}
	want, err := os.ReadFile(file)
	if err == nil && len(bytes.TrimSpace(want)) == 0 {
		err = fmt.Errorf("%s is empty", file)
	}
	if err != nil {
		a.log.Error("cannot read admin.token_file", "error", err)
		return http.StatusForbidden, "the token in admin.token_file cannot be read"
	}
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	wantSum, gotSum := sha256.Sum256(bytes.TrimSpace(want)), sha256.Sum256([]byte(strings.TrimSpace(got)))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(wantSum[:], gotSum[:]) != 1 {
		return http.StatusUnauthorized, "this needs the bearer token of admin.token_file"
	}
	return 0, ""
}

// recovering keeps a panic in one request from taking the agent down.
func (a *agent) recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			e := recover()
			if e == nil {
				return
			}
			if e == http.ErrAbortHandler {
				panic(e)
			}
			a.log.Error("BUG: panic in a request", "path", r.URL.Path, "error", fmt.Sprint(e), "stack", string(debug.Stack()))
			writeError(w, http.StatusInternalServerError, "inpod failed on this request")
		}()
		next.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client is gone
}

func writeError(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, map[string]string{"error": text})
}
