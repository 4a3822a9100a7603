package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/traffic"
)

// wsCase is what one side sends in one go. The other side sends the same at the same time.
type wsCase struct {
	name   string
	frames []traffic.Frame
	raw    []byte // instead of frames
	step   int    // bytes a write; 0: all
}

func (c *wsCase) bytes(masked bool) []byte {
	if c.raw != nil {
		return c.raw
	}
	var b []byte
	for _, f := range c.frames {
		b = f.Append(b, masked)
	}
	return b
}

// wsCases follow the sections of the Autobahn test suite.
func wsCases() []*wsCase {
	const fin = traffic.Fin
	var cases []*wsCase
	add := func(name string, step int, frames ...traffic.Frame) {
		cases = append(cases, &wsCase{name: name, step: step, frames: frames})
	}
	sizes := []int{0, 1, 2, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 20, 16 << 20}
	for _, n := range sizes {
		add(fmt.Sprintf("1.1 text of %d bytes", n), 0, traffic.Frame{Bits: fin | traffic.Text, Payload: bytes.Repeat([]byte{'*'}, n)})
		add(fmt.Sprintf("1.2 binary of %d bytes", n), 0, traffic.Frame{Bits: fin | traffic.Binary, Payload: traffic.Pattern("\xfe\xff", n)})
	}
	add("1.1.8 text of 65536 bytes in writes of 997", 997, traffic.Frame{Bits: fin | traffic.Text, Payload: bytes.Repeat([]byte{'*'}, 65536)})
	for _, n := range []int{0, 5, 125, 126} {
		add(fmt.Sprintf("2 ping and pong of %d bytes", n), 0, traffic.Frame{Bits: fin | traffic.Ping, Payload: bytes.Repeat([]byte{0xfe}, n)},
			traffic.Frame{Bits: fin | traffic.Pong, Payload: bytes.Repeat([]byte{0xfe}, n)})
		add(fmt.Sprintf("2 ping of %d bytes, byte by byte", n), 1, traffic.Frame{Bits: fin | traffic.Ping, Payload: bytes.Repeat([]byte{0xfe}, n)})
	}
	for bits := byte(0); bits < 8; bits++ {
		add(fmt.Sprintf("3 reserved bits %d", bits), 0, traffic.Frame{Bits: fin | bits<<4 | traffic.Text, Payload: []byte("hello")})
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		add(fmt.Sprintf("4 opcode %d", op), 0, traffic.Frame{Bits: fin | op, Payload: []byte("hello")}, traffic.Frame{Bits: fin | traffic.Text, Payload: []byte("more")})
	}
	text := []byte("κόσμε €uro 𝄞 \xf4\x8f\xbf\xbf, and \xf0\x90\x80 that is no UTF-8")
	for _, step := range []int{0, 1} {
		var pieces, interleaved []traffic.Frame
		for i := range text {
			bits := byte(traffic.Continued)
			if i == 0 {
				bits = traffic.Text
			}
			if i == len(text)-1 {
				bits |= fin
			}
			pieces = append(pieces, traffic.Frame{Bits: bits, Payload: text[i : i+1]})
			interleaved = append(interleaved, traffic.Frame{Bits: fin | traffic.Ping, Payload: fmt.Append(nil, i)}, pieces[i])
		}
		add(fmt.Sprintf("6 text in pieces of a byte, writes of %d", step), step, pieces...)
		add(fmt.Sprintf("5 pings between the pieces, writes of %d", step), step, interleaved...)
	}
	add("5.9 continuation of nothing", 0, traffic.Frame{Bits: fin | traffic.Continued, Payload: []byte("x")})
	add("5.1 ping in two pieces", 0, traffic.Frame{Bits: traffic.Ping, Payload: []byte("a")}, traffic.Frame{Bits: fin | traffic.Continued, Payload: []byte("b")})
	for _, code := range []int{0, 999, 1000, 1001, 1005, 1011, 1016, 2000, 3000, 4999, 65535} {
		add(fmt.Sprintf("7 close with %d", code), 0, traffic.CloseFrame(code, "why not"))
	}
	add("7.1 message after close", 0, traffic.CloseFrame(1000, ""), traffic.Frame{Bits: fin | traffic.Text, Payload: []byte("late")})
	add("7.3 close with one byte", 0, traffic.Frame{Bits: fin | traffic.Close, Payload: []byte{3}})
	add("7.3 empty close", 0, traffic.Frame{Bits: fin | traffic.Close})
	cases = append(cases, &wsCase{name: "length in more bytes than needed", raw: append([]byte{0x82, 127, 0, 0, 0, 0, 0, 0, 0, 5}, "hello"...)},
		&wsCase{name: "no frames at all", raw: []byte("\x00hello\xff GET / HTTP/1.1\r\n\r\n"), step: 3})
	var many, small []traffic.Frame
	for i := range 4 << 20 / 1024 {
		bits := byte(traffic.Continued)
		if i == 0 {
			bits = traffic.Binary
		}
		many = append(many, traffic.Frame{Bits: bits, Payload: traffic.Pattern(strconv.Itoa(i), 1024)})
	}
	add("9.3 4 MB in pieces of 1 KB", 0, append(many, traffic.Frame{Bits: fin | traffic.Continued})...)
	for i := range 10_000 {
		small = append(small, traffic.Frame{Bits: fin | traffic.Text, Payload: fmt.Append(nil, "message ", i)})
	}
	add("9.7 10,000 messages, writes of 1400", 1400, small...)
	return cases
}

