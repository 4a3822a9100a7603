package ini

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// groups makes the groups in the order in which Supervisor makes them, which decides between
// equals: [group:x], then programs outside any group, then listeners, then FastCGI programs.
func (l *loader) groups() {
	used := map[string]bool{}
	for _, name := range l.doc.order {
		if strings.HasPrefix(name, kGroup+":") {
			l.group(l.doc.section(name), used)
		}
	}
	for _, kind := range []string{kProgram, kListener, kFastCGI} {
		for _, name := range l.doc.order {
			if !strings.HasPrefix(name, kind+":") || used[name] {
				continue
			}
			sec := l.doc.section(name)
			g := Group{Priority: 999}
			switch kind {
			case kProgram:
				l.programGroup(sec, &g)
			case kListener:
				l.listener(sec, &g)
			case kFastCGI:
				l.fastCGI(sec, &g)
			}
		}
	}
	sort.SliceStable(l.conf.Groups, func(i, j int) bool {
		a, b := &l.conf.Groups[i], &l.conf.Groups[j]
		if a.Priority != b.Priority {
			return a.Priority < b.Priority
		}
		return a.Name < b.Name
	})
	l.uniqueGroups()
}

// name is the part of a section's name behind the colon.
func (l *loader) name(sec *section) (string, bool) {
	_, name, _ := strings.Cut(sec.name, ":")
	name = strip(name)
	if name == "" || strings.ContainsAny(name, " :/") {
		l.fail(problemf(sec.file, sec.line, "[%s]: want a name without spaces, colons and slashes behind the colon, such as [%s:web]",
			sec.name, kindOf(sec.name)))
		return name, false
	}
	return name, true
}

func (l *loader) group(sec *section, used map[string]bool) {
	s := l.scope(sec, kGroup, map[string]any{"here": l.hereOf(sec)})
	name, _ := l.name(sec)
	g := Group{Name: name, Kind: KindGroup, Priority: s.integer("priority")}
	text, v := s.text("programs")
	listed := map[string]bool{}
	for _, prog := range listOfStrings(text) {
		if listed[prog] {
			l.warn(problemf(v.file, v.line, "[%s] %s: %s is listed twice", sec.name, v.key, quote(prog)))
			continue
		}
		listed[prog] = true
		plain, fcgi := l.doc.section(kProgram+":"+prog), l.doc.section(kFastCGI+":"+prog)
		switch {
		case plain == nil && fcgi == nil:
			s.problem(v, "[%s] %s=%s: there is no [program:%s]%s", sec.name, v.key, quote(text), prog, l.meantProgram(prog))
			continue
		case plain != nil && fcgi != nil:
			s.problem(v, "[%s] %s=%s: %s is a [program:%s] and a [fcgi-program:%s]: rename one of them", sec.name, v.key, quote(text), prog, prog, prog)
			continue
		case plain == nil:
			plain = fcgi
		}
		used[plain.name] = true
		g.Programs = append(g.Programs, l.programs(plain, name)...)
	}
	if v == nil || len(listed) == 0 {
		l.doubt(problemf(sec.file, sec.line, "[%s] has no programs: want a line such as programs = web,worker", sec.name))
	}
	l.addGroup(g)
}

func (l *loader) meantProgram(name string) string {
	if len(l.errs) > maxHints {
		return ""
	}
	var names []string
	for _, sec := range l.doc.order {
		if prog, ok := strings.CutPrefix(sec, kProgram+":"); ok {
			names = append(names, prog)
		}
	}
	if meant := nearest(name, names); meant != "" {
		return ": did you mean " + meant + "?"
	}
	return ""
}

func (l *loader) programGroup(sec *section, g *Group) {
	name, _ := l.name(sec)
	g.Name, g.Kind = name, KindProgram
	s := l.programScope(sec, map[string]any{"here": l.hereOf(sec), "program_name": name, "host_node_name": l.host, "group_name": name})
	g.Priority = s.integer("priority")
	g.Programs = l.programs(sec, name)
	l.addGroup(*g)
}

func (l *loader) listener(sec *section, g *Group) {
	name, _ := l.name(sec)
	g.Name, g.Kind = name, KindListener
	s := l.scope(sec, kListener, map[string]any{"here": l.hereOf(sec)})
	g.Priority = -1
	if s.has("priority") {
		g.Priority = s.integer("priority")
	}
	g.BufferSize = s.between("buffer_size", 1, 1<<20, "a whole number from 1 to 1048576")
	var handler *value
	if g.ResultHandler, handler = s.text("result_handler"); handler != nil && g.ResultHandler != s.fallbackFor("result_handler") {
		l.warn(problemf(handler.file, handler.line, "[%s] %s=%s is Python code and is left out: a result of OK accepts an event and anything else puts it back",
			sec.name, handler.key, quote(g.ResultHandler)))
	}
	s.events(g)
	if v := s.find("redirect_stderr"); v != nil && s.boolean("redirect_stderr") {
		s.problem(v, "[%s] %s=%s would mix errors into the event protocol: want false", sec.name, v.key, quote(v.text))
	}
	g.Programs = l.programs(sec, name)
	l.addGroup(*g)
}

func (s *scope) events(g *Group) {
	text, v := s.text("events")
	if v == nil || text == "" {
		if v != nil || !s.has("events") {
			s.at("has no events: want a line such as events = PROCESS_STATE,TICK_60")
		}
		return
	}
	names := eventNames()
	for _, event := range listOfStrings(text) {
		event = strings.ToUpper(event)
		if !slices.Contains(names, event) {
			hint := ""
			if meant := nearest(event, names); meant != "" {
				hint = ": did you mean " + meant + "?"
			}
			s.problem(v, "[%s] %s=%s: there is no event %s%s", s.sec.name, v.key, quote(text), quote(event), hint)
			continue
		}
		if !slices.Contains(g.Events, event) {
			g.Events = append(g.Events, event)
		}
	}
}

