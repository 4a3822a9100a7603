package supervisor

import (
	"context"
	"errors"
	"os"
	"sort"
	"time"

	"github.com/inpod/inpod/supervisor/output"
)

// ProcessInfo is getProcessInfo.
func (s *Supervisor) ProcessInfo(name string) (ProcessInfo, error) {
	p, err := s.findProcess(name)
	if err != nil {
		return ProcessInfo{}, err
	}
	return p.info(time.Now()), nil
}

// AllProcessInfo is getAllProcessInfo: by group and then by name.
func (s *Supervisor) AllProcessInfo() []ProcessInfo {
	now := time.Now()
	infos := []ProcessInfo{}
	for _, g := range *s.groups.Load() {
		for _, p := range g.procs {
			infos = append(infos, p.info(now))
		}
	}
	sort.SliceStable(infos, func(i, j int) bool {
		a, b := &infos[i], &infos[j]
		if a.Group != b.Group {
			return a.Group < b.Group
		}
		return a.Name < b.Name
	})
	return infos
}

// AllConfigInfo is getAllConfigInfo: every program of the configuration that was read last, by name.
func (s *Supervisor) AllConfigInfo() []ConfigInfo {
	infos := []ConfigInfo{}
	s.mu.Lock()
	cfg := s.config.Load()
	for i := range cfg.Groups {
		g := &cfg.Groups[i]
		programs, ok := s.named[g]
		if !ok {
			programs = g.Programs
		}
		for j := range programs {
			infos = append(infos, ConfigInfo{Program: &programs[j], GroupPriority: g.Priority, InUse: s.group(g.Name) != nil})
		}
	}
	s.mu.Unlock()
	sort.SliceStable(infos, func(i, j int) bool { return infos[i].Program.Name < infos[j].Program.Name })
	return infos
}

func (p *process) logfile(channel string) string {
	if channel == "stderr" {
		return p.cfg.Stderr.File
	}
	return p.cfg.Stdout.File
}

// LogPath returns the file of a stream ("stdout", "stderr"). It is NO_FILE when there is none that can be read.
func (s *Supervisor) LogPath(name, stream string) (string, error) {
	p, err := s.findProcess(name)
	if err != nil {
		return "", err
	}
	path := p.logfile(stream)
	// Reading /dev/stdout would wait for what is never written there.
	if st, err := os.Stat(path); path == "" || err != nil || !st.Mode().IsRegular() {
		return "", &Fault{NoFile, path}
	}
	return path, nil
}

// ReadLog is readProcessStdoutLog and readProcessStderrLog.
func (s *Supervisor) ReadLog(name, stream string, offset, length int64) (string, error) {
	path, err := s.LogPath(name, stream)
	if err != nil {
		return "", err
	}
	data, err := output.ReadFile(path, offset, length)
	switch {
	case errors.Is(err, output.ErrBadArguments):
		return "", &Fault{Code: BadArguments}
	case err != nil:
		return "", &Fault{Code: Failed}
	}
	return string(data), nil
}

// TailLog is tailProcessStdoutLog and tailProcessStderrLog: the text, the offset to go on from, and whether some was
// left out.
func (s *Supervisor) TailLog(name, stream string, offset, length int64) (string, int64, bool, error) {
	path, err := s.LogPath(name, stream)
	var fault *Fault
	if errors.As(err, &fault) && fault.Code == NoFile {
		return "", 0, false, nil
	}
	if err != nil {
		return "", 0, false, err
	}
	data, next, overflow := output.TailFile(path, offset, length)
	return string(data), next, overflow, nil
}

// ClearLogs empties the log files of a process. As in Supervisor, those of a process that does not run stay.
func (s *Supervisor) ClearLogs(name string) error {
	p, err := s.findProcess(name)
	if err != nil {
		return err
	}
	return p.clearLogs(name)
}

func (p *process) clearLogs(name string) error {
	var failed error
	err := p.ask(context.Background(), func() {
		if p.run == nil || p.run.exited {
			return
		}
		for _, st := range p.run.streams {
			failed = errors.Join(failed, st.Clear())
		}
	})
	switch {
	case err != nil:
		return gone(err, name)
	case failed != nil:
		p.log.Error("cannot clear logs", "error", failed)
		return &Fault{Failed, name}
	}
	return nil
}

