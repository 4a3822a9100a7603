package sshd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// grant is what a credential allows. The zero value, and nil, allow nothing beyond what the settings do not forbid.
type grant struct {
	method  string // publickey, certificate or password
	key     string // fingerprint, or the certificate's name
	forced  bool   // command runs instead of what the client asks for, even if it is ""
	command string

	noPTY, noForward, noAgent, noX11 bool
	permitOpen, permitListen         []string // nil = what the settings permit
	env                              []string
	from                             []string // nil = from anywhere
	expires                          time.Time
	authority                        bool     // the key signs certificates
	principals                       []string // of a certificate that it signs
	noTouch                          bool
}

const maxKeys = 1 << 20 // bytes of a file of keys

// parseKeys reads a file of sshd(8)'s AUTHORIZED_KEYS FILE FORMAT. A line that cannot be read is told to bad and left out:
// an option that is not understood may be one that forbids something.
func parseKeys(data []byte, bad func(line int, err error), each func(ssh.PublicKey, *grant)) {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		key, _, options, _, err := ssh.ParseAuthorizedKey(line)
		if err != nil {
			bad(n, err)
			continue
		}
		g := &grant{method: "publickey", key: ssh.FingerprintSHA256(key)}
		for _, o := range options {
			if err = g.option(o); err != nil {
				break
			}
		}
		if err != nil {
			bad(n, err)
			continue
		}
		each(key, g)
	}
}

func (g *grant) option(o string) error {
	name, value, hasValue := strings.Cut(o, "=")
	name = strings.ToLower(name)
	if hasValue {
		var err error
		if value, err = unquote(value); err != nil {
			return fmt.Errorf("option %s: %w", name, err)
		}
	}
	switch {
	case hasValue:
		return g.valueOption(name, value)
	case name == "restrict":
		g.noPTY, g.noForward, g.noAgent, g.noX11 = true, true, true, true
	case name == "pty", name == "no-pty":
		g.noPTY = name != "pty"
	case name == "port-forwarding", name == "no-port-forwarding":
		g.noForward = name != "port-forwarding"
	case name == "agent-forwarding", name == "no-agent-forwarding":
		g.noAgent = name != "agent-forwarding"
	case name == "x11-forwarding", name == "no-x11-forwarding":
		g.noX11 = name != "x11-forwarding"
	case name == "user-rc", name == "no-user-rc": // ~/.ssh/rc is never run
	case name == "cert-authority":
		g.authority = true
	case name == "no-touch-required":
		g.noTouch = true
	default:
		return fmt.Errorf("option %q is not known", name)
	}
	return nil
}

func (g *grant) valueOption(name, value string) error {
	switch name {
	case "command":
		if g.forced {
			return errors.New("option command is there twice")
		}
		g.forced, g.command = true, value
	case "from":
		if g.from != nil {
			return errors.New("option from is there twice")
		}
		g.from = strings.Split(value, ",") // of "" that is one that no address matches
	case "environment":
		if k, _, ok := strings.Cut(value, "="); !ok || k == "" {
			return fmt.Errorf("option environment: %q is not NAME=value", value)
		}
		g.env = append(g.env, value)
	case "permitopen":
		g.permitOpen = append(g.permitOpen, value)
	case "permitlisten":
		if !strings.Contains(value, ":") {
			value = "localhost:" + value
		}
		g.permitListen = append(g.permitListen, value)
	case "principals":
		if g.principals != nil {
			return errors.New("option principals is there twice")
		}
		g.principals = strings.Split(value, ",")
	case "expiry-time":
		t, err := parseExpiry(value)
		if err != nil {
			return err
		}
		if g.expires.IsZero() || t.Before(g.expires) {
			g.expires = t
		}
	default:
		return fmt.Errorf("option %q is not known", name)
	}
	return nil
}

// unquote takes the quotes off an option's value; inside them only \" is special.
func unquote(s string) (string, error) {
	inner, ok := strings.CutPrefix(s, `"`)
	if !ok {
		return s, nil
	}
	if inner, ok = strings.CutSuffix(inner, `"`); !ok {
		return "", errors.New("a quote is not closed")
	}
	return strings.ReplaceAll(inner, `\"`, `"`), nil
}

