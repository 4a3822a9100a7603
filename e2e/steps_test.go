package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/inpod/inpod/e2e/lab"
)

// do runs one step and notes what came of it.
func (s *side) do(st step) {
	if s.d.Exited() && st.verb != "exit" && st.verb != "ctl-gone" {
		s.note("%s: the daemon has gone", st)
		return
	}
	verbs := map[string]func(step){
		"await": s.stepAwait, "settle": func(step) { s.settle(patience) },
		"wrote": s.stepWrote, "rpc": s.stepRPC, "ctl": s.stepCtl, "ctl-any": s.stepCtlAny, "info": s.stepInfo,
		"edit": s.stepEdit, "append": s.stepAppend, "rm": func(st step) { _ = os.Remove(s.path(st.rest)) },
		"touch": s.stepTouch, "until": s.stepUntil, "kill": s.stepKill, "signal": s.stepSignal,
		"exit": s.stepExit, "http": s.stepHTTP, "events": s.stepEvents, "gone": s.stepGone, "raw": s.stepRaw,
		"unixauth": func(step) {}, "order": s.stepOrder,
		"tailf": s.stepTailF, "fg": s.stepFg, "ctl-gone": s.stepCtlGone,
		"maintail": s.stepMainTail, "maintailf": s.stepMainTailF,
	}
	f, ok := verbs[st.verb]
	if !ok {
		s.t.Fatalf("%s.ini:%d: unknown step %q", s.sc.name, st.line, st.verb)
	}
	f(st)
}

// await GROUP:NAME STATE: of another process than the one that a step killed
func (s *side) stepAwait(st step) {
	key, want, _ := strings.Cut(st.rest, " ")
	var last string
	if !lab.Until(patience, func() bool {
		now, err := s.processes()
		p := now[key]
		last = fmt.Sprint(p["statename"])
		return err == nil && last == want && (s.killed[key] == nil || p["pid"] != s.killed[key])
	}) {
		s.note("%s: it is %s", st, last)
	}
}

// rpc METHOD [JSON ARRAY]
func (s *side) stepRPC(st step) {
	method, args, err := st.args()
	if err != nil {
		s.t.Fatal(err)
	}
	for i, a := range args {
		if text, ok := a.(string); ok {
			args[i] = strings.ReplaceAll(text, "$DIR", s.dir)
		}
	}
	switch method {
	case "supervisor.shutdown":
		s.down = true
		s.endWatch()
	case "supervisor.stopAllProcesses", "supervisor.restart":
		s.endWatch()
	}
	answer := s.call(method, args...)
	if method == "system.methodHelp" && !strings.HasPrefix(answer, "fault") {
		answer = signatureIn(answer)
	}
	s.note("%s → %s", st, answer)
}

// signatureIn keeps of a method's help what both sides must say: parameters and result, not the sentences.
func signatureIn(help string) string {
	var out []string
	text, err := strconv.Unquote(help)
	if err != nil {
		return help
	}
	for _, line := range strings.Split(text, "\n") {
		switch f := strings.Fields(line); {
		case len(f) >= 3 && f[0] == "@param":
			out = append(out, strings.Join(f[:3], " "))
		case len(f) >= 2 && f[0] == "@return":
			out = append(out, strings.Join(f[:2], " "))
		}
	}
	return strings.Join(out, ", ")
}

// raw BODY: posts a body that is no good XML-RPC
func (s *side) stepRaw(st step) {
	_, err := s.c.CallRaw(context.Background(), []byte(st.rest))
	s.note("%s → %v", st, err)
}

// ctl ARGS
func (s *side) stepCtl(st step) {
	f := strings.Fields(st.rest)
	if all := f[len(f)-1] == "all"; all && (f[0] == "stop" || f[0] == "restart") || f[0] == "reload" {
		s.endWatch()
	} else if f[0] == "shutdown" {
		s.down = true
		s.endWatch()
	}
	out, code := s.ctl(f...)
	var kept []string
	for _, line := range strings.Split(out, "\n") {
		if !strings.HasPrefix(line, "zzwatch") {
			kept = append(kept, line)
		}
	}
	if f[0] == "stop" || f[0] == "start" || f[0] == "restart" {
		sort.Strings(kept) // the order is that in which programs happened to end
	}
	s.note("%s → %d\n%s", st, code, s.norm.text(strings.Join(kept, "\n")))
}

