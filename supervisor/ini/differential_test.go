package ini

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// corpusEnv is the whole environment in which both parsers read the corpus.
func corpusEnv() map[string]string {
	return map[string]string{
		"PATH": "/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
		"CORPUS_WORD": "include", "CORPUS_EMPTY": "", "CORPUS_NUMBER": "2", "CORPUS_FALSE": "false",
	}
}

// deviations are the corpus files that inpod reads otherwise than Supervisor, on purpose. The
// first comment of each file says "deviation:" and the same reason.
var deviations = map[string]string{
	"bom.ini":                       "accepted: editors on Windows write the mark",
	"group-listed-twice.ini":        "listed once: the second listing never ran",
	"group-same-name.ini":           "one group listed: Supervisor runs one of them only",
	"integer-large.ini":             "refused: the number cannot go over XML-RPC",
	"log-list.ini":                  "the Go port's dialect",
	"log-remote-syslog.ini":         "the Go port's dialect",
	"name-empty.ini":                "refused: no client can name it",
	"no-supervisord.ini":            "accepted: the Go port's dialect, and files with programs only",
	"numprocs-negative.ini":         "refused: it makes no process in silence",
	"percent-dict.ini":              "refused: Python's result is of no use",
	"process-same-name.ini":         "one process listed: Supervisor runs one of them only",
	"program-default.ini":           "the Go port's dialect",
	"rpcinterface-other.ini":        "left out with a warning: there is no Python to load",
	"signal-zero.ini":               "refused: signal 0 stops nothing",
	"stop-signals.ini":              "the Go port's dialect",
	"supervisord-warning-level.ini": "the Go port's dialect",
	"user-group.ini":                "the Go port's dialect",
	"user-number.ini":               "accepted: containers have no entry for their user",
	"zero-byte.ini":                 "refused: a zero byte cannot be in an argument",
}

// snapshot is what both parsers are compared by.
type snapshot struct {
	Refused     bool
	Supervisord map[string]any
	ServerURL   string
	Servers     []map[string]any
	Groups      []map[string]any
	NoMatch     int
}

