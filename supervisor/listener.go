package supervisor

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/inpod/inpod/supervisor/ini"
)

// listenerState is where an event listener stands in the protocol (supervisord.org/events.html).
type listenerState int

const (
	acknowledged listenerState = iota // must say READY first
	listenerReady
	busy
	unknown // broke the protocol: gets no events until it is restarted
)

func (s listenerState) String() string {
	return [...]string{"ACKNOWLEDGED", "READY", "BUSY", "UNKNOWN"}[s]
}

// pool is an [eventlistener:x]: the processes that share its events, and the events that wait for one of them.
// It has no goroutine; whoever brings news (an event, a listener's output, its start or its end) also hands out
// what can be handed out then. Nothing in it blocks: writing to a listener only fills its input's buffer.
type pool struct {
	bus     *bus
	log     *slog.Logger
	name    string
	types   []string
	size    int
	members []*listener

	mu     sync.Mutex
	serial int64
	buffer []event
}

// listener is one process of a pool. The pool's mutex guards it.
type listener struct {
	name    string
	state   listenerState
	running bool
	stdin   *stdin // nil while there is no process
	event   *event // the one that it works on
	out     []byte // what it wrote and was not understood yet
	result  int    // the length of the result it announced, -1 = none
}

func newPool(b *bus, log *slog.Logger, g *ini.Group) *pool {
	p := &pool{bus: b, log: log.With("pool", g.Name), name: g.Name, types: g.Events, size: g.BufferSize}
	for i := range g.Programs {
		p.members = append(p.members, &listener{name: g.Programs[i].Name, result: -1})
	}
	return p
}

func (p *pool) wants(typ string) bool {
	return slices.ContainsFunc(p.types, func(want string) bool { return subscribed(want, typ) })
}

// accept takes an event into the buffer and hands out what it can.
func (p *pool) accept(ev event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ev.poolSerial = p.serial
	p.serial++
	p.buffered(ev, false)
	p.dispatch()
}

// buffered puts ev into the buffer, at its head when it was there before. The oldest event makes room.
func (p *pool) buffered(ev event, head bool) {
	if len(p.buffer) > 0 && len(p.buffer) >= p.size {
		p.log.Error("event buffer overflowed, discarding event", "serial", p.buffer[0].serial)
		p.buffer = slices.Delete(p.buffer, 0, 1)
	}
	if head {
		p.buffer = slices.Insert(p.buffer, 0, ev)
	} else {
		p.buffer = append(p.buffer, ev)
	}
}

func (p *pool) dispatch() {
	for len(p.buffer) > 0 {
		if !p.send(p.buffer[0]) {
			return
		}
		p.buffer = slices.Delete(p.buffer, 0, 1)
	}
}

func (p *pool) send(ev event) bool {
	for _, l := range p.members {
		if !l.running || l.state != listenerReady || l.stdin == nil {
			continue
		}
		if err := l.stdin.write([]byte(p.envelope(ev))); err != nil {
			p.log.Debug("cannot send event", "serial", ev.serial, "listener", l.name, "error", err)
			continue
		}
		l.state, l.event = busy, &ev
		return true
	}
	return false
}

// envelope is what a listener reads. Supervisor's len counts characters, not bytes, and the listeners that exist
// (childutils) read that many characters: so does this.
func (p *pool) envelope(ev event) string {
	return fmt.Sprintf("ver:3.0 server:%s serial:%d pool:%s poolserial:%d eventname:%s len:%d\n%s",
		p.bus.identifier, ev.serial, p.name, ev.poolSerial, ev.typ, utf8.RuneCountInString(ev.payload), ev.payload)
}

// spawned tells that a new process of l was started.
func (p *pool) spawned(l *listener, in *stdin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.state, l.running, l.stdin, l.event, l.out, l.result = acknowledged, false, in, nil, nil, -1
}

// changed tells that the state of l's process changed: only a RUNNING one gets events.
func (p *pool) changed(l *listener, s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.running = s == Running
	if l.running {
		p.dispatch()
	}
}

// gone tells that l's process ended. The event that it worked on goes back to the buffer.
func (p *pool) gone(l *listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.running, l.stdin = false, nil
	p.reject(l)
	p.dispatch()
}

func (p *pool) reject(l *listener) {
	if l.event != nil {
		p.buffered(*l.event, true)
		l.event = nil
	}
}

// output takes what l wrote to its stdout.
func (p *pool) output(l *listener, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.out = append(l.out, data...)
	for len(l.out) > 0 && p.read(l) {
	}
	if len(l.out) == 0 {
		l.out = nil
	}
	p.dispatch()
}

// read takes one step of the protocol and tells whether there may be another.
func (p *pool) read(l *listener) bool {
	const ready = "READY\n"
	switch l.state {
	case acknowledged:
		if len(l.out) < len(ready) {
			return false
		}
		if !bytes.HasPrefix(l.out, []byte(ready)) {
			p.broken(l, "no READY")
			return false
		}
		l.out = l.out[len(ready):]
		p.to(l, listenerReady)
	case listenerReady:
		p.broken(l, "output while READY")
	case busy:
		return p.readResult(l)
	case unknown:
		l.out = nil
	}
	return true
}

func (p *pool) readResult(l *listener) bool {
	if l.result < 0 {
		line, rest, found := bytes.Cut(l.out, []byte("\n"))
		if !found {
			// Supervisor would wait for ever for the end of a line; nothing that is a result line is this long.
			if len(l.out) > 4096 {
				p.broken(l, "bad result line")
			}
			return false
		}
		// As Supervisor, which looks at what follows the seventh byte only.
		n, err := strconv.Atoi(strings.TrimSpace(string(line[min(len("RESULT "), len(line)):])))
		if err != nil || n < 0 || n > maxInput {
			p.broken(l, fmt.Sprintf("bad result line %q", line))
			return false
		}
		l.out, l.result = rest, n
	}
	if len(l.out) < l.result {
		return false
	}
	result := string(l.out[:l.result])
	l.out, l.result = l.out[l.result:], -1
	if result == "OK" {
		l.event = nil
	} else {
		p.log.Warn("event was rejected", "listener", l.name)
		p.reject(l)
	}
	p.to(l, acknowledged)
	return true
}

func (p *pool) to(l *listener, s listenerState) {
	p.log.Debug("listener state", "listener", l.name, "from", l.state.String(), "to", s.String())
	l.state = s
}

func (p *pool) broken(l *listener, why string) {
	p.to(l, unknown)
	l.out, l.result = nil, -1
	p.log.Warn("listener has broken the protocol and gets no more events", "listener", l.name, "why", why)
	p.reject(l)
}
