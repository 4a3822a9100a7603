package agent

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestProcessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clients atomic.Int64
		const released = 0
		var got []int
		limit := 4 // of the cgroup
		p := &processors{
			clients: clients.Load, set: func(n int) { got = append(got, n) }, release: func() { got = append(got, released) },
			ask: func() int { return limit },
		}
		want := func(what string, n ...int) {
			t.Helper()
			synctest.Wait()
			if !slices.Equal(got, n) {
				t.Errorf("%s: set %v, want %v", what, got, n)
			}
			got = nil
		}
		p.login(1)
		want("a login", 1)
		p.login(3)
		want("two more", 3)
		p.login(9)
		want("many", 4)
		p.login(1)
		want("one is left", 1)
		clients.Store(1)
		p.serve()
		p.serve()
		want("a request", 5)
		p.login(2)
		want("a login besides")
		time.Sleep(3 * quietDelay)
		want("the client stays")
		clients.Store(0)
		time.Sleep(2 * quietDelay)
		want("it has left", 2)
		clients.Store(1)
		p.serve()
		want("it comes back", 5)
		p.login(0)
		clients.Store(0)
		time.Sleep(2 * quietDelay)
		want("nobody is there", released)
		limit = 2 // the runtime sees it by itself
		time.Sleep(2 * quietDelay)
		want("a new limit")
		p.login(9)
		want("as many as there are")
		p.login(1)
		want("a login under the new limit", 1)
		clients.Store(1)
		p.serve()
		want("a request under the new limit", 3)
		p.close()
		want("the end", released)
		p.login(0)
		p.serve()
		time.Sleep(2 * quietDelay)
		want("after it")
	})
}
