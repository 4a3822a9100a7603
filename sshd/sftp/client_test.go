package sftp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/inpod/inpod/sshd/files"
)

// TestMain lets the test binary stand in for ssh: the clients of Debian start it, and it serves them as the
// environment says.
func TestMain(m *testing.M) {
	if root, ok := os.LookupEnv("SFTP_TEST_ROOT"); ok {
		opts := Options{Root: root, Access: files.ReadWrite, Home: os.Getenv("SFTP_TEST_HOME")}
		if err := Serve(context.Background(), stdio{}, opts); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type stdio struct{}

func (stdio) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (stdio) Close() error                { return os.Stdin.Close() }

// client speaks the protocol packet by packet.
type client struct {
	t    *testing.T
	conn io.ReadWriteCloser
	id   uint32
	done chan error // what Serve returned
}

// start serves a client that has said hello.
func start(t *testing.T, opts Options) *client {
	t.Helper()
	c := dial(t, opts)
	c.hello()
	return c
}

func dial(t *testing.T, opts Options) *client {
	t.Helper()
	a, b := pair(t)
	c := &client{t: t, conn: a, done: make(chan error, 1)}
	go func() {
		c.done <- Serve(t.Context(), b, opts)
		b.Close()
	}()
	t.Cleanup(func() { c.conn.Close() })
	return c
}

// pair is a connection with buffers, which a client that sends ahead needs.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// end closes the stream and returns what Serve did.
func (c *client) end() error {
	c.conn.Close()
	select {
	case err := <-c.done:
		return err
	case <-time.After(time.Minute):
		return errors.New("the server goes on after its client left")
	}
}

func (c *client) hello() {
	c.t.Helper()
	c.send([]byte{typeInit, 0, 0, 0, protocolVersion})
	if p := c.receive(); p[0] != typeVersion {
		c.t.Fatalf("answer to INIT is of type %d, want %d", p[0], typeVersion)
	}
}

func (c *client) send(p []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(append(appendUint32(nil, uint32(len(p))), p...)); err != nil {
		c.t.Fatalf("cannot send: %v", err)
	}
}

func (c *client) receive() []byte {
	c.t.Helper()
	p, err := readPacket(c.conn)
	if err != nil {
		c.t.Fatalf("cannot receive: %v", err)
	}
	return p
}

func readPacket(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxPacket {
		return nil, fmt.Errorf("a packet of %d bytes", n)
	}
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	return p, err
}

// request builds a packet: strings with their length, byte slices as they are, numbers by their type.
func (c *client) request(kind byte, args ...any) []byte {
	c.id++
	p := appendUint32([]byte{kind}, c.id)
	for _, a := range args {
		switch a := a.(type) {
		case string:
			p = appendString(p, a)
		case []byte:
			p = append(p, a...)
		case uint32:
			p = appendUint32(p, a)
		case uint64:
			p = appendUint64(p, a)
		case attrs:
			p = appendAttrs(p, a)
		default:
			c.t.Fatalf("BUG: argument of type %T", a)
		}
	}
	return p
}

// ask sends a request and returns its answer without type and id.
func (c *client) ask(kind byte, args ...any) (byte, *parser) {
	c.t.Helper()
	c.send(c.request(kind, args...))
	return c.answer()
}

func (c *client) answer() (byte, *parser) {
	c.t.Helper()
	p := c.receive()
	q := &parser{b: p[1:]}
	if id := q.uint32(); id != c.id {
		c.t.Fatalf("the answer has id %d, want %d", id, c.id)
	}
	return p[0], q
}

// code asks and returns the status; an answer that is none is OK.
func (c *client) code(kind byte, args ...any) uint32 {
	c.t.Helper()
	code, _ := c.said(kind, args...)
	return code
}

func (c *client) said(kind byte, args ...any) (uint32, string) {
	c.t.Helper()
	got, q := c.ask(kind, args...)
	if got != typeStatus {
		return statusOK, ""
	}
	return q.uint32(), q.string()
}

// open returns the handle, and fails the test without one.
func (c *client) open(path string, pflags uint32) string {
	c.t.Helper()
	kind, q := c.ask(typeOpen, path, pflags, attrs{})
	if kind != typeHandle {
		c.t.Fatalf("OPEN %q: status %d %q", path, q.uint32(), q.string())
	}
	return q.string()
}

func (c *client) must(kind byte, args ...any) {
	c.t.Helper()
	if code, text := c.said(kind, args...); code != statusOK {
		c.t.Fatalf("request of type %d %q: status %d %q", kind, args, code, text)
	}
}

func all() Options { return Options{Access: files.ReadWrite} }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