func TestCorpusAgainstSupervisor(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/*.ini")
	if err != nil || len(files) < 60 {
		t.Fatalf("got %d corpus files (%v), want at least 60", len(files), err)
	}
	theirs := askSupervisor(t, files)
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			ours := takeSnapshot(t)(Load(Options{Main: file, Env: corpusEnv()}))
			diff := cmp.Diff(theirs[file], ours)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			reason, deviates := deviations[name]
			if said := strings.Contains(string(text), "; deviation:"); said != deviates {
				t.Errorf("the file says deviation: %v, the list of deviations has it: %v", said, deviates)
			}
			switch {
			case deviates && diff == "":
				t.Errorf("no difference, want one: %s", reason)
			case !deviates && diff != "":
				t.Errorf("differs from Supervisor (-Supervisor +inpod):\n%s", diff)
			}
		})
	}
	for name := range deviations {
		if !slices.Contains(files, "testdata/corpus/"+name) {
			t.Errorf("the list of deviations has %s, the corpus has not", name)
		}
	}
}

// askSupervisor loads files with Debian's Supervisor.
func askSupervisor(t *testing.T, files []string) map[string]snapshot {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", append([]string{"testdata/dump.py"}, files...)...)
	for k, v := range corpusEnv() {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot run Supervisor's parser: %v\n%s", err, stderr.Bytes())
	}
	got := map[string]snapshot{}
	dec := json.NewDecoder(bytes.NewReader(out))
	for dec.More() {
		var raw struct {
			Path, Error, ServerURL string
			NoMatch                int `json:"no_match"`
			Supervisord            map[string]any
			Servers                []map[string]any
			Groups                 []map[string]any
		}
		if err := dec.Decode(&raw); err != nil {
			t.Fatal(err)
		}
		if raw.Error != "" {
			got[raw.Path] = snapshot{Refused: true}
			continue
		}
		for _, s := range raw.Servers {
			delete(s, "name")
			delete(s, "section")
		}
		got[raw.Path] = normal(t, snapshot{Supervisord: raw.Supervisord, ServerURL: raw.ServerURL, Servers: raw.Servers, Groups: raw.Groups, NoMatch: raw.NoMatch})
	}
	return got
}

func takeSnapshot(t *testing.T) func(*Config, error) snapshot {
	t.Helper()
	return func(c *Config, err error) snapshot {
		if err != nil {
			return snapshot{Refused: true}
		}
		return normal(t, configSnapshot(c))
	}
}

func configSnapshot(c *Config) snapshot {
	s := c.Supervisord
	levels := map[string]int{"critical": 50, "error": 40, "warn": 30, "info": 20, "debug": 10, "trace": 5, "blather": 3}
	umask := s.Umask
	if umask < 0 {
		umask = 0o22
	}
	snap := snapshot{
		Supervisord: map[string]any{
			"minfds": s.Minfds, "minprocs": s.Minprocs, "directory": orNull(s.Directory), "user": orNull(s.User), "umask": umask,
			"logfile_maxbytes": s.LogfileMaxbytes, "logfile_backups": s.LogfileBackups, "loglevel": levels[s.Loglevel],
			"identifier": s.Identifier, "nodaemon": s.Nodaemon, "silent": s.Silent, "nocleanup": s.Nocleanup,
			"strip_ansi": s.StripANSI, "environment": merged(s.Environment),
		},
		ServerURL: c.ServerURL(),
	}
	for _, srv := range c.InetServers {
		snap.Servers = append(snap.Servers, map[string]any{
			"family": 2, "host": srv.Host, "port": srv.Port, "chown": nil,
			"username": orNull(srv.Username), "password": orNull(srv.Password),
		})
	}
	for _, srv := range c.UnixServers {
		snap.Servers = append(snap.Servers, map[string]any{
			"family": 1, "file": srv.File, "chmod": srv.Chmod, "chown": []int{srv.UID, srv.GID},
			"username": orNull(srv.Username), "password": orNull(srv.Password),
		})
	}
	for _, w := range c.Warnings {
		if strings.Contains(w.Msg, "no file matches") {
			snap.NoMatch++
		}
	}
	for _, g := range c.Groups {
		snap.Groups = append(snap.Groups, groupMap(g))
	}
	return snap
}

func groupMap(g Group) map[string]any {
	m := map[string]any{"name": g.Name, "priority": g.Priority, "kind": "group"}
	switch g.Kind {
	case KindListener:
		m["kind"], m["buffer_size"], m["events"] = "listener", g.BufferSize, slices.Sorted(slices.Values(g.Events))
	case KindFastCGI:
		m["kind"], m["socket"], m["owner"] = "fcgi", g.Socket, []int{g.SocketUID, g.SocketGID}
		m["backlog"], m["mode"] = nil, nil
		if g.SocketBacklog != 0 {
			m["backlog"] = g.SocketBacklog
		}
		if g.SocketMode != 0 {
			m["mode"] = g.SocketMode
		}
	}
	procs := []any{}
	for _, p := range g.Programs {
		procs = append(procs, programMap(p))
	}
	m["processes"] = procs
	return m
}

func programMap(p Program) map[string]any {
	m := map[string]any{
		"name": p.Name, "uid": nil, "command": p.Command, "directory": orNull(p.Directory), "umask": nil, "priority": p.Priority,
		"autostart": p.Autostart, "autorestart": []any{"unexpected", false, "always"}[p.Autorestart], "startsecs": p.Startsecs,
		"startretries": p.Startretries, "stopsignal": int(p.StopSignals[0]), "stopwaitsecs": p.Stopwaitsecs,
		"stopasgroup": p.Stopasgroup, "killasgroup": p.Killasgroup, "exitcodes": p.ExitCodes, "redirect_stderr": p.RedirectStderr,
		"environment": p.Environment, "serverurl": orNull(p.ServerURL),
	}
	if p.UID >= 0 {
		m["uid"] = p.UID
	}
	if p.Umask >= 0 {
		m["umask"] = p.Umask
	}
	if len(p.StopSignals) > 1 {
		m["stopsignal"] = p.StopSignals
	}
	if p.GID >= 0 && strings.Contains(p.User, ":") {
		m["gid"] = p.GID
	}
	for name, log := range map[string]Log{"stdout": p.Stdout, "stderr": p.Stderr} {
		m[name+"_logfile"] = orNull(log.File)
		m[name+"_logfile_maxbytes"], m[name+"_logfile_backups"] = log.Maxbytes, log.Backups
		m[name+"_capture_maxbytes"], m[name+"_events_enabled"] = log.CaptureMaxbytes, log.EventsEnabled
		m[name+"_syslog"] = log.Syslog
		if len(log.Also) > 0 {
			m[name+"_also"] = log.Also
		}
	}
	return m
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// normal takes a snapshot through JSON, so that numbers compare, and lets "" and null be the same, as they act the same.
func normal(t *testing.T, s snapshot) snapshot {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var out snapshot
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	out.Servers, out.Groups = slices.Concat([]map[string]any{}, out.Servers), slices.Concat([]map[string]any{}, out.Groups)
	for _, g := range out.Groups {
		for _, p := range g["processes"].([]any) {
			for k, v := range p.(map[string]any) {
				if v == "" && k != "command" {
					p.(map[string]any)[k] = nil
				}
			}
		}
	}
	return out
}
