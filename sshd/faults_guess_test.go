package sshd

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Passwords that come at once, each on a connection of its own, are no way around the delay after the first few.
func TestManyGuessesAtOnce(t *testing.T) {
	first, kinds := everybody(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	const guesses = 40
	var all sync.WaitGroup
	for range guesses {
		l := *first
		l.ctx = ctx
		all.Add(1)
		go func() {
			defer all.Done()
			if _, err := l.password(named{user: kinds[0]}, []byte("wrong")); err == nil {
				t.Error("it got in")
			}
		}()
	}
	all.Wait()
	first.s.door.mu.Lock()
	defer first.s.door.mu.Unlock()
	for _, f := range first.s.door.failures {
		// Three are free, two are looked at together, and then there is a second at least between two.
		if f.count > freeTries+hashesAtOnce+6 {
			t.Errorf("%d of %d were looked at in 5 s", f.count, guesses)
		}
	}
	if len(first.s.hashing) != 0 {
		t.Errorf("%d places are still taken", len(first.s.hashing))
	}
}
