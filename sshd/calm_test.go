package sshd

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, n := time.Now(), 0
		c := &calm{settled: func() { n++ }}
		at := func(want int) {
			t.Helper()
			if synctest.Wait(); n != want {
				t.Errorf("after %s it was done %d times, want %d", time.Since(began), n, want)
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
