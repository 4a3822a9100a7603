package ini

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// build makes the Config of the document.
func (l *loader) build() {
	l.sections()
	l.supervisord()
	l.servers()
	l.ctl()
	l.groups()
	l.checkDependencies()
}

func (l *loader) supervisord() {
	sec := l.doc.section(kSupervisord)
	if sec == nil {
		sec = newSection(kSupervisord, l.opts.Main, 0)
	}
	s := l.scope(sec, kSupervisord, map[string]any{"here": l.here})
	if l.here == "" {
		s.vars.vars["here"] = l.hereOf(sec)
	}
	c := &l.conf.Supervisord
	c.Minfds = s.integer("minfds")
	c.Minprocs = s.integer("minprocs")
	c.Directory = s.dir("directory")
	if text, v := s.text("user"); v != nil {
		if _, ok := l.users.user(text); !ok {
			s.bad(v, text, "the name of a user of this system, or a number")
		}
		c.User = text
	}
	c.Umask = s.octal("umask")
	if text, v := s.text("logfile"); v != nil {
		c.Logfile = s.dirPath(v, text)
		if c.Logfile != "syslog" && !strings.HasPrefix(c.Logfile, "/dev/") {
			c.Logfile = l.normalize(c.Logfile)
		}
	}
	c.LogfileMaxbytes = s.bytes("logfile_maxbytes")
	c.LogfileBackups = s.integer("logfile_backups")
	c.Loglevel = s.level()
	if text, v := s.text("pidfile"); v != nil {
		c.Pidfile = l.normalize(s.dirPath(v, text))
	}
	c.Identifier, _ = s.text("identifier")
	c.Nodaemon = s.boolean("nodaemon")
	c.Silent = s.boolean("silent")
	c.Childlogdir = s.dir("childlogdir")
	c.Nocleanup = s.boolean("nocleanup")
	c.StripANSI = s.boolean("strip_ansi")

	if text, v := s.text("environment"); v != nil {
		// Supervisor expands this key a second time, and knows one name more then.
		s.vars.vars["host_node_name"] = l.host
		if text, ok := s.expand(v, text); ok {
			c.Environment = s.pairs(v, text)
		}
	}
	for k, v := range c.Environment {
		l.env["ENV_"+k] = v
	}
}

// level reads loglevel; the words of the Go port are turned into Supervisor's.
func (s *scope) level() string {
	text, v := s.text("loglevel")
	level := strings.ToLower(text)
	switch level {
	case "critical", "error", "warn", "info", "debug", "trace", "blather":
		return level
	case "warning":
		return "warn"
	case "fatal", "panic":
		return "critical"
	}
	s.bad(v, text, "critical, error, warn, info, debug, trace or blather")
	return "info"
}

// servers reads [inet_http_server] and [unix_http_server], with or without a :name.
func (l *loader) servers() {
	for _, name := range l.doc.order {
		sec := l.doc.section(name)
		switch {
		case strings.HasPrefix(name, kInet):
			s := l.scope(sec, kInet, nil)
			srv := InetServer{}
			srv.Username, srv.Password = s.credentials()
			text, v := s.text("port")
			if v == nil {
				s.missing("port", "port = 127.0.0.1:9001")
				continue
			}
			var err error
			if srv.Host, srv.Port, err = inetAddress(text); err != nil {
				s.bad(v, text, "host:port or a port from 1 to 65535, such as 127.0.0.1:9001")
			}
			l.conf.InetServers = append(l.conf.InetServers, srv)
		case strings.HasPrefix(name, kUnix):
			l.unixServer(l.scope(sec, kUnix, nil))
		}
	}
}

func (l *loader) unixServer(s *scope) {
	srv := UnixServer{UID: -1, GID: -1, Chmod: 0o700}
	srv.Username, srv.Password = s.credentials()
	file := *s
	file.vars.vars = map[string]any{"here": l.hereOf(s.sec)}
	text, v := file.text("file")
	if v == nil {
		s.missing("file", "file = /run/supervisor.sock")
		return
	}
	srv.File = l.normalize(strip(text))
	if text, v := s.text("chown"); v != nil {
		var ok bool
		if srv.UID, srv.GID, ok = l.users.userGroup(text); !ok {
			s.bad(v, text, "user or user:group, each of this system or a number")
		}
	}
	if mode := s.octal("chmod"); mode >= 0 {
		srv.Chmod = uint32(mode)
	}
	l.conf.UnixServers = append(l.conf.UnixServers, srv)
}

// missing tells of a key that must be there, unless it is there and was told of already.
func (s *scope) missing(key, example string) {
	if !s.has(key) {
		s.at("has no %s: want a line such as %s", key, example)
	}
}

