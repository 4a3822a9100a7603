package output

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	syslogQueue   = 1024            // lines that wait for a slow server
	syslogMaxLine = 8 << 10         // a datagram must hold it
	syslogRedial  = time.Second     // how soon a lost server is tried again
	syslogTimeout = 2 * time.Second // for connecting and for one write
)

var syslogFacilities = map[string]int{
	"kernel": 0, "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8,
	"cron": 9, "authpriv": 10, "ftp": 11, "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20,
	"local5": 21, "local6": 22, "local7": 23,
}

var syslogSeverities = map[string]int{
	"emerg": 0, "alert": 1, "crit": 2, "critical": 2, "err": 3, "error": 3, "warn": 4, "warning": 4, "notice": 5,
	"info": 6, "debug": 7,
}

// syslogTarget sends the lines of one stream.
type syslogTarget struct {
	conn     *syslogConn
	priority int
	tag      string
	prefix   string // before each line
}

// openSyslog takes "syslog" or "syslog @[udp:|tcp:]host[:port]".
func (h *Hub) openSyslog(o *Options, value, tag, prefix string) (*syslogTarget, error) {
	network, addr, err := syslogAddress(value)
	if err != nil {
		return nil, err
	}
	priority, err := syslogPriority(o)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, os.ErrClosed
	}
	key := network + " " + addr
	c := h.syslogs[key]
	if c == nil {
		c = newSyslogConn(h, network, addr)
		h.syslogs[key] = c
	}
	return &syslogTarget{conn: c, priority: priority, tag: tag, prefix: prefix}, nil
}

func syslogAddress(value string) (network, addr string, err error) {
	rest := strings.TrimSpace(value[len("syslog"):])
	if rest == "" {
		return "", "", nil
	}
	rest, ok := strings.CutPrefix(rest, "@")
	network, port := "udp", "514"
	if r, found := strings.CutPrefix(rest, "udp:"); found {
		rest = r
	} else if r, found := strings.CutPrefix(rest, "tcp:"); found {
		rest, network, port = r, "tcp", "6514"
	}
	if !ok || rest == "" {
		return "", "", fmt.Errorf("cannot read %q: a server is syslog @[udp:|tcp:]host[:port]", value)
	}
	if _, _, err := net.SplitHostPort(rest); err != nil {
		rest = net.JoinHostPort(strings.Trim(rest, "[]"), port)
	}
	return network, rest, nil
}

func syslogPriority(o *Options) (int, error) {
	facility, ok := 1, true
	if o.SyslogFacility != "" {
		if facility, ok = syslogFacilities[syslogName(o.SyslogFacility)]; !ok {
			return 0, fmt.Errorf("syslog_facility %q is unknown", o.SyslogFacility)
		}
	}
	severity := syslogSeverities["info"]
	if o.Channel == "stderr" {
		severity = syslogSeverities["err"]
	}
	if o.SyslogPriority != "" {
		if severity, ok = syslogSeverities[syslogName(o.SyslogPriority)]; !ok {
			return 0, fmt.Errorf("syslog_%s_priority %q is unknown", o.Channel, o.SyslogPriority)
		}
	}
	return facility<<3 | severity, nil
}

func syslogName(s string) string { return strings.TrimPrefix(strings.ToLower(s), "log_") }

func (t *syslogTarget) name() string { return t.conn.label() }
func (t *syslogTarget) release()     {}

// write queues each line. It never waits, and what finds the queue full is counted by the hub, so it is no error here.
func (t *syslogTarget) write(s *Stream, block []byte) error {
	for len(block) > 0 {
		var line []byte
		line, block, _ = bytes.Cut(block, []byte{'\n'})
		for first := true; first || len(line) > 0; first = false {
			n := min(len(line), syslogMaxLine)
			t.conn.send(t.message(s.hub.now(), line[:n]))
			line = line[n:]
		}
	}
	return nil
}

// message is the form of RFC 3164 that local daemons take; to a server go a host name and a full time, as Go's
// log/syslog does it.
func (t *syslogTarget) message(now time.Time, line []byte) []byte {
	b := fmt.Appendf(nil, "<%d>", t.priority)
	if t.conn.addr == "" {
		b = now.AppendFormat(b, time.Stamp)
	} else {
		b = now.AppendFormat(b, time.RFC3339)
		b = fmt.Appendf(b, " %s", t.conn.host)
	}
	b = fmt.Appendf(b, " %s: %s%s", t.tag, t.prefix, line)
	if t.conn.network != "udp" {
		b = append(b, '\n')
	}
	return b
}

// syslogConn is the connection to one server, shared by all streams that log to it.
type syslogConn struct {
	hub           *Hub
	network, addr string // "" for the local daemon
	host          string
	queue         chan []byte
	done          chan struct{}

	mu     sync.Mutex
	closed bool
}

func newSyslogConn(h *Hub, network, addr string) *syslogConn {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	c := &syslogConn{hub: h, network: network, addr: addr, host: host, queue: make(chan []byte, syslogQueue), done: make(chan struct{})}
	go c.run()
	return c
}

func (c *syslogConn) label() string {
	if c.addr == "" {
		return "syslog"
	}
	return "syslog @" + c.network + ":" + c.addr
}

func (c *syslogConn) send(msg []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.hub.syslogDropped.Add(1)
		return
	}
	select {
	case c.queue <- msg:
	default:
		c.hub.syslogDropped.Add(1)
	}
}

// close lets the goroutine send what is queued, and waits for it.
func (c *syslogConn) close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.queue)
	}
	c.mu.Unlock()
	<-c.done
}

// run owns the connection. A message that cannot be sent is tried once more on a new connection and then dropped.
func (c *syslogConn) run() {
	defer close(c.done)
	var conn net.Conn
	var failed time.Time // when connecting failed last
	bad := false
	for msg := range c.queue {
		var err error
		for try := 0; try < 2; try++ {
			if conn == nil {
				if !failed.IsZero() && time.Since(failed) < syslogRedial {
					err = errRedial
					break
				}
				if conn, err = c.dial(); err != nil {
					failed = time.Now()
					break
				}
			}
			_ = conn.SetWriteDeadline(time.Now().Add(syslogTimeout))
			if _, err = conn.Write(msg); err == nil {
				break
			}
			_ = conn.Close()
			conn = nil
		}
		if err != nil {
			c.hub.syslogDropped.Add(1)
			if !bad {
				bad = true
				c.hub.log.Error("syslog cannot be reached", "target", c.label(), "err", err)
			}
			continue
		}
		if bad {
			bad, failed = false, time.Time{}
			c.hub.log.Info("syslog is reached again", "target", c.label())
		}
	}
	if conn != nil {
		_ = conn.Close()
	}
}

var errRedial = fmt.Errorf("the server was away a moment ago")

// dial connects; the local daemon listens on one of three paths, on a datagram or a stream socket.
func (c *syslogConn) dial() (net.Conn, error) {
	if c.addr != "" {
		return net.DialTimeout(c.network, c.addr, syslogTimeout)
	}
	for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
		for _, network := range []string{"unixgram", "unix"} {
			if conn, err := net.DialTimeout(network, path, syslogTimeout); err == nil {
				return conn, nil
			}
		}
	}
	return nil, fmt.Errorf("no syslog daemon listens on /dev/log")
}