// ctl-any ARGS: only the exit code, and that something is printed
func (s *side) stepCtlAny(st step) {
	out, code := s.ctl(strings.Fields(st.rest)...)
	s.note("%s → %d, prints something: %v", st, code, strings.TrimSpace(out) != "")
}

// info GROUP:NAME KEYS: some fields of getProcessInfo
func (s *side) stepInfo(st step) {
	f := strings.Fields(st.rest)
	v, err := s.c.Call(context.Background(), "supervisor.getProcessInfo", f[0])
	m, ok := v.(map[string]any)
	if !ok {
		s.note("%s → %v", st, err)
		return
	}
	var parts []string
	for _, k := range f[1:] {
		parts = append(parts, k+"="+s.norm.field(k, m[k]))
	}
	s.note("%s → %s", st, strings.Join(parts, " "))
}

// edit FILE OLD ==> NEW, with \n in both
func (s *side) stepEdit(st step) {
	file, change, _ := strings.Cut(st.rest, " ")
	old, with, ok := strings.Cut(change, " ==> ")
	data, err := os.ReadFile(s.path(file))
	old, with = unescape(old), unescape(with)
	// The text of this very step holds OLD as well: only lines that are no step are changed.
	lines, changed := strings.SplitAfter(string(data), "\n"), false
	for i, line := range lines {
		if !strings.HasPrefix(line, ";#") && strings.Contains(line, old) {
			lines[i], changed = strings.ReplaceAll(line, old, with), true
		}
	}
	if err != nil || !ok || !changed {
		s.t.Fatalf("%s.ini:%d: cannot edit: %v", s.sc.name, st.line, err)
	}
	s.replace(file, strings.Join(lines, ""))
}

// append FILE TEXT
func (s *side) stepAppend(st step) {
	file, text, _ := strings.Cut(st.rest, " ")
	data, _ := os.ReadFile(s.path(file))
	s.replace(file, string(data)+unescape(text)+"\n")
}

// replace swaps a file in one step, as an editor does.
func (s *side) replace(file, text string) {
	tmp := s.path(file + ".new~")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(tmp, s.path(file)); err != nil {
		s.t.Fatal(err)
	}
}

func unescape(s string) string { return strings.ReplaceAll(s, `\n`, "\n") }

func (s *side) stepTouch(st step) {
	if err := os.WriteFile(s.path(st.rest), nil, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// until FILE TEXT: FILE may be a pattern of which one file holds it; without TEXT the file is there
func (s *side) stepUntil(st step) {
	file, text, _ := strings.Cut(st.rest, " ")
	var found string
	if !lab.Until(patience, func() bool {
		found = s.holds(file, text)
		return found == ""
	}) {
		s.note("%s: never there; it holds %q", st, s.norm.text(tailOf(found, 500)))
	}
}

// holds is "" when one of the files holds the text, and otherwise what they hold.
func (s *side) holds(pattern, text string) string {
	files, err := filepath.Glob(s.path(pattern))
	if err != nil {
		s.t.Fatal(err)
	}
	all := "no file"
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(data), unescape(text)) {
			return ""
		}
		all += "\n" + string(data)
	}
	return all
}

// wrote GROUP:NAME FILE TEXT: what the program is to write is there, or it does not run, as a program whose user cannot be had
func (s *side) stepWrote(st step) {
	f := strings.SplitN(st.rest, " ", 3)
	if !lab.Until(patience, func() bool {
		now, err := s.states()
		return err == nil && (now[f[0]] == "FATAL" || now[f[0]] == "EXITED") || s.holds(f[1], f[2]) == ""
	}) {
		s.note("%s: never", st)
	}
}

