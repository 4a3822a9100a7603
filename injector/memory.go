package injector

import (
	"context"
	"errors"
	"sync"
	"time"
)

// flights lets those who want the same thing at the same time share one reading of it.
type flights[V any] struct {
	mu    sync.Mutex
	going map[string]*flight[V]
}

type flight[V any] struct {
	done  chan struct{}
	value V
	err   error
	gone  bool // whoever read it did not stay until the end, which says nothing about the thing
}

// do returns what read does, which is called by the first of those who ask. Each waits no longer than its own ctx.
func (f *flights[V]) do(ctx context.Context, key string, read func() (V, error)) (V, error) {
	for {
		f.mu.Lock()
		other, ok := f.going[key]
		if !ok {
			if f.going == nil {
				f.going = map[string]*flight[V]{}
			}
			mine := &flight[V]{done: make(chan struct{}), err: errors.New("BUG: the reading had no end")}
			f.going[key] = mine
			f.mu.Unlock()
			defer func() {
				mine.gone = ctx.Err() != nil
				f.mu.Lock()
				delete(f.going, key)
				f.mu.Unlock()
				close(mine.done)
			}()
			mine.value, mine.err = read()
			return mine.value, mine.err
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		case <-other.done:
		}
		if !other.gone || other.err == nil {
			return other.value, other.err
		}
	}
}

// memory keeps what was read for a while; failures it does not keep.
type memory[V any] struct {
	keep time.Duration // how long what was read counts, from when the reading began
	// spare is how much longer it counts while nobody answers.
	spare time.Duration
	most  int

	reading flights[V]

	mu    sync.Mutex
	known map[string]kept[V]
}

type kept[V any] struct {
	value V
	began time.Time
	asked bool // somebody was told that it gets old
}

// get returns what is known under key, or reads it. aging is true once in the second half of its time: whoever gets
// that may read it again before anybody has to wait for it.
func (m *memory[V]) get(ctx context.Context, key string, read func(context.Context) (V, error)) (value V, aging bool, err error) {
	m.mu.Lock()
	k, ok := m.known[key]
	age := time.Since(k.began)
	if ok && age < m.keep {
		if aging = !k.asked && age >= m.keep/2; aging {
			k.asked = true
			m.known[key] = k
		}
		m.mu.Unlock()
		return k.value, aging, nil
	}
	m.mu.Unlock()
	value, err = m.renew(ctx, key, read)
	if err != nil && ok && age < m.keep+m.spare && !answered(err) {
		return k.value, false, nil
	}
	return value, false, err
}

// renew reads what is under key, whatever is known of it.
func (m *memory[V]) renew(ctx context.Context, key string, read func(context.Context) (V, error)) (V, error) {
	return m.reading.do(ctx, key, func() (V, error) {
		began := time.Now()
		value, err := read(ctx)
		if err == nil {
			m.put(key, kept[V]{value: value, began: began})
		}
		return value, err
	})
}

func (m *memory[V]) put(key string, k kept[V]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = map[string]kept[V]{}
	}
	for old, other := range m.known { // what nobody asks for any more does not stay
		if k.began.Sub(other.began) >= m.keep+m.spare {
			delete(m.known, old)
		}
	}
	if len(m.known) >= m.most {
		clear(m.known)
	}
	m.known[key] = k
}
