package sshd

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// failure is what an address has tried in vain.
type failure struct {
	count int
	last  time.Time
	next  time.Time      // when its next password is looked at
	users map[string]int // of count, those for the first few users
}

const (
	freeTries   = 3                // passwords that are looked at without a delay
	firstDelay  = time.Second      // of the one after those; it doubles
	mostDelay   = 15 * time.Second // so nobody behind the same address is kept out for long
	forgetAfter = 10 * time.Minute // without a failure
	mostAddrs   = 10_000           // that are remembered
	mostUsers   = 8                // of an address whose failures are told apart
	longestUser = 64               // bytes of their names
	mostQueue   = time.Minute      // further passwords of an address are refused unseen
)

var errTooMany = errors.New("too many wrong passwords from this address")

// network is what counts as one address: of IPv6 a customer has a whole /64.
func network(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// await holds up a password of an address that has guessed wrong before. The delay comes before the password is looked
// at and is shared by all connections of the address, so that hanging up early or coming many times gains nothing.
// Keys are never delayed: nobody guesses them.
func (d *door) await(ctx context.Context, a netip.Addr) error {
	d.mu.Lock()
	now := time.Now()
	until := now
	if f := d.failures[network(a)]; f.guessing(now) {
		until = f.next
		if until.Before(now) {
			until = now
		}
		if until.Sub(now) > mostQueue {
			d.mu.Unlock()
			return errTooMany
		}
		f.next = until.Add(f.delay())
	}
	d.mu.Unlock()
	if !until.After(now) {
		return nil
	}
	t := time.NewTimer(until.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// guessing tells whether an address has used up its free tries.
func (d *door) guessing(a netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failures[network(a)].guessing(time.Now())
}

func (f *failure) guessing(now time.Time) bool {
	return f != nil && f.count >= freeTries && now.Sub(f.last) < forgetAfter
}

func (f *failure) delay() time.Duration {
	d := firstDelay
	for i := freeTries; i < f.count && d < mostDelay; i++ {
		d *= 2
	}
	return min(d, mostDelay)
}

// failed counts a wrong password.
func (d *door) failed(a netip.Addr, user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	key := network(a)
	f := d.failures[key]
	if f == nil || now.Sub(f.last) >= forgetAfter {
		if len(d.failures) >= mostAddrs {
			d.forget(now)
		}
		f = &failure{users: map[string]int{}}
		d.failures[key] = f
	}
	f.count++
	if _, known := f.users[user]; known || len(f.users) < mostUsers && len(user) <= longestUser {
		f.users[user]++
	}
	f.last = now
	if f.count == freeTries {
		f.next = now.Add(f.delay())
	}
}

// forget makes room: what is old goes, and if that is nothing, everything. The caller holds mu.
func (d *door) forget(now time.Time) {
	for k, f := range d.failures {
		if now.Sub(f.last) >= forgetAfter {
			delete(d.failures, k)
		}
	}
	if len(d.failures) >= mostAddrs {
		clear(d.failures)
	}
}

// right forgets the failures of an address with the user whose password was right, and not those with others: somebody
// who has a password could guess at theirs for ever, with a login of his own in between.
func (d *door) right(a netip.Addr, user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := network(a)
	f := d.failures[key]
	if f == nil {
		return
	}
	f.count -= f.users[user]
	delete(f.users, user)
	if f.count == 0 {
		delete(d.failures, key)
	}
}
