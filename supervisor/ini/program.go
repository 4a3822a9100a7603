package ini

import (
	"math"
	"sort"
	"strings"
	"syscall"
)

// programScope is a scope in which [program-default] gives what a [program:x] leaves out.
func (l *loader) programScope(sec *section, vars map[string]any) *scope {
	kind := kindOf(sec.name)
	s := l.scope(sec, kind, vars)
	if kind == kProgram {
		s.fallback = l.doc.section("program-default")
	}
	return s
}

// programs makes the processes of one section, as many as numprocs says, by priority and name.
// The order of the steps is Supervisor's, because each adds names that later keys may use.
func (l *loader) programs(sec *section, group string) []Program {
	_, name, _ := strings.Cut(sec.name, ":")
	name = strip(name)
	s := l.programScope(sec, map[string]any{
		"here": l.hereOf(sec), "program_name": name, "host_node_name": l.host, "group_name": group,
	})
	common := Program{Group: group, Section: sec.name, File: sec.file, Line: sec.line, UID: -1, GID: -1}
	s.supervisorKeys(&common)
	s.beyond(&common)
	num := s.between("numprocs", 0, maxProcs, "a whole number from 0 to 10000")
	start := s.integer("numprocs_start")
	if start > math.MaxInt32-maxProcs {
		start = 0
	}
	processName := s.processName(num)
	if l.procs += num; l.procs > maxProcs {
		s.at("makes more than %d processes in all: want a lower numprocs", maxProcs)
		return nil
	}
	var programs []Program
	for n := start; n < start+num; n++ {
		p := common
		s.vars.vars["process_num"], s.vars.vars["numprocs"] = n, num
		for k, v := range l.env {
			s.vars.vars[k] = v
		}
		before := len(l.errs)
		s.each(&p, processName)
		programs = append(programs, p)
		if l.expanded > maxProcBytes {
			s.at("has too much text: the commands and environments of all processes come to more than %d MiB", maxProcBytes>>20)
			return nil
		}
		if len(l.errs) > before {
			break // the other processes of the section would say the same
		}
	}
	sort.SliceStable(programs, func(i, j int) bool { return programs[i].Name < programs[j].Name })
	return programs
}

// supervisorKeys reads the keys that are the same for each of numprocs.
func (s *scope) supervisorKeys(p *Program) {
	p.Priority = s.integer("priority")
	p.Autostart = s.boolean("autostart")
	p.Autorestart = s.autorestart()
	p.Startsecs = s.integer("startsecs")
	p.Startretries = s.integer("startretries")
	p.StopSignals = s.stopSignals()
	p.Stopwaitsecs = s.integer("stopwaitsecs")
	p.Stopasgroup = s.boolean("stopasgroup")
	p.Killasgroup = p.Stopasgroup
	if v := s.find("killasgroup"); v != nil {
		text, _ := s.text("killasgroup")
		var ok bool
		if p.Killasgroup, ok = boolean(text); !ok {
			s.bad(v, text, "true or false")
		} else if p.Stopasgroup && !p.Killasgroup {
			s.problem(v, "[%s] %s=%s contradicts stopasgroup=true: want true, or leave it out", s.sec.name, v.key, quote(text))
		}
	}
	codes, v := s.text("exitcodes")
	var err error
	if p.ExitCodes, err = exitCodes(codes); err != nil {
		s.bad(v, codes, "numbers from 0 to 255, separated by commas, such as 0,2")
	}
	p.RedirectStderr = s.boolean("redirect_stderr")
	p.Stdout.CaptureMaxbytes, p.Stdout.EventsEnabled = s.bytes("stdout_capture_maxbytes"), s.boolean("stdout_events_enabled")
	p.Stderr.CaptureMaxbytes, p.Stderr.EventsEnabled = s.bytes("stderr_capture_maxbytes"), s.boolean("stderr_events_enabled")
	if p.ServerURL = s.plain("serverurl"); strings.ToUpper(strip(p.ServerURL)) == "AUTO" {
		p.ServerURL = ""
	}
	s.user(p)
	p.Umask = s.octal("umask")
}

func (s *scope) autorestart() AutoRestart {
	text, v := s.text("autorestart")
	if strings.EqualFold(text, "unexpected") {
		return RestartUnexpected
	}
	b, ok := boolean(text)
	switch {
	case !ok:
		s.bad(v, text, "true, false or unexpected")
		return RestartUnexpected
	case b:
		return RestartAlways
	}
	return RestartNever
}

