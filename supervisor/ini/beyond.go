package ini

import (
	"math"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/robfig/cron/v3"
)

// beyond reads the keys that Supervisor does not have and that are the same for each of numprocs.
func (s *scope) beyond(p *Program) {
	if v := s.find("depends_on"); v != nil {
		text, _ := s.text("depends_on")
		for _, name := range listOfStrings(text) {
			if name != "" {
				p.DependsOn = append(p.DependsOn, name)
			}
		}
		for _, name := range p.DependsOn {
			if !s.l.doc.names(name) {
				s.l.fail(s.l.dependsProblem(p, "there is no program or group "+quote(name)+s.l.meantProgram(name)))
			}
		}
	}
	p.RestartPause = s.between("restartpause", 0, math.MaxInt32, "a whole number of seconds, such as 5")
	p.RestartOnBinaryChange = s.boolean("restart_when_binary_changed")
	p.BinaryChangeSignal = s.signal("restart_signal_when_binary_changed")
	p.FileChangeSignal = s.signal("restart_signal_when_file_changed")
	p.OOMScoreAdj = s.bounded("oom_score_adj", -1000, 1000)
	p.Nice = s.bounded("nice", -20, 19)
	if text, v := s.text("memory_limit"); v != nil {
		var err error
		if p.MemoryLimit, err = quantity(text); err != nil {
			s.bad(v, text, "a size such as 512MB or 2Gi")
		}
	}
	if text, v := s.text("cpu_limit"); v != nil {
		var err error
		if p.CPULimit, err = cores(text); err != nil {
			s.bad(v, text, "a number of cores such as 1.5 or 500m")
		}
	}
	if v := s.find("killwaitsecs"); v != nil {
		s.l.warn(problemf(v.file, v.line, "[%s] %s has no effect: SIGKILL cannot be held up", s.sec.name, v.key))
	}
	if s.kind == kListener {
		return
	}
	p.Essential = s.boolean("essential")
	s.oneshot(p)
	if p.Backoff = s.oneOf("restart_backoff", []string{"linear", "exponential"}); p.Backoff == "linear" {
		p.Backoff = ""
	}
	p.Format = s.oneOf("stdout_format", []string{"raw", "json"})
	if text, v := s.text("cron"); v != nil && text != "" {
		if err := checkCron(text); err != nil {
			s.bad(v, text, `five cron fields such as "0 3 * * *", or six with seconds first`)
		}
		p.Cron = text
	}
}

// checkCron keeps a parser's panic, should it have one, from reaching the caller.
func checkCron(spec string) (err error) {
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	_, err = parser.Parse(spec)
	return err
}

func (s *scope) oneshot(p *Program) {
	p.Oneshot = s.boolean("oneshot")
	if !p.Oneshot {
		return
	}
	if v := s.find("autorestart"); v == nil {
		p.Autorestart = RestartNever
	} else if p.Autorestart == RestartAlways {
		s.problem(v, "[%s] %s=%s contradicts oneshot=true: want false or unexpected, or leave it out", s.sec.name, v.key, quote(v.text))
	}
	if !s.has("startsecs") {
		p.Startsecs = 0
	}
}

func (s *scope) signal(key string) syscall.Signal {
	text, v := s.text(key)
	if v == nil || text == "" {
		return 0
	}
	sig, err := ParseSignal(text)
	if err != nil {
		s.bad(v, text, "a signal's name or number, such as HUP or 1")
	}
	return sig
}

// bounded is nil when the key is absent.
func (s *scope) bounded(key string, low, high int) *int {
	text, v := s.text(key)
	if v == nil {
		return nil
	}
	n, err := integer(text)
	if err != nil || n < low || n > high {
		s.bad(v, text, "a whole number from "+strconv.Itoa(low)+" to "+strconv.Itoa(high))
		return nil
	}
	return &n
}

// beyondEach reads the keys that Supervisor does not have and that may differ between processes.
func (s *scope) beyondEach(p *Program) {
	p.WatchDir, p.WatchPattern = s.plain("restart_directory_monitor"), ""
	if p.WatchDir != "" {
		p.WatchPattern, _ = s.text("restart_file_pattern")
	}
	p.BinaryChangeCmd = s.commandLine("restart_cmd_when_binary_changed")
	p.FileChangeCmd = s.commandLine("restart_cmd_when_file_changed")
	p.PreStartHook, p.PreStopHook = s.commandLine("pre_start_hook"), s.commandLine("pre_stop_hook")
	if p.Format != "" && p.Stdout.File == "" && !p.Stdout.Syslog && len(p.Stdout.Also) == 0 {
		v := s.find("stdout_format")
		s.problem(v, "[%s] %s=%s has nothing to write to: want a stdout_logfile, such as /dev/stdout", s.sec.name, v.key, quote(v.text))
	}
	if s.kind == kListener {
		return
	}
	p.Readiness = s.check("readiness", 1)
	p.Liveness = s.check("liveness", 10)
	if p.Liveness == nil {
		p.Liveness = s.olderLiveness()
	} else if v := s.find("liveness_check_script"); v != nil {
		s.problem(v, "[%s] %s is a second liveness check: want one", s.sec.name, v.key)
	}
	if p.Oneshot && p.Liveness != nil {
		s.at("has oneshot=true and a liveness check: want one of them, for liveness restarts what oneshot runs once")
	}
}

// commandLine checks that a command can be split.
func (s *scope) commandLine(key string) string {
	text, v := s.text(key)
	if v == nil {
		return ""
	}
	if _, err := Split(text); err != nil {
		s.bad(v, text, "a command line with its quotes closed")
	}
	return text
}

