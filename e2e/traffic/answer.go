package traffic

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// answer does what a request asks for and tells whether the connection can be used again.
func (s *Server) answer(c *net.TCPConn, br *bufio.Reader, req *http.Request) bool {
	if req.URL.Path == "/health" {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		return true
	}
	if Upgrades(req) {
		s.echo(c, br, req)
		return false
	}
	a, err := parseAsk(req.Method, req.URL)
	if err != nil {
		s.fault("%s %s: %v", req.Method, req.URL, err)
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		return false
	}
	s.count(a.ID)
	if id := req.Header.Get("X-Id"); id != a.ID {
		s.fault("the request %s has the id %s in its header", a.ID, id)
	}
	w := bufio.NewWriter(c)
	if a.Mode == Early || a.Mode == Hasty || a.Mode == Echo {
		return s.duplex(c, w, req, a)
	}
	if !s.readBody(req, a) {
		return false
	}
	if a.Mode == Events {
		return events(w, a)
	}
	if d := s.Delay + time.Duration(a.Delay)*time.Millisecond; d > 0 {
		<-time.After(d)
	}
	if a.Broken() {
		breakOff(c, w, br, a)
		return false
	}
	if a.Mode == Leaves {
		reply(c, w, a)
		s.hangUp(c, br)
		return false
	}
	return reply(c, w, a)
}

// readBody reads the request's body and compares it.
func (s *Server) readBody(req *http.Request, a *Ask) bool {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return false // a client that went away
	}
	want := []byte{}
	if a.Up > 0 {
		want = Pattern(a.ID, a.Up)
	}
	if !bytes.Equal(body, want) {
		s.fault("the body of %s has %d bytes, want %d; %s", a.ID, len(body), len(want), differs(body, want))
		return false
	}
	return true
}

func head(w *bufio.Writer, a *Ask, fields string) {
	fmt.Fprintf(w, "HTTP/1.1 %d Whatever\r\nX-Id: %s\r\n%s\r\n", a.status(), a.ID, fields)
}

func chunks(w *bufio.Writer, body []byte) {
	for i := 1; len(body) > 0; i++ {
		n := min(len(body), 1+i*i*i*53%9000)
		fmt.Fprintf(w, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
		if i%3 == 0 {
			w.Flush()
		}
	}
}

func reply(c *net.TCPConn, w *bufio.Writer, a *Ask) bool {
	body := Pattern(a.ID, a.Size)
	length := fmt.Sprintf("Content-Length: %d\r\n", a.Size)
	hasBody := a.Method != http.MethodHead
	switch a.Mode {
	case NoBody:
		head(w, a, "")
	case Same:
		head(w, a, length)
	case Chunked, Trailers:
		trailer := ""
		if a.Mode == Trailers {
			trailer = "Trailer: X-Sum\r\n"
		}
		head(w, a, trailer+"Transfer-Encoding: chunked\r\n")
		if !hasBody {
			break
		}
		chunks(w, body)
		w.WriteString("0\r\n")
		if a.Mode == Trailers {
			fmt.Fprintf(w, "X-Sum: %s\r\n", a.ID)
		}
		w.WriteString("\r\n")
	case ToClose:
		head(w, a, "Connection: close\r\n")
		if hasBody {
			w.Write(body)
		}
		w.Flush()
		return false
	case Leaves:
		// The answer and the end of the connection arrive together: whoever looks before he sends sees it.
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, 1) })
		}
		head(w, a, length)
		if hasBody {
			w.Write(body)
		}
		w.Flush()
		return false
	default:
		head(w, a, length)
		if hasBody {
			w.Write(body)
		}
	}
	return w.Flush() == nil
}

// breakOff answers as a broken server does.
func breakOff(c *net.TCPConn, w *bufio.Writer, br *bufio.Reader, a *Ask) {
	body := Pattern(a.ID, a.Size)
	half := body[:len(body)/2]
	length := fmt.Sprintf("Content-Length: %d\r\n", a.Size)
	switch a.Mode {
	case Reset:
		head(w, a, length)
		w.Write(half)
		w.Flush()
		_ = c.SetLinger(0)
	case Short:
		head(w, a, length)
		w.Write(half)
	case Cut:
		head(w, a, "Transfer-Encoding: chunked\r\n")
		fmt.Fprintf(w, "%x\r\n%s", len(body), half)
	case Garbage:
		fmt.Fprintf(w, "\x00\x01\x02 220 this is %s and no HTTP\r\n\r\n", a.ID)
	case HalfHead:
		fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Le", a.ID)
	case Hangs:
		_, _ = io.Copy(io.Discard, br) // until the other side gives up
	case Mute:
	}
	w.Flush()
}

// events sends them one by one.
func events(w *bufio.Writer, a *Ask) bool {
	head(w, a, "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n")
	tick := time.NewTicker(max(time.Duration(a.Delay)*time.Millisecond, 1))
	defer tick.Stop()
	for i := range a.Size {
		e := a.event(i)
		fmt.Fprintf(w, "%x\r\n%s\r\n", len(e), e)
		if w.Flush() != nil {
			return false
		}
		if i < a.Size-1 {
			<-tick.C
		}
	}
	w.WriteString("0\r\n\r\n")
	return w.Flush() == nil
}

// echo is a WebSocket that sends back what comes.
func (s *Server) echo(c *net.TCPConn, br *bufio.Reader, req *http.Request) {
	ws, err := Accept(c, br, req, "")
	if err != nil {
		return
	}
	for {
		f, err := ReadFrame(ws.R)
		if err != nil {
			return
		}
		switch f.Opcode() {
		case Ping:
			f.Bits = Fin | Pong
		case Pong:
			continue
		}
		if ws.Send(f) != nil || f.Opcode() == Close {
			return
		}
	}
}

// duplex answers while the request's body comes, or before.
func (s *Server) duplex(c *net.TCPConn, w *bufio.Writer, req *http.Request, a *Ask) bool {
	hasBody := a.Method != http.MethodHead
	if a.Mode == Echo {
		head(w, a, "Transfer-Encoding: chunked\r\n")
		buf := make([]byte, 3000)
		for {
			n, err := req.Body.Read(buf)
			if n > 0 && hasBody {
				fmt.Fprintf(w, "%x\r\n%s\r\n", n, buf[:n])
				w.Flush()
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return false
			}
		}
		if hasBody {
			w.WriteString("0\r\n\r\n")
		}
		return w.Flush() == nil
	}
	fields := fmt.Sprintf("Content-Length: %d\r\n", a.Size)
	if a.Mode == Hasty {
		fields += "Connection: close\r\n"
	}
	head(w, a, fields)
	if hasBody {
		w.Write(Pattern(a.ID, a.Size))
	}
	if w.Flush() != nil {
		return false
	}
	if a.Mode == Early {
		return s.readBody(req, a)
	}
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.Copy(io.Discard, c)
	return false
}
