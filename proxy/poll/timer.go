package poll

// timer is a Sock's deadline. Deadlines mostly move away: only the earliest one that was asked for stands in the heap,
// and when it comes up the real one is looked at. So a request costs no operation on the heap.
type timer struct {
	at    int64 // the deadline; 0: none
	key   int64 // where the Sock stands in the heap
	index int   // in the heap; -1: not there
}

// SetDeadline sets when Timeout is called, in the time of Now; 0 is never.
func (s *Sock) SetDeadline(at int64) {
	s.at = at
	if at == 0 {
		return
	}
	t := &s.loop.timers
	switch {
	case s.index < 0:
		t.push(s, at)
	case at < s.key:
		s.key = at
		t.up(s.index)
	}
}

// Deadline is what SetDeadline was given.
func (s *Sock) Deadline() int64 { return s.at }

// timers is a binary heap of Socks by key.
type timers struct{ heap []*Sock }

// next is when to look again; 0: never.
func (t *timers) next() int64 {
	if len(t.heap) == 0 {
		return 0
	}
	return t.heap[0].key
}

// due returns a Sock whose deadline has passed, and unsets it; nil when there is none.
func (t *timers) due(now int64) *Sock {
	for len(t.heap) > 0 && t.heap[0].key <= now {
		s := t.heap[0]
		if s.at > now { // it was moved away
			s.key = s.at
			t.down(0)
			continue
		}
		expired := s.at != 0
		t.remove(s)
		if expired {
			s.at = 0
			return s
		}
	}
	return nil
}

func (t *timers) push(s *Sock, key int64) {
	s.key, s.index = key, len(t.heap)
	t.heap = append(t.heap, s)
	t.up(s.index)
}

func (t *timers) remove(s *Sock) {
	i := s.index
	if i < 0 {
		return
	}
	last := len(t.heap) - 1
	t.swap(i, last)
	t.heap[last] = nil
	t.heap = t.heap[:last]
	s.index = -1
	if i < last {
		t.up(i)
		t.down(i)
	}
}

func (t *timers) swap(i, j int) {
	h := t.heap
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (t *timers) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if t.heap[parent].key <= t.heap[i].key {
			return
		}
		t.swap(i, parent)
		i = parent
	}
}

func (t *timers) down(i int) {
	for {
		least, left := i, 2*i+1
		for c := left; c < min(left+2, len(t.heap)); c++ {
			if t.heap[c].key < t.heap[least].key {
				least = c
			}
		}
		if least == i {
			return
		}
		t.swap(i, least)
		i = least
	}
}
