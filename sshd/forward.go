package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

const (
	dialTime     = 10 * time.Second
	maxListeners = 64 // of remote forwardings of one connection
	userPorts    = 1024
)

// denied logs and counts a forwarding that is not permitted.
func (c *conn) denied(kind, target string) {
	c.s.counts.denied.Add(1)
	c.log.Warn("forwarding refused", "kind", kind, "target", clipCommand(target))
}

// mayForward tells whether this login may forward at all.
func (c *conn) mayForward() bool {
	v := c.account.virtual
	return !c.grant.noForward && (v == nil || !v.SFTPOnly && v.Root == "")
}

// mayOpen tells whether the client may connect to an address: the settings and the key must both permit it.
func (c *conn) mayOpen(host string, port uint32) bool {
	return c.mayForward() && permitted(c.cfg.PermitLocalForward, host, port) &&
		(c.grant.permitOpen == nil || permitted(c.grant.permitOpen, host, port))
}

// directTCP connects to an address (RFC 4254, 7.2).
func (c *conn) directTCP(n ssh.NewChannel) {
	var d struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if ssh.Unmarshal(n.ExtraData(), &d) != nil || d.Port == 0 || d.Port > 65535 {
		_ = n.Reject(ssh.ConnectionFailed, "bad address")
		return
	}
	target := net.JoinHostPort(d.Host, strconv.FormatUint(uint64(d.Port), 10))
	if !c.mayOpen(d.Host, d.Port) {
		c.denied("direct-tcpip", target)
		_ = n.Reject(ssh.Prohibited, "administratively prohibited")
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, dialTime)
	defer cancel()
	var dialer net.Dialer
	out, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		c.log.Info("cannot forward", "target", target, "error", err)
		_ = n.Reject(ssh.ConnectionFailed, connectError(err))
		return
	}
	c.splice(n, out, "direct-tcpip", target)
}

// connectError is what the client is told: the reason, without our names for things.
func connectError(err error) string {
	for _, e := range []unix.Errno{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ETIMEDOUT, unix.EACCES, unix.ENOENT} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return "cannot connect"
}

// directUnix connects to a unix socket (PROTOCOL of OpenSSH, 2.4) with the rights of the user.
func (c *conn) directUnix(n ssh.NewChannel) {
	var d struct {
		Path  string
		Extra string
		Port  uint32
	}
	if ssh.Unmarshal(n.ExtraData(), &d) != nil {
		_ = n.Reject(ssh.ConnectionFailed, "bad path")
		return
	}
	if !c.mayForward() || c.grant.permitOpen != nil || !permittedPath(c.cfg.PermitLocalForward, d.Path) {
		c.denied("direct-streamlocal", d.Path)
		_ = n.Reject(ssh.Prohibited, "administratively prohibited")
		return
	}
	out, err := dialUnix(c.account, d.Path)
	if err != nil {
		c.log.Info("cannot forward", "target", d.Path, "error", err)
		_ = n.Reject(ssh.ConnectionFailed, connectError(err))
		return
	}
	c.splice(n, out, "direct-streamlocal", d.Path)
}

// dialUnix connects as the user: the kernel then judges, and tells the other side, who it is.
func dialUnix(u *account, path string) (net.Conn, error) {
	if u.own {
		return net.DialTimeout("unix", path, dialTime)
	}
	var c net.Conn
	err := as(u, func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), path)
		defer f.Close()
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return err // EAGAIN too: its queue is full
		}
		c, err = net.FileConn(f)
		return err
	})
	return c, err
}

// splice accepts the channel and copies both ways until both sides have ended.
func (c *conn) splice(n ssh.NewChannel, out net.Conn, kind, target string) {
	defer out.Close()
	ch, requests, err := n.Accept()
	if err != nil {
		return
	}
	c.join(ch, requests, out, kind, target)
}

