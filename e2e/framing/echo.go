package framing

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// Echo is an upstream. It writes down what it gets byte for byte, reads it with net/http, and answers each request
// with 200.
type Echo struct {
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	conns []*Conn
	got   []*Got
}

// Conn is a connection that brought bytes.
type Conn struct {
	net.Conn
	Raw  []byte
	Got  []*Got // of the requests that came in whole
	Left []byte // what came behind them
	Err  error  // why that is no request; io.ErrUnexpectedEOF when it is the beginning of one
}

// Got is a request as net/http reads it.
type Got struct {
	Method, Target, Host, Body string
	Head                       string // as it came
}

func (g *Got) String() string {
	if g.Body == "" {
		return g.Method + " " + g.Target
	}
	return fmt.Sprintf("%s %s %q", g.Method, g.Target, g.Body)
}

// Listen starts an upstream on a free port of the loopback interface.
func Listen() (*Echo, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &Echo{ln: ln}
	e.wg.Go(e.serve)
	return e, nil
}

// Addr is where it listens.
func (e *Echo) Addr() string { return e.ln.Addr().String() }

// Stop ends it and returns its connections and all requests in the order in which they were answered. Who connected to
// it must have closed before: what is still on its way is lost.
func (e *Echo) Stop() ([]*Conn, []*Got) {
	e.ln.Close()
	e.wg.Wait()
	return e.conns, e.got
}

func (e *Echo) serve() {
	for {
		conn, err := e.ln.Accept()
		if err != nil {
			return
		}
		c := &Conn{Conn: conn}
		e.wg.Go(func() {
			defer c.Close()
			c.Err = e.talk(c)
		})
	}
}

// Read keeps what it reads.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.Raw = append(c.Raw, p[:n]...)
	return n, err
}

func (e *Echo) talk(c *Conn) (err error) {
	br := bufio.NewReaderSize(c, 64<<10)
	if _, err := br.Peek(1); err != nil {
		return nil // not even a byte: a connection in reserve
	}
	e.mu.Lock()
	e.conns = append(e.conns, c)
	e.mu.Unlock()
	for {
		start := len(c.Raw) - br.Buffered()
		if _, err := br.Peek(1); err != nil {
			return nil
		}
		g, err := read(c, br)
		if err != nil {
			// All that comes, to see what it is.
			_, _ = io.Copy(io.Discard, br)
			c.Left = c.Raw[start:]
			return err
		}
		end := bytes.Index(c.Raw[start:], []byte("\r\n\r\n"))
		g.Head = string(c.Raw[start : start+max(end, 0)])
		e.mu.Lock()
		c.Got = append(c.Got, g)
		e.got = append(e.got, g)
		e.mu.Unlock()
		body := g.Method + " " + g.Target + "\n"
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
		if g.Method == http.MethodHead {
			body = ""
		}
		if _, err := io.WriteString(c, head+body); err != nil {
			return nil
		}
	}
}

func read(c net.Conn, br *bufio.Reader) (*Got, error) {
	req, err := http.ReadRequest(br)
	if err != nil {
		return nil, early(err)
	}
	if req.Header.Get("Expect") != "" {
		if _, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return nil, err
		}
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, early(err)
	}
	return &Got{Method: req.Method, Target: req.RequestURI, Host: req.Host, Body: string(body)}, nil
}

// early makes one error of all that say that more should have come.
func early(err error) error {
	var op *net.OpError
	if errors.Is(err, io.EOF) || errors.As(err, &op) {
		return io.ErrUnexpectedEOF
	}
	return err
}