// eventNames are those of supervisord.org/events.html#event-types.
func eventNames() []string {
	return strings.Fields(`EVENT PROCESS_STATE PROCESS_STATE_STOPPED PROCESS_STATE_EXITED PROCESS_STATE_STARTING
		PROCESS_STATE_STOPPING PROCESS_STATE_BACKOFF PROCESS_STATE_FATAL PROCESS_STATE_RUNNING PROCESS_STATE_UNKNOWN
		PROCESS_COMMUNICATION PROCESS_COMMUNICATION_STDOUT PROCESS_COMMUNICATION_STDERR PROCESS_LOG PROCESS_LOG_STDOUT
		PROCESS_LOG_STDERR REMOTE_COMMUNICATION SUPERVISOR_STATE_CHANGE SUPERVISOR_STATE_CHANGE_RUNNING
		SUPERVISOR_STATE_CHANGE_STOPPING TICK TICK_5 TICK_60 TICK_3600 PROCESS_GROUP PROCESS_GROUP_ADDED PROCESS_GROUP_REMOVED`)
}

func (l *loader) fastCGI(sec *section, g *Group) {
	name, _ := l.name(sec)
	g.Name, g.Kind = name, KindFastCGI
	g.SocketUID, g.SocketGID, g.SocketMode = -1, -1, 0o700
	s := l.scope(sec, kFastCGI, map[string]any{"here": l.hereOf(sec)})
	g.Priority = s.integer("priority")
	if s.has("socket_backlog") {
		g.SocketBacklog = s.between("socket_backlog", 1, 65535, "a whole number from 1 to 65535")
	}
	owner, mode := s.find("socket_owner"), s.find("socket_mode")
	if owner != nil {
		text, _ := s.text("socket_owner")
		var ok bool
		if g.SocketUID, g.SocketGID, ok = l.users.userGroup(text); !ok {
			s.bad(owner, text, "user or user:group, each of this system or a number")
		}
		g.SocketOwner = text
	}
	if m := s.octal("socket_mode"); m >= 0 {
		g.SocketMode = uint32(m)
	}
	s.vars.vars["program_name"] = name
	socket, v := s.text("socket")
	switch path, unix := strings.CutPrefix(socket, "unix://"); {
	case v == nil || socket == "":
		if v != nil || !s.has("socket") {
			s.at("has no socket: want a line such as socket = unix:///run/%%(program_name)s.sock")
		}
	case unix && !filepath.IsAbs(path):
		s.bad(v, socket, "an absolute path behind unix://, such as unix:///run/web.sock")
	case unix:
		g.Socket = "unix://" + l.normalize(path)
		if user, given := s.text("user"); given != nil && owner == nil {
			if acc, ok := l.users.user(strings.SplitN(user, ":", 2)[0]); ok && acc.uid != os.Getuid() {
				g.SocketUID, g.SocketGID = acc.uid, acc.gid
			}
		}
	default:
		if extra := cmpValue(owner, mode); extra != nil {
			s.problem(extra, "[%s] %s=%s is for a unix socket, but socket=%s is none: take it out", sec.name, extra.key, quote(extra.text), quote(socket))
		}
		m := regexp.MustCompile(`^tcp://([^\s:]+):(\d+)$`).FindStringSubmatch(socket)
		if m == nil {
			s.bad(v, socket, "tcp://host:port or unix:///path")
		} else if _, _, err := inetAddress(m[2]); err != nil {
			s.bad(v, socket, "a port from 1 to 65535")
		}
		g.Socket, g.SocketMode = strings.ToLower(socket), 0
	}
	g.Programs = l.programs(sec, name)
	l.addGroup(*g)
}

func cmpValue(a, b *value) *value {
	if a != nil {
		return a
	}
	return b
}

// addGroup keeps, of processes with the same name, the last, which is the one that Supervisor runs.
func (l *loader) addGroup(g Group) {
	last := map[string]int{}
	for i, p := range g.Programs {
		if j, twice := last[p.Name]; twice {
			l.warn(problemf(p.File, p.Line, "[%s] is left with one process named %s in group %s: the one of %s:%d is not run; want another process_name",
				p.Section, quote(p.Name), quote(g.Name), g.Programs[j].File, g.Programs[j].Line))
		}
		last[p.Name] = i
	}
	if len(last) < len(g.Programs) {
		var kept []Program
		for i, p := range g.Programs {
			if last[p.Name] == i {
				kept = append(kept, p)
			}
		}
		g.Programs = kept
	}
	l.conf.Groups = append(l.conf.Groups, g)
}

// uniqueGroups keeps, of groups with the same name, the first, which is the one that Supervisor adds.
func (l *loader) uniqueGroups() {
	first := map[string]bool{}
	l.conf.Groups = slices.DeleteFunc(l.conf.Groups, func(g Group) bool {
		twice := first[g.Name]
		first[g.Name] = true
		if twice {
			file, line := l.opts.Main, 0
			if len(g.Programs) > 0 {
				file, line = g.Programs[0].File, g.Programs[0].Line
			}
			l.warn(problemf(file, line, "group %s exists twice: the one with the higher priority value is not run; rename it", quote(g.Name)))
		}
		return twice
	})
}
