package poll

import (
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// peer is a handler whose functions a test sets.
type peer struct {
	Sock
	event, timeout, abort func()
}

func (p *peer) Event() {
	if p.event != nil {
		p.event()
	}
}

func (p *peer) Timeout() { p.timeout() }

func (p *peer) Abort() {
	if p.abort != nil {
		p.abort()
	}
	p.Close()
}

// running starts a loop that ends with the test.
func running(t *testing.T, broken func(any, []byte)) *Loop {
	t.Helper()
	l, err := New(broken)
	if err != nil {
		t.Fatal(err)
	}
	go l.Run()
	t.Cleanup(l.Stop)
	return l
}

// on runs f on the loop and waits.
func on(l *Loop, f func()) {
	done := make(chan struct{})
	if l.Post(func() {
		defer close(done)
		f()
	}) {
		<-done
	}
}

// pair makes two connected descriptors, both non-blocking.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

func TestReadWriteAndEnd(t *testing.T) {
	l := running(t, nil)
	a, b := pair(t)
	got := make(chan string, 10)
	p := &peer{}
	p.event = func() {
		buf := make([]byte, 4)
		for p.In {
			n, err := p.Read(buf)
			switch err {
			case nil:
				got <- string(buf[:n])
			case ErrAgain:
			case io.EOF:
				got <- "EOF"
				p.Close()
				return
			default:
				got <- err.Error()
				p.Close()
				return
			}
		}
	}
	on(l, func() {
		if err := l.Add(a, p, &p.Sock); err != nil {
			t.Error(err)
		}
	})
	for _, step := range []struct {
		send string
		want []string
	}{{"ab", []string{"ab"}}, {"abcdef", []string{"abcd", "ef"}}, {"wxyz", []string{"wxyz"}}} {
		if _, err := unix.Write(b, []byte(step.send)); err != nil {
			t.Fatal(err)
		}
		for _, want := range step.want {
			if s := <-got; s != want {
				t.Errorf("got %q, want %q", s, want)
			}
		}
	}
	unix.Close(b)
	if s := <-got; s != "EOF" {
		t.Errorf("got %q, want EOF", s)
	}
}

func TestWriteSaysWhenThereIsRoom(t *testing.T) {
	l := running(t, nil)
	a, b := pair(t)
	defer unix.Close(b)
	const size = 4 << 20
	sent := make(chan int, 1)
	p := &peer{}
	left := size
	p.event = func() {
		for p.Out && left > 0 {
			n, err := p.Write(make([]byte, left))
			if err == ErrAgain {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			if left -= n; left == 0 {
				sent <- size
			}
		}
	}
	on(l, func() {
		if err := l.Add(a, p, &p.Sock); err != nil {
			t.Error(err)
		}
	})
	if err := unix.SetNonblock(b, false); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	for got := 0; got < size; {
		n, err := unix.Read(b, buf)
		if err != nil || n == 0 {
			t.Fatalf("after %d bytes: %d, %v", got, n, err)
		}
		got += n
	}
	<-sent
	on(l, p.Close)
}

// A descriptor that is closed and used again in the same round gets none of the old one's events.
func TestEventsOfAClosedSocketAreDropped(t *testing.T) {
	l := running(t, nil)
	a, b := pair(t)
	c, d := pair(t)
	spare, quiet := pair(t)
	for _, fd := range []int{b, d, spare, quiet} {
		defer unix.Close(fd)
	}
	var first, second, heir peer
	var reads atomic.Int32
	heir.event = func() {
		if heir.In {
			t.Error("the heir of a descriptor got the event of the closed socket")
		}
	}
	// replace closes other, whose event waits in the same round, and gives its descriptor to heir.
	took := make(chan bool, 2)
	replace := func(self, other *peer) func() {
		return func() {
			if !self.In {
				return
			}
			reads.Add(1)
			old := other.FD()
			other.Close()
			fd, err := unix.FcntlInt(uintptr(spare), unix.F_DUPFD_CLOEXEC, old) // old, or one above it
			took <- err == nil && fd == old && l.Add(fd, &heir, &heir.Sock) == nil
		}
	}
	on(l, func() {
		if l.Add(a, &first, &first.Sock) != nil || l.Add(c, &second, &second.Sock) != nil {
			t.Error("cannot add")
		}
		first.event, second.event = replace(&first, &second), replace(&second, &first)
		for _, fd := range []int{b, d} { // before the next round, which has both events
			_, _ = unix.Write(fd, []byte("x"))
		}
	})
	if !<-took {
		t.Fatal("the descriptor could not be used again")
	}
	on(l, func() { // after that round
		if n := reads.Load(); n != 1 {
			t.Errorf("%d sockets had an event, want 1: the other was closed", n)
		}
		heir.Close()
		first.Close()
		second.Close()
	})
}

func TestPanicCostsOneSocket(t *testing.T) {
	said := make(chan any, 1)
	l := running(t, func(v any, stack []byte) {
		if len(stack) == 0 {
			t.Error("no stack")
		}
		said <- v
	})
	a, b := pair(t)
	defer unix.Close(b)
	aborted := make(chan struct{})
	p := &peer{event: func() { panic("boom") }, abort: func() { close(aborted) }}
	on(l, func() { _ = l.Add(a, p, &p.Sock) })
	if v := <-said; v != "boom" {
		t.Errorf("got %v, want boom", v)
	}
	<-aborted
	on(l, func() {}) // it lives
	l.Post(func() { panic("in a post") })
	if v := <-said; v != "in a post" {
		t.Errorf("got %v, want in a post", v)
	}
	on(l, func() {})
}

func TestDeadlines(t *testing.T) {
	l := running(t, nil)
	a, b := pair(t)
	defer unix.Close(b)
	fired := make(chan time.Duration, 1)
	var began time.Time
	p := &peer{timeout: func() { fired <- time.Since(began) }}
	on(l, func() {
		_ = l.Add(a, p, &p.Sock)
		began = time.Now()
		p.SetDeadline(Now() + int64(time.Hour))
		p.SetDeadline(Now() + int64(20*time.Millisecond))
	})
	if d := <-fired; d < 20*time.Millisecond {
		t.Errorf("fired after %s, want 20ms at the earliest", d)
	}
	on(l, func() {
		if p.Deadline() != 0 {
			t.Errorf("the deadline is %d after it fired, want 0", p.Deadline())
		}
		p.SetDeadline(Now() + int64(time.Millisecond))
		p.SetDeadline(0)
		p.SetDeadline(Now() + int64(30*time.Millisecond))
		began = time.Now()
	})
	if d := <-fired; d < 30*time.Millisecond {
		t.Errorf("a deadline that was moved away fired after %s, want 30ms at the earliest", d)
	}
	on(l, p.Close)
}

// The heap holds its order whatever is set, moved and taken out.
func TestTimersAgainstAList(t *testing.T) {
	l := &Loop{}
	rnd := rand.New(rand.NewPCG(1, 2))
	socks := make([]*Sock, 200)
	for i := range socks {
		socks[i] = &Sock{loop: l, timer: timer{index: -1}}
	}
	now := int64(0)
	for range 20_000 {
		s := socks[rnd.IntN(len(socks))]
		switch rnd.IntN(10) {
		case 0:
			l.timers.remove(s)
			s.at = 0
		case 1:
			s.SetDeadline(0)
		case 2:
			now += int64(rnd.IntN(100))
			var want, got []int64
			for _, s := range socks {
				if s.at != 0 && s.at <= now {
					want = append(want, s.at)
				}
			}
			for {
				before := map[*Sock]int64{}
				for _, s := range socks {
					before[s] = s.at
				}
				s := l.timers.due(now)
				if s == nil {
					break
				}
				got = append(got, before[s])
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("at %d: got %v, want %v", now, got, want)
			}
		default:
			s.SetDeadline(now + 1 + int64(rnd.IntN(1000)))
		}
	}
}

// Everything that Post accepted is run, also beside Stop.
func TestPostAndStop(t *testing.T) {
	for range 200 {
		l, err := New(nil)
		if err != nil {
			t.Fatal(err)
		}
		go l.Run()
		var ran, accepted atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 100 {
				if !l.Post(func() { ran.Add(1) }) {
					return
				}
				accepted.Add(1)
			}
		}()
		l.Stop()
		<-done
		if ran.Load() != accepted.Load() {
			t.Fatalf("ran %d of %d", ran.Load(), accepted.Load())
		}
	}
}