// ClearAllLogs is ClearLogs for all processes.
func (s *Supervisor) ClearAllLogs() ([]ProcessStatus, error) {
	procs, err := s.all()
	if err != nil {
		return nil, err
	}
	every := func(*snapshot) bool { return true }
	return each(context.Background(), procs, every, func(p *process, name string) (deferred, error) {
		return nil, p.clearLogs(name)
	})
}

// ReopenLogs opens all log files again, after something else has renamed them.
func (s *Supervisor) ReopenLogs() {
	if err := s.opt.Hub.Reopen(); err != nil {
		s.log.Error("cannot reopen log files", "error", err)
	}
}

// SendStdin is sendProcessStdin.
func (s *Supervisor) SendStdin(name, chars string) error {
	p, err := s.findProcess(name)
	if err != nil {
		return err
	}
	var fault *Fault
	err = p.ask(context.Background(), func() {
		switch {
		case p.m.pid == 0 || p.m.killing:
			fault = &Fault{NotRunning, name}
		case p.run.in == nil || p.run.in.write([]byte(chars)) != nil:
			fault = &Fault{NoFile, name}
		}
	})
	if err != nil {
		return gone(err, name)
	}
	if fault != nil {
		return fault
	}
	return nil
}

// SendCommEvent is sendRemoteCommEvent.
func (s *Supervisor) SendCommEvent(typ, data string) error {
	s.bus.notify(evRemote, func() string { return "type:" + typ + "\n" + data })
	return nil
}

// CheckState is what Ready says of one program.
type CheckState struct {
	Program string // group:name
	Ready   bool
	Detail  string // why not
}

// Ready tells whether every program that is started by itself and has a readiness check (or is a oneshot) is ready.
func (s *Supervisor) Ready() (bool, []CheckState) {
	all := true
	var states []CheckState
	for _, g := range *s.groups.Load() {
		for _, p := range g.procs {
			if p.cfg.Readiness == nil && !p.cfg.Oneshot {
				continue
			}
			snap := p.snap.Load()
			if !p.cfg.Autostart && !snap.isRunning() {
				continue // nobody asked for it
			}
			c := CheckState{Program: namespec(p.cfg.Group, p.cfg.Name), Ready: snap.ready}
			if !c.Ready {
				all = false
				c.Detail = snap.state.String()
				if d := snap.description(p.cfg.Name, time.Now()); d != "" {
					c.Detail += ": " + d
				}
				if snap.probe != "" {
					c.Detail += ": " + snap.probe
				}
			}
			states = append(states, c)
		}
	}
	return all, states
}

// Begun tells whether every program that is started by itself has been: they were asked to, and none waits for another
// one. Those that were stopped or removed meanwhile are not waited for.
func (s *Supervisor) Begun() bool {
	if !s.begun.Load() {
		return false
	}
	for _, g := range *s.groups.Load() {
		for _, p := range g.procs {
			if p.snap.Load().waiting != "" {
				return false
			}
		}
	}
	return true
}

// ProgramStats is what metrics tell of one process.
type ProgramStats struct {
	Name, Group      string
	State            State
	PID              int
	Starts, Restarts int       // since the agent started; Restarts are those that nobody asked for
	LivenessRestarts int       // those that a liveness check caused
	Started          time.Time // zero = never
	Ready            bool
	ExitStatus       int
}

// Stats returns the figures of every process.
func (s *Supervisor) Stats() []ProgramStats {
	stats := []ProgramStats{}
	for _, g := range *s.groups.Load() {
		for _, p := range g.procs {
			snap := p.snap.Load()
			stats = append(stats, ProgramStats{
				Name: p.cfg.Name, Group: p.cfg.Group, State: snap.state, PID: snap.pid, Starts: snap.starts,
				Restarts: snap.restarts, LivenessRestarts: snap.unlive, Started: snap.started, Ready: snap.ready, ExitStatus: snap.exitstatus,
			})
		}
	}
	return stats
}
