package models

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

// finalError is one that no repetition mends.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

func final(err error) error {
	if err == nil {
		return nil
	}
	return &finalError{err}
}

func finalf(format string, args ...any) error { return final(fmt.Errorf(format, args...)) }

// laterError is a server's answer that names the time of the next attempt (Retry-After).
type laterError struct {
	error
	after time.Duration
}

func (e *laterError) Unwrap() error { return e.error }

const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
)

// backoff is the time between attempts: twice the last one's, with a share of chance, so that the pods of a Deployment
// do not come back all at once.
type backoff struct{ first, last time.Duration }

func (b *backoff) next(err error) time.Duration {
	b.last = min(max(2*b.last, b.first), maxPause)
	var later *laterError
	if errors.As(err, &later) && later.after > b.last {
		return min(later.after, 2*maxPause)
	}
	return b.last/2 + rand.N(b.last/2+1)
}

// local tells whether err is one of our own disk, which trying again does not mend. A connection that a firewall or a policy
// refuses ends with some of the same numbers.
func local(err error) bool {
	var network *net.OpError
	if errors.As(err, &network) {
		return false
	}
	for _, n := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.EFBIG, syscall.EIO, syscall.ENAMETOOLONG} {
		if errors.Is(err, n) {
			return true
		}
	}
	return false
}
