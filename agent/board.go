package agent

import (
	"sync"
	"time"
)

// board is where a step writes how far it is, and others read it.
type board struct {
	mu    sync.Mutex
	list  []StartItem
	began []time.Time
}

// newBoard makes one with an item for each name, all waiting.
func newBoard(kind string, names []string) *board {
	b := &board{began: make([]time.Time, len(names))}
	for _, name := range names {
		b.list = append(b.list, StartItem{Kind: kind, Name: name, State: itemWaiting})
	}
	return b
}

// begin says that the work on an item has begun.
func (b *board) begin(i int) {
	b.change(i, func(item *StartItem) { item.State, item.Started = itemRunning, stamp(b.began[i]) })
}

// end says how it ended.
func (b *board) end(i int, state, detail string) {
	b.change(i, func(item *StartItem) {
		item.State, item.Detail = state, detail
		if !b.began[i].IsZero() {
			item.Seconds = time.Since(b.began[i]).Seconds()
		}
	})
}

func (b *board) change(i int, f func(*StartItem)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.began[i].IsZero() {
		b.began[i] = time.Now()
	}
	f(&b.list[i])
}

// items copies the list, with the seconds until now of what is under way.
func (b *board) items() []StartItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := append([]StartItem(nil), b.list...)
	for i := range list {
		if list[i].State == itemRunning {
			list[i].Seconds = time.Since(b.began[i]).Seconds()
		}
	}
	return list
}
