package proxy

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// queueOf lets n waiters into a limiter and returns them with the order in which their turns come.
func queueOf(t *testing.T, l *limiter, n int) (list []*waiter, turns *[]int) {
	t.Helper()
	turns = &[]int{}
	for i := range n {
		w := &waiter{ready: func() { *turns = append(*turns, i) }}
		if got := l.enter(w); got != waits {
			t.Fatalf("waiter %d: got %d, want that it waits", i, got)
		}
		list = append(list, w)
	}
	return list, turns
}

func enters(t *testing.T, l *limiter, want admission) {
	t.Helper()
	if got := l.enter(&waiter{ready: func() {}}); got != want {
		t.Errorf("enter: got %d, want %d", got, want)
	}
}

func loads(t *testing.T, l *limiter, running, waiting int) {
	t.Helper()
	if r, w := l.load(); r != running || w != waiting {
		t.Errorf("got %d running and %d waiting, want %d and %d", r, w, running, waiting)
	}
}

func TestLimiterBoundsAndOrder(t *testing.T) {
	l := newLimiter(2, 3)
	enters(t, l, admitted)
	enters(t, l, admitted)
	_, turns := queueOf(t, l, 3)
	enters(t, l, refused)
	loads(t, l, 2, 3)
	for i := range 3 {
		l.release()
		if want := []int{0, 1, 2}[:i+1]; !slices.Equal(*turns, want) {
			t.Errorf("after %d releases: turns %v, want %v", i+1, *turns, want)
		}
	}
	loads(t, l, 2, 0)
	l.release()
	l.release()
	loads(t, l, 0, 0)
	enters(t, l, admitted)

	none := newLimiter(0, 0)
	for range 1000 {
		enters(t, none, admitted)
	}
	loads(t, none, 1000, 0)
	closed := newLimiter(1, 0)
	enters(t, closed, admitted)
	enters(t, closed, refused)
}

func TestLimiterLeave(t *testing.T) {
	for gone := range 4 {
		l := newLimiter(1, 4)
		enters(t, l, admitted)
		list, turns := queueOf(t, l, 4)
		if !l.leave(list[gone]) || l.leave(list[gone]) {
			t.Errorf("leave %d: want true, and false when it has left", gone)
		}
		loads(t, l, 1, 3)
		late := &waiter{ready: func() { *turns = append(*turns, 9) }} // the end of the list is where it was
		if got := l.enter(late); got != waits {
			t.Errorf("got %d, want that it waits", got)
		}
		for range 5 {
			l.release()
		}
		want := append(slices.DeleteFunc([]int{0, 1, 2, 3}, func(i int) bool { return i == gone }), 9)
		if !slices.Equal(*turns, want) {
			t.Errorf("without %d: turns %v, want %v", gone, *turns, want)
		}
		loads(t, l, 0, 0)
	}
	l := newLimiter(1, 4)
	enters(t, l, admitted)
	list, turns := queueOf(t, l, 4)
	for _, i := range []int{3, 0, 2, 1} {
		l.leave(list[i])
	}
	loads(t, l, 1, 0)
	l.release()
	if len(*turns) > 0 || l.leave(list[0]) {
		t.Errorf("turns %v of those who have left", *turns)
	}
	loads(t, l, 0, 0)
}

func TestLimiterSet(t *testing.T) {
	l := newLimiter(1, 5)
	enters(t, l, admitted)
	_, turns := queueOf(t, l, 5)
	l.set(3, 5)
	if want := []int{0, 1}; !slices.Equal(*turns, want) {
		t.Errorf("wider: turns %v, want %v", *turns, want)
	}
	loads(t, l, 3, 3)
	l.set(1, 1) // those that wait keep their places
	loads(t, l, 3, 3)
	enters(t, l, refused)
	l.release()
	l.release()
	loads(t, l, 1, 3)
	if len(*turns) != 2 {
		t.Errorf("narrower: turns %v, want no more", *turns)
	}
	l.release()
	loads(t, l, 1, 2)
	l.set(0, 1)
	if want := []int{0, 1, 2, 3, 4}; !slices.Equal(*turns, want) {
		t.Errorf("no limit: turns %v, want %v", *turns, want)
	}
	loads(t, l, 3, 0)
	l.set(2, 1)
	enters(t, l, waits)
	loads(t, l, 3, 1)
	for range 4 {
		l.release()
	}
	loads(t, l, 0, 0)
}

// Goroutines come, wait, give up and change the bounds at the same time: no slot is lost, none is given twice.
func TestLimiterUnderStress(t *testing.T) {
	l := newLimiter(3, 50)
	var running, most atomic.Int64
	var clients, others sync.WaitGroup
	stop := make(chan struct{})
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				l.set([]int{3, 1, 7}[i%3], 50)
				l.load()
			}
		}
	})
	work := func() {
		n := running.Add(1)
		for {
			if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		running.Add(-1)
		l.release()
	}
	for i := range 16 {
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for range 2000 {
				ready := make(chan struct{})
				w := &waiter{ready: func() { close(ready) }}
				switch l.enter(w) {
				case admitted:
					work()
				case waits:
					if rnd.IntN(2) == 0 && l.leave(w) {
						continue
					}
					<-ready
					work()
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	others.Wait()
	loads(t, l, 0, 0)
	if l.first != nil || l.last != nil {
		t.Error("the queue is not empty")
	}
	if n := most.Load(); n > 7 {
		t.Errorf("%d ran at the same time, want 7 at most", n)
	}
}
