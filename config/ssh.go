package config

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"
)

// SSH is the ssh section.
type SSH struct {
	Listen     string `key:"listen" default:":22" check:"listen" doc:"Address of the SSH server. Not set: :22 as root, :2222 otherwise. A number in $SSH_PORT replaces the port, unless INPOD_SSH_LISTEN is set. Without any credential source nothing is listened on; where this key is set the port answers then and refuses every login. off turns SSH off."`
	HostKeyDir string `key:"host_key_dir" default:"/etc/inpod/ssh" check:"path" doc:"Directory of the host keys (ed25519 and rsa, made when they are missing) and of the hashes of passwords that were read once. Make it a volume, so that they stay. Where it cannot be written the keys last as long as the agent does, with a warning."`

	AuthorizedKeys []string `key:"authorized_keys" default:"[/etc/inpod/ssh/authorized_keys, '%h/.ssh/authorized_keys']" check:"keypath" doc:"Files of public keys that may log in, in the format of sshd(8). %h is the user's home directory, %u the name, %% a percent sign. A file without %h or %u is for every user of the container. $INPOD_AUTHORIZED_KEYS holds further lines for the agent's own user."`
	TrustedUserCA  string   `key:"trusted_user_ca" default:"" check:"path" doc:"File of public keys whose user certificates are accepted for the names (principals) in them."`
	PasswordFile   string   `key:"password_file" default:"/sync/root-passwd" check:"path" doc:"File of user:password lines (or root's password alone), read once: the hashes are kept in ssh.host_key_dir and the file is removed where that is possible. It wins over /etc/shadow. Empty: none."`
	Shadow         bool     `key:"shadow" default:"true" doc:"Passwords of /etc/shadow (yescrypt, sha512, sha256, bcrypt) may log in. Names without a hash there may not."`

	ClientAliveInterval time.Duration `key:"client_alive_interval" default:"60s" check:"notnegative" doc:"After so long without a byte from the client it is asked whether it is there. 0s: never."`
	ClientAliveCount    int           `key:"client_alive_count" default:"5" check:"atleast1" doc:"So many questions without an answer end the connection."`
	IdleTimeout         time.Duration `key:"idle_timeout" default:"0s" check:"notnegative" doc:"A connection on which no session and no forwarding has moved a byte for so long is ended. 0s: never."`
	LoginGrace          time.Duration `key:"login_grace" default:"60s" check:"positive" doc:"How long a connection may take to log in."`
	MaxUnauthenticated  int           `key:"max_unauthenticated" default:"100" check:"atleast1" doc:"Connections that may be logging in at the same time. Over it those that have come the least far are dropped."`
	MaxConnections      int           `key:"max_connections" default:"512" check:"atleast1" doc:"Connections in all."`

	PermitLocalForward  []string `key:"permit_local_forward" default:"['127.0.0.1:*', 'localhost:*']" check:"permit" doc:"What clients may connect to through the server (ssh -L, -D, -W, -J): host:port, where host may be a *, a name, an address or a network such as 10.0.0.0/8, and port a *, a number or a range; or the path of a unix socket, with * as a wildcard. []: nothing."`
	PermitRemoteForward []string `key:"permit_remote_forward" default:"[]" check:"permit" doc:"What clients may listen on in the container (ssh -R), in the same form."`
	AgentForward        bool     `key:"agent_forward" default:"true" doc:"Clients may forward their authentication agent (ssh -A)."`
	X11Forward          bool     `key:"x11_forward" default:"true" doc:"Clients may forward their X11 display (ssh -X)."`

	Banner string `key:"banner" default:"" check:"path" doc:"File whose text is shown before login."`
	MOTD   bool   `key:"motd" default:"true" doc:"Show the limits of this container (CPU, memory, GPU, disks) when a terminal logs in. A file .hushlogin in the home directory hides it."`

	Users []SSHUser `key:"users" default:"[]" doc:"Users beside those of the container. They run as the agent's own user."`

	// EnvKeys is $INPOD_AUTHORIZED_KEYS.
	EnvKeys string `key:"-"`
	// ListenSet tells whether ssh.listen was set by the file or the environment.
	ListenSet bool `key:"-"`
}

// SSHUser is one entry of ssh.users.
type SSHUser struct {
	Name           string   `key:"name" required:"true" check:"username" doc:"Name to log in with. It wins over a user of the container."`
	PasswordFile   string   `key:"password_file" default:"" check:"path" doc:"File with the password, or its crypt(5) hash, alone. It is read at each login and never removed."`
	AuthorizedKeys []string `key:"authorized_keys" default:"[]" check:"path" doc:"Files of public keys that may log in."`
	Root           string   `key:"root" default:"" check:"path" doc:"Directory that is this user's /. With it there are only files, no commands and no forwarding. Empty: the whole file system, with the rights of the agent."`
	Access         string   `key:"access" default:"read-write" enum:"read-only|write-only|read-write" doc:"What the user may do with files. write-only: put new files, see nothing."`
	SFTPOnly       bool     `key:"sftp_only" default:"true" doc:"Only files: no commands and no forwarding."`
	Quota          Size     `key:"quota" default:"0" check:"notnegative" doc:"Bytes that ssh.users[].root may hold. 0: no limit."`

	Paths []SSHPath `key:"paths" default:"[]" doc:"Other rights below single paths. The longest path that matches wins."`
}