func (s *scope) credentials() (username, password string) {
	username, u := s.text("username")
	password, p := s.text("password")
	if s.has("username") != s.has("password") {
		v := u
		if v == nil {
			v = p
		}
		if v != nil {
			s.problem(v, "[%s] has %s alone: want both username and password, or neither", s.sec.name, v.key)
		}
	}
	return username, password
}

// ctl reads [supervisorctl]. What is wrong in it does not concern the agent: only warnings.
func (l *loader) ctl() {
	sec := l.doc.section(kCtl)
	if sec == nil {
		sec = newSection(kCtl, l.opts.Main, 0)
	}
	s := l.scope(sec, kCtl, nil)
	s.soft = true
	c := &l.conf.Ctl
	c.Prompt, _ = s.text("prompt")
	c.Username, c.Password = s.plain("username"), s.plain("password")
	s.vars.vars = map[string]any{"here": l.hereOf(sec)}
	c.ServerURL, _ = s.text("serverurl")
	if path, ok := strings.CutPrefix(c.ServerURL, "unix://"); ok {
		c.ServerURL = "unix://" + l.normalize(path)
	}
	if c.HistoryFile = s.plain("history_file"); c.HistoryFile != "" {
		c.HistoryFile = l.normalize(c.HistoryFile)
	}
}

// ServerURL is what SUPERVISOR_SERVER_URL says to programs without a serverurl of their own: the
// first unix socket, else the first TCP address, else "".
func (c *Config) ServerURL() string {
	if len(c.UnixServers) > 0 {
		return "unix://" + c.UnixServers[0].File
	}
	if len(c.InetServers) > 0 {
		srv := c.InetServers[0]
		if srv.Host == "" {
			srv.Host = "localhost"
		}
		return "http://" + srv.Host + ":" + strconv.Itoa(srv.Port)
	}
	return ""
}

// kindOf tells what kind of section a name makes; "" is none that is known.
func kindOf(name string) string {
	switch name {
	case kSupervisord, kCtl, kInclude:
		return name
	case "program-default":
		return kProgram
	}
	for _, kind := range []string{kGroup, kProgram, kListener, kFastCGI, kRPC} {
		if strings.HasPrefix(name, kind+":") {
			return kind
		}
	}
	for _, kind := range []string{kInet, kUnix} {
		if strings.HasPrefix(name, kind) {
			return kind
		}
	}
	return ""
}

// sections checks names of sections and of keys.
func (l *loader) sections() {
	for _, name := range l.doc.order {
		sec := l.doc.section(name)
		switch kind := kindOf(name); kind {
		case "":
			if meant := likelySection(name); meant != "" {
				l.doubt(problemf(sec.file, sec.line, "[%s] is not a section that is known and is left out: did you mean %s?", name, meant))
			}
		case kRPC:
			l.rpcInterface(sec)
		default:
			l.scope(sec, kind, nil).unknownKeys()
		}
	}
}

func (l *loader) rpcInterface(sec *section) {
	s := l.scope(sec, kRPC, nil)
	factory, v := s.text("supervisor.rpcinterface_factory")
	if v == nil {
		s.missing("supervisor.rpcinterface_factory", "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface")
		return
	}
	if factory != "supervisor.rpcinterface:make_main_rpcinterface" {
		l.warn(problemf(v.file, v.line, "[%s] %s=%s is Python code and is left out: only Supervisor's own interface is built in", sec.name, v.key, quote(factory)))
	}
}

// likelySection is the section that a misspelt one was meant to be, or "". Supervisor passes
// over every section that it does not know, and so must we where it does not look like a mistake.
func likelySection(name string) string {
	bare := strings.ToLower(strip(name))
	prefix, rest, colon := strings.Cut(bare, ":")
	prefix = strip(prefix)
	kinds := []string{kGroup, kProgram, kListener, kFastCGI, kRPC}
	whole := []string{kSupervisord, kCtl, kInclude, kInet, kUnix, "program-default"}
	if slices.Contains(kinds, prefix) || colon {
		if meant := closest(prefix, kinds); meant != "" {
			if rest = strip(rest); rest == "" {
				rest = "x"
			}
			return "[" + meant + ":" + rest + "]"
		}
		return ""
	}
	if meant := closest(prefix, whole); meant != "" {
		return "[" + meant + "]"
	}
	for _, kind := range kinds {
		if rest, ok := strings.CutPrefix(bare, kind); ok && strings.IndexAny(rest, ".-_/ ") == 0 {
			return "[" + kind + ":" + strip(rest[1:]) + "]"
		}
	}
	return ""
}

func closest(name string, candidates []string) string {
	if slices.Contains(candidates, name) {
		return name
	}
	return nearest(name, candidates)
}

// merged copies maps one over the other.
func merged(ms ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range ms {
		maps.Copy(out, m)
	}
	return out
}
