package sshd

import (
	"runtime/debug"
	"sync"
	"time"
)

// calm gives memory back when nobody is there any more: logins need code and memory that an agent without clients does
// not, as the 16 MiB of a yescrypt hash.
type calm struct {
	settled func() // what else is to be done then; may be nil

	mu     sync.Mutex
	timer  *time.Timer
	closed bool
}

// calmDelay is how long nobody must have come: whoever works with many short connections is not to notice it.
const calmDelay = 5 * time.Second

// soon does it in a while, counted from the last call.
func (c *calm) soon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
	case c.timer == nil:
		c.timer = time.AfterFunc(calmDelay, c.now)
	default:
		c.timer.Reset(calmDelay)
	}
}

// not puts it off until soon is called again, for ever with end.
func (c *calm) not(end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = c.closed || end
	if c.timer != nil {
		c.timer.Stop()
	}
}

func (c *calm) now() {
	debug.FreeOSMemory()
	if c.settled != nil {
		c.settled()
	}
}