func (s *scope) stopSignals() []syscall.Signal {
	text, v := s.text("stopsignal")
	var sigs []syscall.Signal
	for name := range strings.FieldsSeq(text) {
		sig, err := ParseSignal(name)
		if err != nil {
			s.bad(v, text, "a signal's name or number, such as TERM, SIGINT or 15")
			break
		}
		if sigs = append(sigs, sig); len(sigs) > 16 {
			s.bad(v, text, "at most 16 signals")
			break
		}
	}
	if len(sigs) == 0 {
		if v != nil && strip(text) == "" {
			s.bad(v, text, "a signal's name or number, such as TERM, SIGINT or 15")
		}
		return []syscall.Signal{syscall.SIGTERM}
	}
	return sigs
}

func (s *scope) user(p *Program) {
	text, v := s.text("user")
	if v == nil {
		return
	}
	name, group, both := strings.Cut(text, ":")
	acc, ok := s.l.users.user(name)
	if !ok {
		s.bad(v, text, "the name of a user of this system, or a number")
		return
	}
	p.User, p.UID, p.GID = text, acc.uid, acc.gid
	if both {
		if p.GID, ok = s.l.users.groupID(group); !ok {
			s.bad(v, text, "the name of a group of this system, or a number, behind the colon")
			return
		}
	}
	p.Groups = s.l.users.supplementary(acc, p.GID)
}

// processName checks the name before it is expanded, as Supervisor does.
func (s *scope) processName(num int) *value {
	v := s.find("process_name")
	if v == nil {
		v = &value{key: "process_name", text: s.fallbackFor("process_name"), file: s.sec.file, line: s.sec.line}
		if n := s.find("numprocs"); n != nil {
			v.file, v.line = n.file, n.line
		}
	}
	if name := strip(v.text); name == "" || strings.ContainsAny(name, " :/") {
		s.bad(v, v.text, "a name without spaces, colons and slashes")
	}
	if num > 1 && !strings.Contains(v.text, "%(process_num)") {
		s.bad(v, v.text, "%(process_num) in the name, such as %(program_name)s_%(process_num)02d, since numprocs is above 1")
	}
	return v
}

// each reads the keys that may differ between processes.
func (s *scope) each(p *Program, processName *value) {
	own := s.environment("environment")
	for k, v := range own {
		s.vars.vars["ENV_"+k] = v
	}
	p.Environment = merged(s.l.conf.Supervisord.Environment, s.envFiles(), own)
	p.Directory = s.plain("directory")
	s.log(&p.Stdout, "stdout", p.Name)
	s.log(&p.Stderr, "stderr", p.Name)
	if p.RedirectStderr {
		if v := s.find("stderr_logfile"); v != nil && p.Stderr.File != "" && p.Stderr.File != "AUTO" {
			s.l.warn(problemf(v.file, v.line, "[%s] %s is not used, since redirect_stderr=true", s.sec.name, v.key))
		}
		p.Stderr.File, p.Stderr.Also = "", nil
	}
	s.command(p)
	if name, ok := s.expand(processName, strip(processName.text)); ok {
		p.Name = name
		if name == "" {
			s.bad(processName, name, "a name")
		}
	}
	s.beyondEach(p)
	s.l.expanded += len(p.Command) + len(p.Stdout.File) + len(p.Stderr.File) + len(p.Directory) + len(p.Name)
	for k, v := range p.Environment {
		s.l.expanded += len(k) + len(v)
	}
}

// command splits the command. One that cannot be split does not keep the other programs from
// running: as in Supervisor, it fails when it is started.
func (s *scope) command(p *Program) {
	text, v := s.text("command")
	if v == nil {
		s.missing("command", "command = /usr/bin/web --port 8000")
		return
	}
	p.Command = text
	argv, err := Split(text)
	switch {
	case err != nil:
		p.CommandError = "can't parse command " + pyQuote(text) + ": " + err.Error()
		s.l.doubt(problemf(v.file, v.line, "[%s] %s=%s cannot be split into words: %s", s.sec.name, v.key, quote(text), strings.ToLower(err.Error())))
	case len(argv) == 0:
		p.CommandError = "command is empty"
		s.l.doubt(problemf(v.file, v.line, "[%s] %s is empty: want a program to run", s.sec.name, v.key))
	default:
		p.Argv = argv
	}
}
