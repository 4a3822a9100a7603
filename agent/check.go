package agent

import (
	"fmt"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/inpod/inpod/supervisor/ini"
)

// Check loads everything that Run would and reports all that is wrong. It starts nothing.
func Check(opts CheckOptions) *Report {
	env := opts.Env
	if env == nil {
		env = os.Environ()
	}
	src := source{configFile: opts.ConfigFile, supervisordConf: opts.SupervisordConf, env: env, strict: opts.Strict, check: true}
	l, err := src.load()
	if err != nil {
		return &Report{Problems: err.(problems)}
	}
	r := &Report{Config: l.cfg, Programs: l.ini, Warnings: l.warnings()}
	if opts.Strict && len(r.Warnings) > 0 {
		r.Problems, r.Warnings = r.Warnings, nil
	}
	r.Warnings = append(r.Warnings, loopbacks(l)...) // a guess: strict does not make an error of it
	r.Effective = l.cfg.YAML() + programsYAML(l.ini)
	return r
}

const masked = "********"

// secretWords mark a variable whose value is not shown.
var secretWords = [...]string{"PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH"}

func isSecret(name string) bool {
	name = strings.ToUpper(name)
	return slices.ContainsFunc(secretWords[:], func(w string) bool { return strings.Contains(name, w) })
}

// programsYAML prints the programs as comments would: they come from ini files, and are shown for the reader only.
func programsYAML(c *ini.Config) string {
	var b strings.Builder
	b.WriteString("# Programs, from " + filesText(c.Files) + ":\n")
	for _, s := range c.UnixServers {
		fmt.Fprintf(&b, "# unix_http_server: {file: %q, chmod: %04o%s}\n", s.File, s.Chmod, login(s.Username, s.Password))
	}
	for _, s := range c.InetServers {
		fmt.Fprintf(&b, "# inet_http_server: {port: %q%s}\n", s.Host+":"+strconv.Itoa(s.Port), login(s.Username, s.Password))
	}
	for _, g := range c.Groups {
		for i := range g.Programs {
			p := &g.Programs[i]
			name := p.Name
			if g.Name != p.Name {
				name = g.Name + ":" + p.Name
			}
			fmt.Fprintf(&b, "# - {program: %q, command: %q, autostart: %v, priority: %d%s, at: \"%s:%d\"}\n",
				name, p.Command, p.Autostart, p.Priority, envText(p.Environment), p.File, p.Line)
		}
	}
	return b.String()
}

func filesText(files []string) string {
	if len(files) == 0 {
		return "no file"
	}
	return strings.Join(files, ", ")
}

func login(user, password string) string {
	if user == "" && password == "" {
		return ""
	}
	return fmt.Sprintf(", username: %q, password: %q", user, masked)
}

func envText(env map[string]string) string {
	if len(env) == 0 {
		return ""
	}
	names := make([]string, 0, len(env))
	for k := range env {
		names = append(names, k)
	}
	sort.Strings(names)
	parts := make([]string, len(names))
	for i, k := range names {
		v := env[k]
		if isSecret(k) {
			v = masked
		}
		parts[i] = fmt.Sprintf("%s: %q", k, v)
	}
	return ", environment: {" + strings.Join(parts, ", ") + "}"
}
