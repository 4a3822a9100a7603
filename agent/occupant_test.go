package agent

import (
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestOccupant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clients atomic.Int64
		const released = 0
		var got []int
		turns := 0
		p := &processors{
			clients: clients.Load, set: func(n int) { got = append(got, n) }, release: func() { got = append(got, released) },
			ask: func() int { return 4 },
			sit: func() bool { time.Sleep(occupation); turns++; return turns%3 != 0 },
		}
		want := func(what string, n ...int) {
			t.Helper()
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			if !slices.Equal(got, n) {
				t.Errorf("%s: set %v, want %v", what, got, n)
			}
			got = nil
		}
		move := func(n int, every time.Duration) {
			for range n {
				p.moved(time.Now())
				time.Sleep(every)
			}
		}
		const often, seldom = time.Millisecond / 8, 10 * time.Millisecond
		move(8*burst, often)
		want("nobody is logged in")
		p.login(1)
		want("a login", 1)
		move(4*burst, seldom)
		want("little moves")
		move(2*burst, often)
		want("much moves", 2)
		p.login(2)
		want("another login", 3)
		p.login(1)
		want("it has left", 2)
		for range 50 {
			move(burst, often)
			time.Sleep(2 * occupation)
		}
		want("much goes on moving")
		time.Sleep(3 * quietTurns * occupation)
		want("nothing moves", 1)
		move(8*burst, often)
		want("much moves again", 2)
		clients.Store(1)
		p.serve()
		want("the proxy has a client", 6)
		time.Sleep(3 * occupation)
		want("its loops have the processor", 5)
		move(8*burst, often)
		want("much moves while it has")
		clients.Store(0)
		time.Sleep(2 * quietDelay)
		want("the client has left", 1)
		move(8*burst, often)
		want("much moves without it", 2)
		p.login(0)
		time.Sleep(3 * occupation)
		want("nobody is there", released)
		p.login(1)
		move(8*burst, often)
		want("somebody is", 1, 2)
		p.close()
		want("the end", released)
		move(8*burst, often)
		want("after it")
	})
}

// What collects garbage must not wait for an occupant, which has a processor and does not ask the scheduler.
func TestOccupantIsDisturbed(t *testing.T) {
	done, ended := make(chan struct{}), make(chan struct{})
	var disturbed atomic.Int32
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			if !sit() {
				disturbed.Add(1)
			}
		}
	}()
	for begun := time.Now(); disturbed.Load() == 0; runtime.GC() {
		if time.Since(begun) > patience {
			t.Error("every collection has waited for it")
			break
		}
	}
	close(done)
	<-ended
}