// join copies both ways. The end of one direction is passed on as such (half-close); what is left runs on, until the client
// closes the channel.
func (c *conn) join(ch ssh.Channel, requests <-chan *ssh.Request, out net.Conn, kind, target string) {
	closed, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(closed)
		ssh.DiscardRequests(requests)
	}()
	c.s.counts.forwards.Add(1)
	c.forwards.Add(1)
	defer c.forwards.Add(-1)
	c.log.Info("forward", "kind", kind, "target", clipCommand(target))
	stop := context.AfterFunc(c.ctx, func() { _ = out.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Add(2)
	go func() {
		defer both.Done()
		c.copy(out, ch)
		if w, ok := out.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite()
		}
		// The other side may not mind the end of its input, and say nothing any more.
		select {
		case <-closed:
			_ = out.Close()
		case <-done:
		}
	}()
	go func() {
		defer both.Done()
		defer close(done)
		if !c.copy(ch, out) {
			_ = out.Close() // the client has closed the channel: nothing can be written to it any more
		}
		_ = ch.CloseWrite()
	}()
	both.Wait()
	_ = ch.Close()
	_ = out.Close()
}

// copy copies until the end. It tells false when the writer is what failed.
func (c *conn) copy(to io.Writer, from io.Reader) bool {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			c.touch()
			if _, werr := to.Write(buf[:n]); werr != nil {
				return false
			}
		}
		if err != nil {
			return true
		}
		if n == len(buf) && n < bufferSize {
			buf = make([]byte, bufferSize)
		}
	}
}

// forwardTCP listens for the client (RFC 4254, 7.1).
func (c *conn) forwardTCP(r *ssh.Request) {
	var f struct {
		Host string
		Port uint32
	}
	if ssh.Unmarshal(r.Payload, &f) != nil || f.Port > 65535 {
		_ = r.Reply(false, nil)
		return
	}
	host, ok := c.mayListen(f.Host, f.Port)
	target := net.JoinHostPort(f.Host, strconv.FormatUint(uint64(f.Port), 10))
	if !ok {
		c.denied("tcpip-forward", target)
		_ = r.Reply(false, nil)
		return
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.FormatUint(uint64(f.Port), 10)))
	if err != nil {
		c.log.Info("cannot listen for a client", "target", target, "error", err)
		_ = r.Reply(false, nil)
		return
	}
	port := uint32(ln.Addr().(*net.TCPAddr).Port)
	if !c.keepListener(tcpKey(f.Host, port), ln) {
		_ = r.Reply(false, nil)
		return
	}
	c.log.Info("listening for a client", "address", ln.Addr().String())
	if f.Port == 0 {
		_ = r.Reply(true, ssh.Marshal(struct{ Port uint32 }{port}))
	} else {
		_ = r.Reply(true, nil)
	}
	c.serveListener(ln, "forwarded-tcpip", func(from net.Conn) []byte {
		origin, originPort := hostPort(from.RemoteAddr())
		p, _ := strconv.ParseUint(originPort, 10, 16)
		return ssh.Marshal(struct {
			Host       string
			Port       uint32
			Origin     string
			OriginPort uint32
		}{f.Host, port, origin, uint32(p)})
	})
}

func tcpKey(host string, port uint32) string {
	return "tcp " + host + " " + strconv.FormatUint(uint64(port), 10)
}

// mayListen tells where to listen for what the client asked for. Every interface is what it has to be permitted for; a
// client that may have the loopback alone gets that, as with sshd's GatewayPorts=no.
func (c *conn) mayListen(host string, port uint32) (string, bool) {
	if !c.mayForward() || port != 0 && port < userPorts && !(c.account.own && c.s.accounts.uid == 0) {
		return "", false
	}
	may := func(host string) bool {
		return permitted(c.cfg.PermitRemoteForward, host, port) && (c.grant.permitListen == nil || permitted(c.grant.permitListen, host, port))
	}
	switch host {
	case "", "*", "0.0.0.0", "::":
		if host == "" || host == "*" {
			host = "0.0.0.0"
		}
		if may(host) {
			return strings.Replace(host, "0.0.0.0", "", 1), true
		}
		return "127.0.0.1", may("127.0.0.1")
	case "localhost":
		return "127.0.0.1", may("localhost") || may("127.0.0.1")
	case "127.0.0.1", "::1":
		return host, may(host)
	}
	return host, may(host)
}

// keepListener remembers a listener until it is cancelled or the connection ends.
func (c *conn) keepListener(key string, ln net.Listener) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil || len(c.listeners) >= maxListeners || c.listeners[key] != nil {
		_ = ln.Close()
		return false
	}
	c.listeners[key] = ln
	return true
}

