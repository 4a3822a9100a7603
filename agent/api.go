package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/inpod/inpod/supervisor"
)

// Load is the body of /load.
type Load struct {
	InFlight int    `json:"in_flight"`
	Queued   int    `json:"queued"`
	Draining bool   `json:"draining"`
	Phase    string `json:"phase"`
}

// PhaseInfo is the body of /api/v1/phase, and of /api/v1/drain.
type PhaseInfo struct {
	Phase      string  `json:"phase"`
	Since      string  `json:"since"` // RFC 3339
	PID        int     `json:"pid"`
	Version    string  `json:"version"`
	Uptime     float64 `json:"uptime_seconds"`
	InFlight   int     `json:"in_flight"`
	Reload     string  `json:"last_reload,omitempty"`       // when, RFC 3339
	ReloadFail string  `json:"last_reload_error,omitempty"` // "" when it was good
}

// ProgramInfo is one element of /api/v1/programs.
type ProgramInfo struct {
	Name        string `json:"name"`
	Group       string `json:"group"`
	State       string `json:"state"`
	Description string `json:"description"`
	PID         int    `json:"pid,omitempty"`
	Ready       bool   `json:"ready"`
	Started     string `json:"started,omitempty"` // RFC 3339
	Restarts    int    `json:"restarts"`
	ExitStatus  int    `json:"exit_status"`
}

func (a *agent) handleLoad(w http.ResponseWriter, _ *http.Request) {
	p := a.phase.get()
	load := Load{InFlight: a.proxy.InFlight(), Draining: p >= PhaseDraining, Phase: p.String()}
	for _, r := range a.proxy.Routes() {
		load.Queued += r.Queued
	}
	writeJSON(w, http.StatusOK, load)
}

// handleRoutes lists the routes (proxy.RouteState), in the order of the settings.
func (a *agent) handleRoutes(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.proxy.Routes())
}

func (a *agent) phaseInfo() PhaseInfo {
	at, err := a.reload.last()
	info := PhaseInfo{
		Phase: a.phase.get().String(), Since: stamp(a.phase.sinceTime()), PID: os.Getpid(), Version: a.opts.Version,
		Uptime: a.uptime().Seconds(), InFlight: a.proxy.InFlight(), Reload: stamp(at),
	}
	if err != nil {
		info.ReloadFail = err.Error()
	}
	return info
}

func (a *agent) handlePhase(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.phaseInfo())
}

func (a *agent) handleConfig(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.settings.Load().Tree())
}

func stamp(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func (a *agent) programs() []ProgramInfo {
	sup := a.current.Load().sup
	described := map[string]string{}
	for _, p := range sup.AllProcessInfo() {
		described[p.Group+":"+p.Name] = p.Description
	}
	list := []ProgramInfo{}
	for _, s := range sup.Stats() {
		list = append(list, ProgramInfo{
			Name: s.Name, Group: s.Group, State: s.State.String(), Description: described[s.Group+":"+s.Name], PID: s.PID,
			Ready: s.Ready, Started: stamp(s.Started), Restarts: s.Restarts, ExitStatus: s.ExitStatus,
		})
	}
	return list
}

func (a *agent) handlePrograms(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.programs())
}

func (a *agent) handleProgram(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	for _, p := range a.programs() {
		if name == p.Group+":"+p.Name || name == p.Name && p.Group == p.Name {
			writeJSON(w, http.StatusOK, p)
			return
		}
	}
	writeError(w, http.StatusNotFound, fmt.Sprintf("no such program: %s", name))
}

// handleProgramAction is POST /api/v1/programs/{name}/{start|stop|restart|signal}. name is as in supervisorctl:
// program, group:program or group:*. ?wait=false returns before the program has started or stopped.
func (a *agent) handleProgramAction(w http.ResponseWriter, r *http.Request) {
	name, action := r.PathValue("name"), r.PathValue("action")
	wait, err := queryBool(r, "wait", true)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	sup := a.current.Load().sup
	switch action {
	case "start":
		err = sup.StartProcess(r.Context(), name, wait)
	case "stop":
		err = sup.StopProcess(r.Context(), name, wait)
	case "restart":
		err = restart(r.Context(), sup, name, wait)
	case "signal":
		sig := r.URL.Query().Get("signal")
		if sig == "" {
			writeError(w, http.StatusBadRequest, "no signal is named: want ?signal=HUP")
			return
		}
		err = sup.SignalProcess(name, sig)
	default:
		writeError(w, http.StatusNotFound, fmt.Sprintf("no such action: %s; want start, stop, restart or signal", action))
		return
	}
	if err != nil {
		writeError(w, faultStatus(err), err.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"result": "ok"})
}

// restart stops a program, if it runs, and starts it.
func restart(ctx context.Context, sup *supervisor.Supervisor, name string, wait bool) error {
	var fault *supervisor.Fault
	if err := sup.StopProcess(ctx, name, true); err != nil && !(errors.As(err, &fault) && fault.Code == supervisor.NotRunning) {
		return err
	}
	return sup.StartProcess(ctx, name, wait)
}

// faultStatus maps Supervisor's faults to HTTP.
func faultStatus(err error) int {
	var fault *supervisor.Fault
	if !errors.As(err, &fault) {
		return http.StatusInternalServerError
	}
	switch fault.Code {
	case supervisor.BadName:
		return http.StatusNotFound
	case supervisor.BadSignal, supervisor.BadArguments, supervisor.IncorrectParameters:
		return http.StatusBadRequest
	case supervisor.AlreadyStarted, supervisor.NotRunning, supervisor.StillRunning:
		return http.StatusConflict
	case supervisor.ShutdownState:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// handleDrain begins the drain, as SIGTERM does. With ?wait=true it answers when no request is in flight any more (or
// drain.deadline is over), and the programs are not stopped before the client has read that: a preStop hook in the
// same container must be able to end before the container does.
func (a *agent) handleDrain(w http.ResponseWriter, r *http.Request) {
	wait, err := queryBool(r, "wait", false)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	c := command{kind: cmdDrain, ack: make(chan struct{})}
	if wait {
		c.hook = make(chan struct{})
		defer close(c.hook)
	}
	select {
	case a.commands <- c:
		<-c.ack
	case <-a.drained: // it is past the drain
	case <-r.Context().Done():
		return
	}
	if !wait {
		writeJSON(w, http.StatusAccepted, a.phaseInfo())
		return
	}
	select {
	case <-a.drained:
	case <-r.Context().Done():
		return
	}
	writeJSON(w, http.StatusOK, a.phaseInfo())
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	select {
	case <-r.Context().Done(): // it has hung up, so it has read the answer
	case <-time.After(hookGrace):
	}
}

// queryBool reads a query parameter that is true or false.
func queryBool(r *http.Request, name string, otherwise bool) (bool, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return otherwise, nil
	}
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%s=%s: want true or false", name, s)
	}
	return v, nil
}

// handleReload reads the configuration again, as SIGHUP does, and tells what came of it.
func (a *agent) handleReload(w http.ResponseWriter, _ *http.Request) {
	if err := a.reload.now("inpod reload"); err != nil {
		writeError(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, a.phaseInfo())
}