// tcpServer calls serve for each connection, for the length of the test.
func tcpServer(t *testing.T, serve func(c *net.TCPConn, br *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				serve(c.(*net.TCPConn), bufio.NewReaderSize(c, 32<<10))
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// exchange sends one side's bytes, in steps, while it compares what comes from the other side.
func exchange(c net.Conn, r io.Reader, send, want []byte, step int) error {
	sent := make(chan error, 1)
	go func() {
		if step == 0 {
			step = len(send)
		}
		for len(send) > 0 {
			n := min(step, len(send))
			if _, err := c.Write(send[:n]); err != nil {
				sent <- fmt.Errorf("cannot send: %w", err)
				return
			}
			send = send[n:]
		}
		sent <- nil
	}()
	got := make([]byte, len(want))
	n, err := io.ReadFull(r, got)
	if err != nil && len(want) > 0 {
		return fmt.Errorf("got %d of %d bytes: %w", n, len(want), err)
	}
	if sha256.Sum256(got) != sha256.Sum256(want) {
		return fmt.Errorf("%d bytes that are not the ones that were sent", n)
	}
	return <-sent
}

// Every frame, sound or not, comes out on the other side as it went in, in both directions at once, as the Autobahn
// test suite's cases have them.
func TestWebSocketFramesPass(t *testing.T) {
	t.Parallel()
	cases := wsCases()
	client := make([][]byte, len(cases)) // masked, so each is made once
	for i, c := range cases {
		client[i] = c.bytes(true)
	}
	ended := make(chan struct{}, len(cases))
	up := tcpServer(t, func(c *net.TCPConn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return // a health check
		}
		defer func() { ended <- struct{}{} }()
		i, _ := strconv.Atoi(strings.TrimPrefix(req.URL.Path, "/case/"))
		ws, err := traffic.Accept(c, br, req, "")
		if err == nil {
			err = exchange(c, ws.R, cases[i].bytes(false), client[i], cases[i].step)
		}
		if err != nil {
			t.Errorf("%s: upstream: %v", cases[i].name, err)
		}
		_ = c.CloseWrite()
		if _, err := io.Copy(io.Discard, br); err != nil {
			t.Errorf("%s: upstream, at the end: %v", cases[i].name, err)
		}
	})
	_, addr := startProxy(t, setup{static: true}, route{"upstream": up})
	for i, c := range cases {
		ws, err := traffic.Dial(addr, fmt.Sprintf("/case/%d", i), "")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		_ = ws.SetDeadline(time.Now().Add(patience))
		if err := exchange(ws, ws.R, client[i], c.bytes(false), c.step); err != nil {
			t.Errorf("%s: client: %v", c.name, err)
		}
		if rest, err := io.ReadAll(ws.R); err != nil || len(rest) > 0 {
			t.Errorf("%s: client: got %q, %v at the end, want it to be closed", c.name, rest, err)
		}
		ws.Close()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatalf("%s: the upstream does not hear that the client has gone", c.name)
		}
	}
	t.Logf("%d cases", len(cases))
}

