package agent

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/proxy"
	"github.com/inpod/inpod/sshd"
	"github.com/inpod/inpod/supervisor/ini"
)

// source says where settings and programs are read from. It is the same at the start, at a reload and in Check.
type source struct {
	configFile, supervisordConf string
	env                         []string
	mainProgram                 []string
	strict                      bool
	flags                       *SupervisordFlags
	planned                     map[string]int
	check                       bool // nothing is started, so users of the settings may be missing
}

// loaded is one consistent reading of everything. It is immutable.
type loaded struct {
	cfg *config.Config
	ini *ini.Config
	// What a watcher has to watch, and the fingerprint of what was read there.
	files, globs []string
	print        uint64
}

// problems is an error with one line for each thing that is wrong.
type problems []string

func (p problems) Error() string { return strings.Join(p, "\n") }

// load reads the settings and then the programs that they name. Its error is problems, those of both together.
func (s source) load() (*loaded, error) {
	var all problems
	cfg, err := s.settings()
	if err != nil {
		all = append(all, lines(err)...)
	}
	include := []string(nil)
	if cfg != nil {
		include = cfg.Supervisor.Include
	}
	if cfg != nil && s.check {
		s.planned = planned(cfg)
	}
	programs, err := s.programs(include)
	if err != nil {
		all = append(all, lines(err)...)
	}
	if cfg != nil {
		all = append(all, namedFiles(cfg)...)
	}
	if len(all) > 0 {
		return nil, all
	}
	file := s.configFile
	if file == "" {
		file = config.DefaultFile
	}
	l := &loaded{cfg: cfg, ini: programs, files: append([]string{file}, programs.Files...), globs: programs.Globs}
	l.files = append(l.files, cfg.SourceFiles...)
	for _, f := range cfg.Files {
		if f.From != "" {
			l.files = append(l.files, f.From)
		}
	}
	for _, r := range cfg.Proxy.Routes {
		if r.TLSCert != "" {
			l.files = append(l.files, r.TLSCert, r.TLSKey)
		}
	}
	l.files = append(l.files, sshd.Files(&cfg.SSH, sshd.Options{Env: s.env})...)
	l.print = fingerprint(l.files, l.globs)
	return l, nil
}

// planned are the users that the settings would make.
func planned(cfg *config.Config) map[string]int {
	users := map[string]int{}
	for _, u := range cfg.Users {
		users[u.Name] = -1
		if n, err := strconv.Atoi(u.UID); err == nil {
			users[u.Name] = n
		}
	}
	return users
}

// namedFiles says what is wrong with the files that settings name and that must be good before they are used.
func namedFiles(cfg *config.Config) problems {
	var bad *proxy.KeyError
	if err := proxy.Check(cfg.Proxy); errors.As(err, &bad) {
		return problems{cfg.Origin(bad.Key) + ": " + bad.Error()}
	}
	return nil
}

// loadAgain is load for what replaces old. Its fingerprint is of the time before the files were read: a change in
// between is then seen as one.
func (s source) loadAgain(old *loaded) (*loaded, error) {
	const rounds = 3 // the lists of files change once, if at all
	for known, round := old, 1; ; round++ {
		print := fingerprint(known.files, known.globs)
		l, err := s.load()
		if err != nil {
			return nil, err
		}
		if round == rounds || slices.Equal(l.files, known.files) && slices.Equal(l.globs, known.globs) {
			l.print = print
			return l, nil
		}
		known = l
	}
}

func (s source) settings() (*config.Config, error) {
	return config.Load(config.Options{File: s.configFile, Env: s.env, UID: os.Getuid()})
}

func (s source) programs(include []string) (*ini.Config, error) {
	env := map[string]string{}
	for _, kv := range s.env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	c, err := ini.Load(ini.Options{Main: s.supervisordConf, Include: include, Env: env, Strict: s.strict, Planned: s.planned})
	if err != nil {
		return nil, err
	}
	s.flags.apply(&c.Supervisord)
	if len(s.mainProgram) > 0 {
		for i := range c.Groups {
			if c.Groups[i].Name == mainName {
				return nil, errors.New(mainConflict(&c.Groups[i]))
			}
		}
	}
	return c, nil
}

func mainConflict(g *ini.Group) string {
	at := ""
	if len(g.Programs) > 0 {
		at = fmt.Sprintf("%s:%d: ", g.Programs[0].File, g.Programs[0].Line)
	}
	return fmt.Sprintf("%sthe name %q is taken by the command after --; call the program otherwise", at, mainName)
}

func lines(err error) []string {
	var cp config.Problems
	var ip ini.Problems
	var out []string
	switch {
	case errors.As(err, &cp):
		for _, p := range cp {
			out = append(out, p.String())
		}
	case errors.As(err, &ip):
		for _, p := range ip {
			out = append(out, p.String())
		}
	default:
		out = []string{err.Error()}
	}
	return out
}

// warnings are those of the settings and of the programs.
func (l *loaded) warnings() []string {
	var out []string
	for _, p := range l.cfg.Warnings {
		out = append(out, p.String())
	}
	for _, p := range l.ini.Warnings {
		out = append(out, p.String())
	}
	return out
}