// kill GROUP:NAME SIGNAL: from outside, behind the supervisor's back
func (s *side) stepKill(st step) {
	f := strings.Fields(st.rest)
	v, err := s.c.Call(context.Background(), "supervisor.getProcessInfo", f[0])
	m, _ := v.(map[string]any)
	pid, _ := m["pid"].(int)
	if err != nil || pid <= 1 {
		s.note("%s: no such process", st)
		return
	}
	s.killed[fmt.Sprintf("%v:%v", m["group"], m["name"])] = m["pid"]
	if err := syscall.Kill(pid, signalByName(f[1])); err != nil {
		s.note("%s: %v", st, err)
	}
}

// signal NAME: to the supervisor
func (s *side) stepSignal(st step) {
	sig := signalByName(st.rest)
	if sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT {
		s.down = true
		s.endWatch()
	}
	if err := s.d.Signal(sig); err != nil {
		s.note("%s: %v", st, err)
	}
}

func signalByName(name string) syscall.Signal {
	return map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "HUP": syscall.SIGHUP,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "KILL": syscall.SIGKILL, "SEGV": syscall.SIGSEGV,
		"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
	}[name]
}

func (s *side) stepExit(st step) { s.note("%s → %s", st, s.d.WaitExit(patience)) }

// http PATH [TEXT]: a plain GET of the whole answer or, where that never ends as that of /logtail/a, until TEXT has come
func (s *side) stepHTTP(st step) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	url, user, password := s.address()
	c := lab.NewClient(url, user, password, true)
	defer c.Close()
	path, text, _ := strings.Cut(st.rest, " ")
	status, body, err := c.GetUntil(ctx, path, []byte(unescape(text)))
	if ctx.Err() != nil {
		s.note("%s: %v", st, err)
	}
	if status >= 400 {
		body = nil // a page for people, in each server's own words
	}
	s.note("%s → %d %q", st, status, s.norm.text(string(body)))
}

// events FILE: the transcript of a listener of the case's own, headers and payloads
func (s *side) stepEvents(st step) {
	for _, ev := range readEvents(s.path(st.rest)) {
		if strings.Contains(ev.payload, "name:zzwatch") {
			continue // the harness's own listener starts when it can
		}
		head := make(map[string]any, len(ev.header))
		for k, v := range ev.header {
			if k == "len" && strings.Contains(ev.payload, "pid:") || k == "serial" {
				v = "$N"
			}
			head[k] = v
		}
		s.note("event %s %q", s.norm.value(head), s.norm.text(ev.payload))
	}
}

// order STATE: the order in which programs came into a state
func (s *side) stepOrder(st step) {
	s.caughtUp()
	var names []string
	for _, ev := range readEvents(s.path("watch.log")) {
		f := fields(ev.payload)
		if ev.header["eventname"] == "PROCESS_STATE_"+st.rest && f["groupname"] != "zzwatch" {
			names = append(names, f["groupname"]+":"+f["processname"])
		}
	}
	s.note("%s → %s", st, strings.Join(names, " "))
}

// gone FILE: the processes whose pids FILE holds have ended
func (s *side) stepGone(st step) {
	data, err := os.ReadFile(s.path(st.rest))
	if err != nil {
		s.note("%s: %v", st, s.norm.text(err.Error()))
		return
	}
	var left []string
	lab.Until(patience, func() bool {
		left = nil
		for i, f := range strings.Fields(string(data)) {
			var pid int
			_, _ = fmt.Sscan(f, &pid)
			if u, err := lab.ReadUsage(pid); err == nil && u.State != "Z" {
				left = append(left, fmt.Sprintf("number %d", i+1))
			}
		}
		return len(left) == 0
	})
	s.note("%s → still there: %v", st, left)
}

// files adds everything under out/: names, modes, contents.
func (s *side) files() {
	root := s.path("out")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			s.note("file %s: unreadable", strings.TrimPrefix(path, s.dir+"/"))
			return nil
		}
		name := s.norm.text(strings.TrimPrefix(path, s.dir+"/"))
		if len(data) > 16<<10 {
			s.note("file %s mode %o: %d bytes, sha256 %x", name, info.Mode().Perm(), len(data), sha256.Sum256(data))
			return nil
		}
		s.note("file %s mode %o:\n%s", name, info.Mode().Perm(), s.norm.text(string(data)))
		return nil
	})
	if err != nil {
		s.note("cannot read out/: %v", err)
	}
}
