// Package config holds every setting of inpod, each declared once, in the struct tags of Config.
//
// Load goes: defaults, the YAML file (strict: an unknown key is an error), the environment (INPOD_…, which wins),
// validation. Every problem is reported at once, with file:line or the variable's name. What Load returns is
// a snapshot that nobody changes; a reload makes a new one.
//
// The tags are: key (the YAML key), default, doc (the line in docs/reference/config.md), enum (the values allowed,
// separated by |) and check (the name of a rule in rules.go). The package does no more than read and judge:
// it opens no port and looks at no file but the one it was given.
package config

import (
	"path/filepath"
	"strconv"
	"time"
)

// DefaultFile is read when no file is named; it may be absent.
const DefaultFile = "/etc/inpod/inpod.yaml"

// Off is the value of a listen setting or of admin.socket that turns the part off.
const Off = "off"

// Config is one immutable snapshot of every setting.
type Config struct {
	Log        Log        `key:"log" doc:"The agent's own log, on standard output."`
	Admin      Admin      `key:"admin" doc:"Health, metrics and control."`
	Supervisor Supervisor `key:"supervisor" doc:"Where programs come from."`
	SSH        SSH        `key:"ssh" doc:"SSH and SFTP."`
	Proxy      Proxy      `key:"proxy" doc:"HTTP routes to the servers in this pod."`
	Drain      Drain      `key:"drain" doc:"How the pod goes down."`

	Users []User  `key:"users" default:"[]" doc:"Users that are made in the container, before anything else."`
	Seed  []Seed  `key:"seed" default:"[]" doc:"Data of the image that empty volumes get, before hooks."`
	Files []Files `key:"files" default:"[]" doc:"Texts that hold several files, which are written before hooks."`
	Hooks []Hook  `key:"hooks" default:"[]" doc:"Commands that run before the programs are started, one after the other. The admin server and SSH are up meanwhile, and the pod is not ready."`

	Models []Model `key:"models" default:"[]" doc:"Models that are fetched after hooks and before the programs are started, two at a time. The pod is not ready before they are there."`

	// File is the file that was read, "" when there was none.
	File string `key:"-"`
	// Warnings are problems that stop nothing: variables that look like settings but are none.
	Warnings Problems `key:"-"`

	// SourceFiles are those of proxy.sources. What they say is in Proxy.Routes.
	SourceFiles []string `key:"-"`

	origins  map[string]origin // where each key that is set was set
	fallback []string          // socket paths to try when admin.socket is not set
}

// Log is the log section.
type Log struct {
	Level  string `key:"level" default:"info" enum:"debug|info|warn|error" doc:"The least severe records that are written."`
	Format string `key:"format" default:"json" enum:"json|text" doc:"One JSON object a line, or key=value text."`
}

// Admin is the admin section.
type Admin struct {
	Listen    string `key:"listen" default:":9880" check:"listen" doc:"Address of the admin HTTP server (health, metrics, API). off turns it off."`
	TokenFile string `key:"token_file" default:"" check:"path" doc:"File that holds the bearer token which POST requests on admin.listen need. Without it they are refused there; the control socket needs none."`
	Socket    string `key:"socket" default:"/run/inpod/inpod.sock" check:"socket" doc:"The control socket (mode 0600). When it is not set and /run/inpod cannot be written: $XDG_RUNTIME_DIR/inpod.sock, then /tmp/inpod-$UID/inpod.sock, and with a warning none at all where nothing can be written. A path that is set must work. off turns it off."`
}

// Supervisor is the supervisor section.
type Supervisor struct {
	Include    []string `key:"include" default:"[/etc/supervisord/*.ini, /etc/supervisor/conf.d/*.conf, /etc/inpod/programs/*.ini]" check:"path" doc:"Globs of ini files with programs, read in addition to the file that -c names."`
	Source     []string `key:"source" default:"[]" check:"realpath" doc:"Shell files, such as /etc/profile, whose variables hooks, programs and sessions get. Run at the start, in bash or else /bin/sh. One that is missing is skipped, one that fails is a warning."`
	AutoUpdate bool     `key:"auto_update" default:"false" doc:"Add, restart and remove programs as soon as their files change. When false they wait for update, as with supervisord."`
}

// Drain is the drain section.
type Drain struct {
	Delay    time.Duration `key:"delay" default:"0s" check:"notnegative" doc:"How long the pod goes on serving after it has said that it is not ready. 60s, or drain.deadline when that is shorter, where it is not set, KUBERNETES_SERVICE_HOST is and there is a route."`
	Deadline time.Duration `key:"deadline" default:"90s" check:"notnegative" doc:"When requests in flight are cut off, counted from the start of the drain."`
	Quiet    time.Duration `key:"quiet" default:"0s" check:"notnegative" doc:"End drain.delay early once no request has come for this long. 0s: never."`
}

// SocketPaths lists where the control socket may be, the best first. A server takes the first that it can make,
// a client the first that answers. It is empty when admin.socket is off.
func (c *Config) SocketPaths() []string {
	if c.Admin.Socket == Off {
		return nil
	}
	if _, set := c.origins["admin.socket"]; set {
		return []string{c.Admin.Socket}
	}
	return append([]string{c.Admin.Socket}, c.fallback...)
}

// IsSet tells whether a key, such as "drain.delay" or "proxy.routes[0].path", was given a value by the file or
// the environment.
func (c *Config) IsSet(key string) bool {
	_, ok := c.origins[key]
	return ok
}

// Origin tells where a key was set, as "file:line" or the name of a variable; "" when it has its default.
func (c *Config) Origin(key string) string {
	o, ok := c.origins[key]
	if !ok {
		return ""
	}
	return o.String()
}

// socketFallbacks are the paths after the default one (the XDG base directory specification says that
// $XDG_RUNTIME_DIR belongs to the user alone).
func socketFallbacks(env map[string]string, uid int) []string {
	var paths []string
	if dir := env["XDG_RUNTIME_DIR"]; filepath.IsAbs(dir) {
		paths = append(paths, filepath.Join(dir, "inpod.sock"))
	}
	return append(paths, "/tmp/inpod-"+strconv.Itoa(uid)+"/inpod.sock")
}
