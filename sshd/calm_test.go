package sshd

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		began := time.Now()
		c := &calm{settled: func() { n.Add(1) }}
		at := func(want int32) {
			t.Helper()
			if synctest.Wait(); n.Load() != want {
				t.Errorf("after %s it was done %d times, want %d", time.Since(began), n.Load(), want)
			}
		}
		c.soon()
		time.Sleep(calmDelay / 2)
		c.soon() // another one has come and gone
		time.Sleep(calmDelay / 2)
		at(0)
		time.Sleep(calmDelay / 2)
		at(1)
		c.soon()
		c.not(false) // somebody comes
		time.Sleep(2 * calmDelay)
		at(1)
		c.soon()
		time.Sleep(calmDelay)
		at(2)
		c.not(true)
		c.soon()
		time.Sleep(2 * calmDelay)
		at(2)
	})
}