// check reads readiness_* or liveness_*.
func (s *scope) check(what string, period float64) *Check {
	c := &Check{Period: period, Timeout: 1, Failures: 3}
	var given *value
	for _, kind := range []string{"http", "tcp", "exec", "log"} {
		key := what + "_" + kind
		if key == "liveness_log" {
			if v := s.find(key); v != nil {
				s.problem(v, "[%s] %s: a log cannot tell that a program is still alive: want liveness_http, liveness_tcp or liveness_exec", s.sec.name, v.key)
			}
			continue
		}
		text, v := s.text(key)
		if v == nil {
			continue
		}
		if given != nil {
			s.problem(v, "[%s] %s is a second %s check beside %s: want one", s.sec.name, v.key, what, given.key)
			continue
		}
		given = v
		s.checkTarget(c, v, kind, text)
	}
	settings := []string{what + "_period", what + "_timeout", what + "_failures"}
	if given == nil {
		for _, key := range settings {
			if v := s.find(key); v != nil && s.fallback.lacks(key) {
				s.problem(v, "[%s] %s has no check to go with: want a %s_http, %s_tcp or %s_exec too", s.sec.name, v.key, what, what, what)
			}
		}
		return nil
	}
	c.Period = s.seconds(settings[0], c.Period)
	c.Timeout = s.seconds(settings[1], c.Timeout)
	c.Failures = s.between(settings[2], 1, math.MaxInt32, "a whole number from 1")
	return c
}

// lacks tells that a [program-default], if there is one, does not set the key: there it may
// stand for the programs that do have a check.
func (s *section) lacks(key string) bool { return s == nil || s.keys[key] == nil }

func (s *scope) checkTarget(c *Check, v *value, kind, text string) {
	switch kind {
	case "http":
		if c.HTTP = text; !httpTarget(text) {
			s.bad(v, text, "a URL such as http://127.0.0.1:8000/health, or 8000:/health")
		}
	case "tcp":
		_, _, err := inetAddress(text)
		if c.TCP = text; err != nil {
			s.bad(v, text, "host:port, or a port from 1 to 65535")
		}
	case "exec":
		argv, err := Split(text)
		if c.Exec = text; err != nil || len(argv) == 0 {
			s.bad(v, text, "a command line")
		}
	case "log":
		_, err := regexp.Compile(text)
		if c.Log = text; err != nil || text == "" {
			s.bad(v, text, "a regular expression (RE2), such as listening on .*:8000")
		}
	}
}

func httpTarget(text string) bool {
	if strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
		u, err := url.Parse(text)
		return err == nil && u.Hostname() != ""
	}
	port, path, ok := strings.Cut(text, ":")
	if !ok || !strings.HasPrefix(path, "/") {
		return false
	}
	_, _, err := inetAddress(port)
	return err == nil
}

// seconds reads a number of seconds, fractions too, or a duration such as 500ms.
func (s *scope) seconds(key string, def float64) float64 {
	text, v := s.text(key)
	if v == nil {
		return def
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		var d time.Duration
		d, err = time.ParseDuration(text)
		x = d.Seconds()
	}
	if err != nil || !(x >= 0.001 && x <= 1e9) {
		s.bad(v, text, "a time in seconds such as 5 or 0.5, or 500ms")
		return def
	}
	return x
}

// olderLiveness reads the Go port's spelling.
func (s *scope) olderLiveness() *Check {
	text, v := s.text("liveness_check_script")
	if v == nil || text == "" {
		return nil
	}
	c := &Check{Period: s.seconds("liveness_check_period", 60), Timeout: s.seconds("liveness_check_timeout", 30)}
	if d := s.find("liveness_check_initial_delay"); d == nil || strip(d.text) != "0" {
		c.Delay = s.seconds("liveness_check_initial_delay", 60)
	}
	c.Failures = s.between("liveness_check_failure_threshold", 1, math.MaxInt32, "a whole number from 1")
	switch addr, tcp := strings.CutPrefix(text, "tcp://"); {
	case tcp:
		s.checkTarget(c, v, "tcp", addr)
	case strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://"):
		if strings.ContainsAny(text, " \t\n") {
			s.bad(v, text, "a URL alone: headers and certificates are not supported, use liveness_exec with a client of yours")
			return c
		}
		s.checkTarget(c, v, "http", text)
	default:
		s.checkTarget(c, v, "exec", text)
	}
	if action, v := s.text("liveness_check_failure_action"); v != nil && action != "restart" {
		s.l.warn(problemf(v.file, v.line, "[%s] %s=%s is not supported: the program is restarted", s.sec.name, v.key, quote(action)))
	}
	return c
}

// envFiles reads the .env files; later files win.
func (s *scope) envFiles() map[string]string {
	text, v := s.text("envfiles")
	if v == nil {
		return nil
	}
	env := map[string]string{}
	for _, name := range listOfStrings(text) {
		if name == "" {
			continue
		}
		if _, known := s.l.rank[name]; !known {
			s.l.rank[name] = len(s.l.rank)
			s.l.conf.Files = append(s.l.conf.Files, absolute(name))
		}
		data, err := readText(name, maxFile)
		if err != nil {
			if os.IsNotExist(err) {
				s.bad(v, name, "a file that exists")
			} else {
				s.problem(v, "[%s] %s: %s %v", s.sec.name, v.key, quote(name), err)
			}
			continue
		}
		vars, problems := parseEnvFile(name, data)
		for _, p := range problems {
			s.l.fail(p)
		}
		for k, val := range vars {
			env[k] = val
		}
	}
	return env
}
