package sshd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Passwords that come at once, each on a connection of its own, are no way around the delay after the first few.
func TestManyGuessesAtOnce(t *testing.T) {
	first, kinds := everybody(t)
	synctest.Test(t, func(t *testing.T) { manyGuesses(t, first, kinds[0]) })
}

func manyGuesses(t *testing.T, first *login, user string) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	const guesses = 40
	first.s.hashing = make(chan struct{}, hashesAtOnce)
	for range hashesAtOnce {
		first.s.hashing <- struct{}{}
	}
	done := make(chan error, guesses)
	for range guesses {
		l := *first
		l.ctx = ctx
		go func() {
			_, err := l.password(named{user: user}, []byte("wrong"))
			done <- err
		}()
	}
	synctest.Wait() // now all of them are there
	for range hashesAtOnce {
		<-first.s.hashing
	}
	for range guesses {
		if err := <-done; err == nil {
			t.Error("it got in")
		}
	}
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