// SSHPath is one entry of ssh.users[].paths.
type SSHPath struct {
	Path   string `key:"path" required:"true" check:"path" doc:"Path as the user sees it."`
	Access string `key:"access" required:"true" enum:"read-only|write-only|read-write" doc:"What the user may do there."`
}

// deriveSSH sets the port and what only the environment has.
func (c *Config) deriveSSH(env map[string]string, uid int) {
	c.SSH.EnvKeys = env[envAuthorizedKeys]
	c.SSH.ListenSet = c.IsSet("ssh.listen")
	if !c.SSH.ListenSet && uid != 0 {
		c.SSH.Listen = ":2222"
	}
	// Kubernetes sets SSH_PORT=tcp://… where a Service is called ssh: that is no port.
	port, err := strconv.ParseUint(env["SSH_PORT"], 10, 16)
	if err != nil || port == 0 || env[EnvName("ssh.listen")] != "" || c.SSH.Listen == Off {
		return
	}
	if host, _, err := net.SplitHostPort(c.SSH.Listen); err == nil {
		c.SSH.Listen = net.JoinHostPort(host, strconv.FormatUint(port, 10))
	}
}

// checkSSH applies the rules that concern several keys.
func (c *Config) checkSSH(report reporter) {
	s := &c.SSH
	if s.Listen != Off && sameAddress(s.Listen, c.Admin.Listen) {
		report("ssh.listen", "%q is taken by admin.listen (%q)", s.Listen, c.Admin.Listen)
	}
	for i, r := range c.Proxy.Routes {
		if s.ListenSet && s.Listen != Off && r.Listen != Off && sameAddress(s.Listen, r.Listen) {
			report(routeKey(i)+".listen", "%q is taken by ssh.listen (%q)", r.Listen, s.Listen)
		}
	}
	seen := map[string]int{}
	for i, u := range s.Users {
		at := "ssh.users[" + strconv.Itoa(i) + "]"
		if first, dup := seen[u.Name]; dup && u.Name != "" {
			report(at+".name", "%q is the name of ssh.users[%d] too", clip(u.Name), first)
		}
		seen[u.Name] = i
		if u.Root != "" && !u.SFTPOnly {
			report(at+".sftp_only", "is false, but a user with a root has only files; leave one of the two out")
		}
		if u.Quota > 0 && u.Root == "" {
			report(at+".quota", "is set without root; a quota counts what is below root")
		}
		if u.PasswordFile == "" && len(u.AuthorizedKeys) == 0 {
			report(at, "has neither password_file nor authorized_keys, so %q could never log in", clip(u.Name))
		}
	}
}

func checkUserName(s string) string {
	if s == "" {
		return "is empty; want a name to log in with"
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == ':' || r == '/' || r == 0x7f }); i >= 0 || len(s) > 64 {
		return fmt.Sprintf("%q is not a user name", clip(s))
	}
	return ""
}

// checkKeyPath takes an absolute path, or one that begins with %h.
func checkKeyPath(s string) string {
	if s == "" {
		return "is empty; want a path"
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if i++; i == len(s) || !strings.ContainsRune("hu%", rune(s[i])) {
			return fmt.Sprintf("%q has a %% that is none of %%h, %%u and %%%%", clip(s))
		}
	}
	if strings.HasPrefix(s, "%h") {
		return ""
	}
	if !strings.HasPrefix(s, "/") {
		return fmt.Sprintf("%q is a relative path; want an absolute one, or %%h/%s for the home directory", clip(s), clip(s))
	}
	return ""
}

// checkPermit takes host:port or the path of a unix socket.
func checkPermit(s string) string {
	if strings.HasPrefix(s, "/") {
		if _, err := path.Match(s, ""); err != nil {
			return fmt.Sprintf("%q is not a valid pattern: a [ is not closed", clip(s))
		}
		return ""
	}
	host, port, ok := cutPort(s)
	if !ok || host == "" {
		return fmt.Sprintf("%q is not host:port, such as 127.0.0.1:*, nor a path", clip(s))
	}
	if strings.Contains(host, "/") {
		if _, err := netip.ParsePrefix(host); err != nil {
			return fmt.Sprintf("%q is not a network such as 10.0.0.0/8", clip(host))
		}
	}
	if port == "*" {
		return ""
	}
	low, high, ranged := strings.Cut(port, "-")
	from, err := strconv.ParseUint(low, 10, 16)
	to := from
	if err == nil && ranged {
		to, err = strconv.ParseUint(high, 10, 16)
	}
	if err != nil || to < from {
		return fmt.Sprintf("%q has no valid port; want *, a number or a range such as 8000-8999", clip(s))
	}
	return ""
}

// cutPort splits host:port, where an IPv6 address stands in brackets.
func cutPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	host, port = s[:i], s[i+1:]
	if inner, found := strings.CutPrefix(host, "["); found {
		inner, ok = strings.CutSuffix(inner, "]")
		return inner, port, ok
	}
	return host, port, !strings.Contains(host, ":") || strings.Contains(host, "/")
}