// What stands around the frames: the handshake, what is sent together with it, and the end.
func TestWebSocketHandshakeAndEnd(t *testing.T) {
	t.Parallel()
	hello := traffic.Frame{Bits: traffic.Fin | traffic.Text, Payload: []byte("hello from the server")}
	early := traffic.Frame{Bits: traffic.Fin | traffic.Text, Payload: []byte("hello from the client")}
	ends := make(chan string, 16)
	up := tcpServer(t, func(c *net.TCPConn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			switch {
			case req.URL.Path == "/refuse":
				io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nX-Why: no\r\nContent-Length: 4\r\n\r\nno.\n")
				continue
			case !traffic.Upgrades(req) || req.Header.Get("Upgrade") == "":
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Upgrade: %q\r\n\r\n%s", len(req.URL.Path), req.Header["Upgrade"], req.URL.Path)
				continue
			}
			ws, err := traffic.Accept(c, br, req, "Sec-WebSocket-Protocol: "+req.Header.Get("Sec-WebSocket-Protocol")+
				"\r\nSec-WebSocket-Extensions: "+req.Header.Get("Sec-WebSocket-Extensions")+"\r\n", hello)
			if err != nil {
				return
			}
			f, err := traffic.ReadFrame(ws.R)
			if err != nil || string(f.Payload) != string(early.Payload) {
				ends <- fmt.Sprintf("early frame: %q, %v", f.Payload, err)
			}
			if req.URL.Path == "/reset" {
				_ = c.SetLinger(0)
				return
			}
			_, err = traffic.ReadFrame(ws.R)
			ends <- fmt.Sprint(err)
			return
		}
	})
	_, addr := startProxy(t, setup{}, route{"upstream": up}, route{"path": "/off", "upstream": up, "websocket": false})
	ws, err := traffic.Dial(addr, "/ws", "Sec-WebSocket-Protocol: v1.kernel, b\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", early)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	_ = ws.SetDeadline(time.Now().Add(patience))
	if p, e := ws.Resp.Header.Get("Sec-WebSocket-Protocol"), ws.Resp.Header.Get("Sec-WebSocket-Extensions"); p != "v1.kernel, b" ||
		e != "permessage-deflate; client_max_window_bits" {
		t.Errorf("got the protocols %q and extensions %q, want them passed on", p, e)
	}
	if f, err := traffic.ReadFrame(ws.R); err != nil || string(f.Payload) != string(hello.Payload) {
		t.Errorf("the frame behind the handshake: got %q, %v", f.Payload, err)
	}
	_ = ws.CloseWrite()
	if got := <-ends; got != "EOF" {
		t.Errorf("the upstream saw %q when the client closed, want EOF", got)
	}
	if _, err := ws.R.ReadByte(); err != io.EOF {
		t.Errorf("the client got %v when the upstream closed, want EOF", err)
	}
	ws, err = traffic.Dial(addr, "/reset", "", early)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	_ = ws.SetDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, ws.R); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the client got %v when the upstream reset the connection, want a reset", err)
	}
	ws, err = traffic.Dial(addr, "/refuse", "")
	if ws == nil || ws.Resp.StatusCode != 403 || ws.Resp.Header.Get("X-Why") != "no" {
		t.Fatalf("a refused handshake: got %v, want the upstream's 403", err)
	}
	defer ws.Close()
	if body, err := io.ReadAll(ws.Resp.Body); string(body) != "no.\n" {
		t.Errorf("a refused handshake: got the body %q, %v", body, err)
	}
	fmt.Fprintf(ws, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp, err := http.ReadResponse(ws.R, nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("the request after a refused handshake, on the same connection: %v", err)
	}
	ws, err = traffic.Dial(addr, "/off", "")
	if ws == nil || ws.Resp.StatusCode != 200 || ws.Resp.Header.Get("X-Upgrade") != "[]" {
		t.Errorf("a handshake where WebSockets are off: got %v, want a request without Upgrade", err)
	} else {
		ws.Close()
	}
}

// The pod goes while a frame is on its way: the frame comes to its end, and Close 1001 after it.
func TestWebSocketClosesAtAFrameBoundary(t *testing.T) {
	t.Parallel()
	rest := make(chan struct{})
	frame := traffic.Frame{Bits: traffic.Fin | traffic.Binary, Payload: traffic.Pattern("x", 100_000)}
	up := tcpServer(t, func(c *net.TCPConn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if _, err := traffic.Accept(c, br, req, ""); err != nil {
			return
		}
		b := frame.Append(nil, false)
		if req.URL.Path == "/whole" {
			_, _ = c.Write(b)
		} else {
			cut := len(b) / 2
			if req.URL.Path == "/head" {
				cut = 1
			}
			_, _ = c.Write(b[:cut])
			<-rest
			_, _ = c.Write(b[cut:])
		}
		_, _ = io.Copy(io.Discard, br)
	})
	a, addr := startProxy(t, setup{env: []string{"INPOD_DRAIN_DELAY=0s", "INPOD_DRAIN_DEADLINE=50s"}}, route{"upstream": up})
	var open []*traffic.WebSocket
	for _, path := range []string{"/whole", "/half", "/head"} {
		ws, err := traffic.Dial(addr, path, "")
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		_ = ws.SetDeadline(time.Now().Add(patience))
		if b, err := ws.R.Peek(1); err != nil {
			t.Fatalf("%s: got %x, %v", path, b, err)
		}
		open = append(open, ws)
	}
	if err := a.d.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for i, ws := range open {
		f, err := traffic.ReadFrame(ws.R)
		if err != nil || f.Bits != frame.Bits || !bytes.Equal(f.Payload, frame.Payload) {
			t.Errorf("WebSocket %d: got a frame %x of %d bytes, %v; want the one that was on its way", i, f.Bits, len(f.Payload), err)
			continue
		}
		f, err = traffic.ReadFrame(ws.R)
		if err != nil || f.Opcode() != traffic.Close || f.CloseCode() != 1001 {
			t.Errorf("WebSocket %d: got %x with %q, %v; want Close 1001", i, f.Bits, f.Payload, err)
		}
		_ = ws.Send(f)
		if i == 0 {
			close(rest) // the first was told: so the agent is at it
		}
	}
	a.wantExit("exit 0")
}
