package agent

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An occupant is a goroutine that sleeps on a processor of the scheduler without letting go of it. The runtime's sysmon
// thread sleeps until it is woken when all processors are idle, and is woken by the next system call; then it looks around
// every 20 µs until all are idle again. An SSH client that waits for each answer has it do so for each request, which was a
// quarter of what a request took, and as much again for the thread that woke it. With an occupant not all are ever
// idle, so that sysmon is not woken, but looks around every 10 ms. See docs/decisions/059-processors.md.

const (
	burst      = 32                       // so many reads are looked at together
	burstTime  = burst * time.Millisecond // that they take at most when there is much to do
	occupation = 9 * time.Millisecond     // sysmon disturbs who does not pause for 10 ms
	fewMoves   = 4                        // less than that meanwhile is quiet
	quietTurns = 5                        // so much of it ends it
)

// moved is told of each read of an SSH connection, and when it was. Many in a short time bring an occupant.
func (p *processors) moved(at time.Time) {
	if p.moves.Add(1) < burst || p.occupied.Load() {
		return
	}
	now := at.UnixNano()
	took := time.Duration(now - p.since.Swap(now))
	p.moves.Store(0)
	if took > burstTime {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.logins == 0 || p.serving.Load() || p.occupied.Load() {
		return // the proxy's loops are occupants of another kind
	}
	p.occupied.Store(true)
	p.adjust()
	p.occupant.Go(p.occupy)
}

// occupy is the occupant. It leaves when little moves, and when the proxy needs the processor.
func (p *processors) occupy() {
	for quiet := 0; quiet < quietTurns && p.mayStay(); {
		switch {
		case !p.sit():
		case p.moves.Swap(0) < fewMoves:
			quiet++
		default:
			quiet = 0
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.occupied.Store(false)
	p.adjust()
}

func (p *processors) mayStay() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed && p.logins > 0 && !p.serving.Load()
}

// sit sleeps without telling the scheduler. The runtime wants the processor for a moment when it collects garbage: its
// signal ends the sleep, and the caller must then get to where a goroutine can be stopped, which is the beginning of
// every function that is not inlined. Gosched is no such place.
//
//go:noinline
func sit() bool {
	t := unix.NsecToTimespec(int64(occupation))
	if _, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(&t)), 0, 0, 0); errno != 0 {
		return false
	}
	runtime.Gosched()
	return true
}
