package agent

import (
	"os"
	"os/signal"
	"syscall"
)

// signals are those that mean something to the agent.
type signals struct {
	c      chan os.Signal
	ignore chan os.Signal
}

// notifySignals is called before anything else, so that a signal that comes during the start is not lost.
func notifySignals() *signals {
	s := &signals{c: make(chan os.Signal, 16), ignore: make(chan os.Signal, 1)}
	signal.Notify(s.c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR2)
	// A reader of our output that goes away must not end the agent. Taken and dropped rather than ignored: programs
	// would inherit an ignored signal.
	signal.Notify(s.ignore, syscall.SIGPIPE)
	return s
}

func (s *signals) stop() {
	signal.Stop(s.c)
	signal.Stop(s.ignore)
}