// parseExpiry reads YYYYMMDD[HHMM[SS]][Z], local time without the Z.
func parseExpiry(s string) (time.Time, error) {
	where := time.Local
	digits, utc := strings.CutSuffix(strings.ToUpper(s), "Z")
	if utc {
		where = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(digits) == len(layout) {
			if t, err := time.ParseInLocation(layout, digits, where); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("option expiry-time: %q is not YYYYMMDD[HHMM[SS]][Z]", s)
}

// allowsFrom tells whether an address matches from=: patterns with * and ?, networks, ! for those that must not match.
// Host names are not looked up: whoever owns the address says what its name is.
func allowsFrom(list []string, a netip.Addr) bool {
	if list == nil {
		return true
	}
	found := false
	for _, p := range list {
		p, not := strings.CutPrefix(strings.TrimSpace(p), "!")
		if !matchAddr(p, a) {
			continue
		}
		if not {
			return false
		}
		found = true
	}
	return found
}

func matchAddr(pattern string, a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	if p, err := netip.ParsePrefix(pattern); err == nil {
		return p.Masked().Contains(a)
	}
	if b, err := netip.ParseAddr(pattern); err == nil {
		return b.Unmap() == a
	}
	ok, err := path.Match(pattern, a.String())
	return ok && err == nil && !strings.ContainsAny(pattern, `[]\`)
}

// expandKeyPath replaces %h, %u and %% (sshd_config(5), TOKENS).
func expandKeyPath(p string, u *account) string {
	return strings.NewReplacer("%%", "%", "%h", u.home, "%u", u.name).Replace(p)
}

// personal tells whether a path of ssh.authorized_keys belongs to one user.
func personal(p string) bool {
	p = strings.ReplaceAll(p, "%%", "")
	return strings.Contains(p, "%h") || strings.Contains(p, "%u")
}

// readKeys reads a file of keys that u trusts. Whoever else may write to it, or to a directory on its way from home,
// could let himself in: it is refused then, as sshd's StrictModes does. Other than there, a group that is the user's own
// may: volumes with fsGroup are made so.
func (s *Server) readKeys(file string, u *account, strict bool) ([]byte, error) {
	var data []byte
	var st fs.FileInfo
	read := func() (err error) {
		data, st, err = readBounded(file, maxKeys)
		return err
	}
	var err error
	if u.own || u.virtual != nil {
		err = read()
	} else {
		err = as(u, read) // root may not be able to: home may be on a network file system
		if errors.Is(err, fs.ErrPermission) && !strict {
			err = read()
		}
	}
	if err != nil {
		return nil, err
	}
	if err := s.trusted(file, st, u); err != nil {
		return nil, err
	}
	home := filepath.Clean(u.home) // passwd(5) may have a slash at its end
	for dir := filepath.Dir(file); strict && dir != "/" && len(dir) >= len(home); dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil {
			return nil, err
		}
		if err := s.trusted(dir, st, u); err != nil {
			return nil, err
		}
		if dir == home {
			break
		}
	}
	return data, nil
}

func (s *Server) trusted(file string, st fs.FileInfo, u *account) error {
	mode := st.Mode()
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if owner := int(sys.Uid); owner != 0 && owner != u.uid && owner != s.accounts.uid {
		return fmt.Errorf("%s belongs to user %d; want root or %s", file, owner, u.name)
	}
	if mode.Perm()&0o002 != 0 && mode&fs.ModeSticky == 0 {
		return fmt.Errorf("%s has mode %04o: everybody can write to it", file, mode.Perm())
	}
	if gid := int(sys.Gid); mode.Perm()&0o020 != 0 && gid != 0 && gid != u.gid && !slices.Contains(u.groups, gid) && !s.ownGroup(u, gid) {
		return fmt.Errorf("%s has mode %04o: the group %d can write to it", file, mode.Perm(), gid)
	}
	return nil
}

// ownGroup tells whether the agent itself is in the group, which is what fsGroup does.
func (s *Server) ownGroup(u *account, gid int) bool {
	if !u.own {
		return false
	}
	groups, err := os.Getgroups()
	return err == nil && slices.Contains(groups, gid)
}
