package traffic

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// Report collects what came of many requests. It may be used by many clients at once.
type Report struct {
	mu     sync.Mutex
	counts [Wrong + 1]int
	wrongs []string
}

// Add notes what came of one request.
func (r *Report) Add(a *Ask, o Outcome, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[o]++
	if o == Wrong && len(r.wrongs) < 20 {
		r.wrongs = append(r.wrongs, fmt.Sprintf("%s %s (chunked %v): %v", a.Method, a.Target(), a.Chunked, err))
	}
}

// Count is how many requests came to an end so.
func (r *Report) Count(o Outcome) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[o]
}

// Total is how many requests came to an end.
func (r *Report) Total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.counts {
		n += c
	}
	return n
}

// Wrongs are the first of the wrong ones.
func (r *Report) Wrongs() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.wrongs...)
}

func (r *Report) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%d right, %d refused, %d aborted, %d wrong", r.counts[Right], r.counts[Refused], r.counts[Aborted], r.counts[Wrong])
}

// Mixed is a client that sends requests of every kind, one behind the other without waiting, on connections that it
// uses as long as it can.
type Mixed struct {
	Addr    string
	Path    string
	Report  *Report
	Rand    *rand.Rand
	Broken  float64 // the share of requests that the upstream breaks
	Deep    int     // the most requests that are on their way at once
	Lenient bool    // the upstream itself comes and goes: a sound request may be refused or aborted as well, and none is ToClose
	Pause   time.Duration
	// Raced, if there is one, tells of requests that came to the upstream in the moment in which it closed. See Server.Raced.
	Raced func(id string) bool
}

// Run goes on until more says no, which is asked before every bundle of requests.
func (m *Mixed) Run(more func() bool) {
	var again []*Ask
	for more() {
		c, err := net.DialTimeout("tcp", m.Addr, 10*time.Second)
		if err != nil {
			m.Report.Add(&Ask{}, Wrong, err)
			return
		}
		br := bufio.NewReader(c)
		for open := true; open && more(); {
			asks := again
			for len(asks) < 1+m.Rand.IntN(m.Deep) {
				asks = append(asks, m.draw())
			}
			again, open = m.bundle(c, br, asks)
			if m.Pause > 0 {
				<-time.After(m.Pause)
			}
		}
		c.Close()
	}
}

func (m *Mixed) draw() *Ask {
	r := m.Rand
	a := &Ask{ID: NewID(), Method: http.MethodGet, Path: m.Path, Up: -1, Mode: sound[r.IntN(len(sound))], Size: m.size()}
	// The ones that cost a connection are rarer.
	if (a.Mode == Hasty || a.Mode == ToClose) && r.IntN(4) > 0 {
		a.Mode = Length
	}
	if a.Mode == ToClose && m.Lenient { // an upstream that is killed in the middle of it seems to have said all
		a.Mode = Length
	}
	if r.Float64() < m.Broken {
		a.Mode = broken[r.IntN(len(broken))]
		a.Size += 2 // so that half of it is not all
	}
	switch n := r.IntN(10); {
	case n < 2:
		a.Method = http.MethodHead
		if a.Broken() {
			a.Mode = Length
		}
	case n < 7:
		a.Method, a.Up, a.Chunked = http.MethodPost, m.size(), r.IntN(2) == 0
	}
	if a.Mode == Early || a.Mode == Hasty || a.Mode == Echo {
		a.Method, a.Up, a.Chunked = http.MethodPut, m.size(), r.IntN(2) == 0
	}
	return a
}

// size is a small number mostly.
func (m *Mixed) size() int {
	switch n := m.Rand.IntN(100); {
	case n < 10:
		return 0
	case n < 80:
		return m.Rand.IntN(800)
	case n < 97:
		return m.Rand.IntN(12_000)
	}
	return m.Rand.IntN(150_000)
}

// bundle sends some requests and checks their answers. What was not answered, because an answer before it ended the
// connection, is to be asked again.
func (m *Mixed) bundle(c net.Conn, br *bufio.Reader, asks []*Ask) (again []*Ask, open bool) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		w := bufio.NewWriterSize(c, 16<<10)
		for _, a := range asks {
			if a.Write(w, m.Addr) != nil {
				return // what is wrong is seen where the answer is read
			}
		}
	}()
	defer func() {
		if !open {
			c.Close() // the sender may still be at it
		}
		<-sent
	}()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	for i, a := range asks {
		o, keep, err := m.read(br, a)
		m.Report.Add(a, o, err)
		if o == Wrong || !keep {
			return m.renew(asks[i+1:]), false
		}
	}
	return nil, true
}

// renew makes the same requests again, with new ids: the upstream may have seen the old ones.
func (m *Mixed) renew(asks []*Ask) []*Ask {
	var out []*Ask
	for _, a := range asks {
		again := *a
		again.ID = NewID()
		out = append(out, &again)
	}
	return out
}

// ErrSeemsWhole says that an answer which the upstream broke off came without any sign of it.
var ErrSeemsWhole = errors.New("the upstream broke this answer off, and it seems complete")

func (m *Mixed) read(br *bufio.Reader, a *Ask) (o Outcome, keep bool, err error) {
	resp, err := http.ReadResponse(br, &http.Request{Method: a.Method})
	if err != nil {
		return Wrong, false, fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	o, err = a.Check(resp)
	switch {
	case o == Right && a.Broken():
		o, err = Wrong, ErrSeemsWhole
	case o == Refused && !a.Broken() && m.Raced != nil && m.Raced(a.ID):
	case (o == Refused || o == Aborted) && !a.Broken() && !m.Lenient:
		o, err = Wrong, fmt.Errorf("status %d %s, %s", resp.StatusCode, resp.Header.Get("X-Inpod-Error"), [...]string{"", "refused", "aborted"}[o])
	}
	return o, o != Aborted && !resp.Close, err
}