// serveListener opens a channel to the client for each connection that comes.
func (c *conn) serveListener(ln net.Listener, kind string, describe func(net.Conn) []byte) {
	c.work.Add(1)
	go func() {
		defer c.work.Done()
		defer c.s.recovered("a listener")
		for {
			from, err := ln.Accept()
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				<-time.After(100 * time.Millisecond) // out of descriptors
				continue
			}
			if c.channels.Add(1) > maxChannels {
				c.channels.Add(-1)
				_ = from.Close()
				continue
			}
			c.work.Add(1)
			go func() {
				defer c.work.Done()
				defer c.channels.Add(-1)
				defer from.Close()
				c.toClient(from, kind, describe(from))
			}()
		}
	}()
}

func (c *conn) toClient(from net.Conn, kind string, data []byte) {
	ch, requests, err := c.ssh.OpenChannel(kind, data)
	if err != nil {
		return
	}
	c.join(ch, requests, from, kind, from.LocalAddr().String())
}

func (c *conn) cancelTCP(r *ssh.Request) {
	var f struct {
		Host string
		Port uint32
	}
	ok := ssh.Unmarshal(r.Payload, &f) == nil && c.dropListener(tcpKey(f.Host, f.Port))
	_ = r.Reply(ok, nil)
}

func (c *conn) dropListener(key string) bool {
	c.mu.Lock()
	ln := c.listeners[key]
	delete(c.listeners, key)
	c.mu.Unlock()
	// Without the lock: the socket may be on a file system that hangs.
	return ln != nil && ln.Close() == nil
}

func (c *conn) closeListeners() {
	c.mu.Lock()
	listeners := make([]net.Listener, 0, len(c.listeners))
	for _, ln := range c.listeners {
		listeners = append(listeners, ln)
	}
	clear(c.listeners)
	c.mu.Unlock()
	for _, ln := range listeners {
		_ = ln.Close()
	}
}

// forwardUnix listens on a unix socket for the client (PROTOCOL of OpenSSH, 2.4).
func (c *conn) forwardUnix(r *ssh.Request) {
	path, ok := stringOf(r.Payload)
	if !ok || !c.mayForward() || c.grant.permitListen != nil || !permittedPath(c.cfg.PermitRemoteForward, path) {
		c.denied("streamlocal-forward", path)
		_ = r.Reply(false, nil)
		return
	}
	ln, err := listenUnix(c.account, path)
	if err != nil {
		c.log.Info("cannot listen for a client", "target", path, "error", err)
		_ = r.Reply(false, nil)
		return
	}
	if !c.keepListener("unix "+path, ln) {
		_ = r.Reply(false, nil)
		return
	}
	c.log.Info("listening for a client", "address", path)
	_ = r.Reply(true, nil)
	c.serveListener(ln, "forwarded-streamlocal@openssh.com", func(net.Conn) []byte {
		return ssh.Marshal(struct{ Path, Extra string }{path, ""})
	})
}

func (c *conn) cancelUnix(r *ssh.Request) {
	path, ok := stringOf(r.Payload)
	_ = r.Reply(ok && c.dropListener("unix "+path), nil)
}

// userSocket is a unix socket that is made and removed with the rights of a user.
type userSocket struct {
	net.Listener
	u    *account
	path string
	once sync.Once
	err  error
}

// Close implements net.Listener.
func (s *userSocket) Close() error {
	s.once.Do(func() {
		_ = as(s.u, func() error { return os.Remove(s.path) }) // it may be gone
		s.err = s.Listener.Close()
	})
	return s.err
}

// listenUnix makes a socket that only the user can connect to. What is there already is not replaced.
func listenUnix(u *account, path string) (net.Listener, error) {
	var ln net.Listener
	err := as(u, func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), path)
		defer f.Close()
		// The mode of the descriptor is that of the name which bind makes (unix(7) has it of Linux).
		if err := unix.Fchmod(fd, 0o600); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return fmt.Errorf("cannot bind %s: %w", filepath.Base(path), err)
		}
		if err := unix.Listen(fd, 128); err != nil {
			return err
		}
		ln, err = net.FileListener(f)
		return err
	})
	if err != nil {
		return nil, err
	}
	if l, ok := ln.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
	return &userSocket{Listener: ln, u: u, path: path}, nil
}
