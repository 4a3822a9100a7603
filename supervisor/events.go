package supervisor

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/supervisor/ini"
)

// The names of the event types (supervisord.org/events.html#event-types).
const (
	evRemote       = "REMOTE_COMMUNICATION"
	evRunning      = "SUPERVISOR_STATE_CHANGE_RUNNING"
	evStopping     = "SUPERVISOR_STATE_CHANGE_STOPPING"
	evGroupAdded   = "PROCESS_GROUP_ADDED"
	evGroupRemoved = "PROCESS_GROUP_REMOVED"
	evState        = "PROCESS_STATE_"
	evComm         = "PROCESS_COMMUNICATION_"
	evLog          = "PROCESS_LOG_"
	evTick         = "TICK_"
)

// subscribed tells whether a pool that asked for the type want gets events of type typ: a type covers its
// subtypes, and every name is its supertype's name and something more.
func subscribed(want, typ string) bool {
	return want == "EVENT" || want == typ || strings.HasPrefix(typ, want+"_")
}

// event is one event on its way to the pools.
type event struct {
	typ        string
	payload    string
	serial     int64
	poolSerial int64 // each pool has its own copy of the event, and its own count
}

// bus brings events to the event listener pools. While no pool listens, an event costs one atomic load.
type bus struct {
	log        *slog.Logger
	identifier string
	listening  atomic.Pointer[[]*pool]
	changed    chan struct{} // gets a value when the set of pools changes

	mu     sync.Mutex
	serial int64 // of the next event
}

func newBus(log *slog.Logger, identifier string) *bus {
	b := &bus{log: log, identifier: identifier, changed: make(chan struct{}, 1)}
	b.listening.Store(&[]*pool{})
	return b
}

func (b *bus) add(p *pool) { b.edit(func(ps []*pool) []*pool { return append(ps, p) }) }

func (b *bus) remove(p *pool) {
	b.edit(func(ps []*pool) []*pool {
		return slices.DeleteFunc(ps, func(q *pool) bool { return p == q })
	})
}

func (b *bus) edit(change func([]*pool) []*pool) {
	b.mu.Lock()
	pools := change(slices.Clone(*b.listening.Load()))
	b.listening.Store(&pools)
	b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// wanted tells whether some pool listens to typ.
func (b *bus) wanted(typ string) bool {
	for _, p := range *b.listening.Load() {
		if p.wants(typ) {
			return true
		}
	}
	return false
}

// notify hands an event to every pool that wants it. payload is called at most once.
func (b *bus) notify(typ string, payload func() string) {
	var ev *event
	for _, p := range *b.listening.Load() {
		if !p.wants(typ) {
			continue
		}
		if ev == nil {
			text := payload()
			b.mu.Lock()
			ev = &event{typ: typ, payload: text, serial: b.serial}
			b.serial++
			b.mu.Unlock()
		}
		p.accept(*ev)
	}
}

// statePayload is the token set of the PROCESS_STATE events.
func statePayload(c Change) string {
	s := fmt.Sprintf("processname:%s groupname:%s from_state:%s", c.Process, c.Group, c.From)
	switch c.To {
	case Starting, Backoff:
		return fmt.Sprintf("%s tries:%d", s, c.Tries)
	case Exited:
		expected := 0
		if c.Expected {
			expected = 1
		}
		return fmt.Sprintf("%s expected:%d pid:%d", s, expected, c.PID)
	case Running, Stopping, Stopped:
		return fmt.Sprintf("%s pid:%d", s, c.PID)
	}
	return s
}

func (b *bus) stateChanged(c Change) {
	b.notify(evState+c.To.String(), func() string { return statePayload(c) })
}

// logged is a PROCESS_LOG event: a program wrote data, and its events are enabled.
func (b *bus) logged(cfg *ini.Program, pid int, channel string, data []byte) {
	b.notify(evLog+strings.ToUpper(channel), func() string {
		return fmt.Sprintf("processname:%s groupname:%s pid:%d channel:%s\n%s", cfg.Name, cfg.Group, pid, channel, pyText(data))
	})
}

// captured is a PROCESS_COMMUNICATION event: what stood between the capture tokens.
func (b *bus) captured(cfg *ini.Program, pid int, channel string, data []byte) {
	b.notify(evComm+strings.ToUpper(channel), func() string {
		return fmt.Sprintf("processname:%s groupname:%s pid:%d\n%s", cfg.Name, cfg.Group, pid, pyText(data))
	})
}

func (b *bus) groupChanged(typ, group string) {
	b.notify(typ, func() string { return "groupname:" + group + "\n" })
}

// nextTick returns the shortest wait until a tick that somebody listens to, and the ticks that come then.
func (b *bus) nextTick(now time.Time) (when time.Time, periods []int64) {
	for _, period := range [...]int64{5, 60, 3600} {
		if !b.wanted(evTick + itoa(int(period))) {
			continue
		}
		at := time.Unix(now.Unix()/period*period+period, 0)
		switch {
		case when.IsZero() || at.Before(when):
			when, periods = at, []int64{period}
		case at.Equal(when):
			periods = append(periods, period)
		}
	}
	return when, periods
}

// tick tells the pools that a slice of period seconds began at when.
func (b *bus) tick(period int64, when time.Time) {
	b.notify(evTick+itoa(int(period)), func() string { return fmt.Sprintf("when:%d", when.Unix()) })
}
