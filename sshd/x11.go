package sshd

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

const (
	x11Port     = 6000
	x11First    = 10 // as sshd's X11DisplayOffset
	x11Displays = 100
)

// x11Forward is a display that is the client's (ssh -X): a port of the loopback, and a file with the cookie.
type x11Forward struct {
	u         *account
	display   string // DISPLAY
	authority string // XAUTHORITY
	dir       string
	ln        net.Listener
}

// x11Request is x11-req (RFC 4254, 6.3.1).
type x11Request struct {
	Single           bool
	Protocol, Cookie string
	Screen           uint32
}

// forwardX11 makes the display.
func (ss *session) forwardX11(payload []byte) bool {
	var r x11Request
	c := ss.c
	if ss.started || ss.x11 != nil || !c.cfg.X11Forward || c.grant.noX11 || ss.filesOnly() || ssh.Unmarshal(payload, &r) != nil {
		return false
	}
	cookie, err := hex.DecodeString(r.Cookie)
	if err != nil || len(r.Protocol) > 64 || len(cookie) > 256 {
		return false
	}
	x := &x11Forward{u: c.account}
	number := x11First
	for ; number < x11First+x11Displays; number++ {
		if x.ln, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(x11Port+number))); err == nil {
			break
		}
	}
	if err == nil {
		x.display = fmt.Sprintf("localhost:%d.%d", number, r.Screen)
		err = as(c.account, func() error { return x.authorize(number, r.Protocol, cookie) })
	}
	if err != nil {
		ss.log.Warn("cannot forward X11", "error", err)
		x.close()
		return false
	}
	ss.x11 = x
	ln := x.ln
	if r.Single {
		ln = &singleListener{Listener: ln}
	}
	c.serveListener(ln, "x11", func(from net.Conn) []byte {
		host, port := hostPort(from.RemoteAddr())
		p, _ := strconv.ParseUint(port, 10, 16)
		return ssh.Marshal(struct {
			Origin string
			Port   uint32
		}{host, uint32(p)})
	})
	return true
}

// authorize writes the cookie into a file of its own, in the format of Xau's FamilyWild: images need no xauth, and two
// sessions do not meet in ~/.Xauthority.
func (x *x11Forward) authorize(number int, protocol string, cookie []byte) error {
	var err error
	if x.dir, err = os.MkdirTemp("", "ssh-"); err != nil { // 0700
		return err
	}
	x.authority = filepath.Join(x.dir, "xauthority")
	const familyWild = 65535
	b := binary.BigEndian.AppendUint16(nil, familyWild)
	for _, field := range []string{"", strconv.Itoa(number), protocol, string(cookie)} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
		b = append(b, field...)
	}
	return os.WriteFile(x.authority, b, 0o600)
}

func (x *x11Forward) close() {
	if x.ln != nil {
		_ = x.ln.Close()
	}
	if x.dir != "" && strings.HasPrefix(filepath.Base(x.dir), "ssh-") {
		_ = as(x.u, func() error { return os.RemoveAll(x.dir) })
	}
}

// singleListener takes one connection and no more.
type singleListener struct{ net.Listener }

// Accept implements net.Listener.
func (s *singleListener) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		_ = s.Close()
	}
	return c, err
}
