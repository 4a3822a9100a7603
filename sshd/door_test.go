package sshd

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// stranger is a connection of an address that has come so far.
func stranger(addr string, stage int32) *peer {
	near, _ := net.Pipe()
	w := newPeer(near)
	w.addr = netip.MustParseAddr(addr)
	w.stage.Store(stage)
	return w
}

// Who is thrown out when the places are taken.
func TestWhoMakesRoom(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string // address/stage, the oldest first; there are eight places, four of which are for those that have not begun
		out  string // the first that goes
	}{
		{"the oldest of those that say nothing", "1/1 1/0 1/0 1/0 1/0 1/0 1/2 1/2", "1"},
		{"of those that have begun, while few have not", "1/0 1/0 1/1 1/2 1/1 1/1 1/2 1/2", "2"},
		{"the one that has come the least far", "1/2 1/2 1/2 1/2 1/2 1/2 1/1 1/2", "6"},
		{"of the address with the most", "1/2 2/2 2/2 2/2 1/2 2/2 2/2 2/2", "1"},
		{"of the address with the most, in silence", "1/0 2/0 2/0 2/0 1/0 2/0 2/0 2/0", "1"},
		{"how far it has come counts before the address", "2/2 2/2 2/2 2/2 2/2 2/2 2/2 1/1", "7"},
		{"nobody who has logged in", "1/3 1/3 1/3 1/3 1/3 1/3 1/3 1/0", "7"},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDoor()
			d.limit(8, 8)
			out := "nobody"
			for i, text := range strings.Fields(tt.in) {
				var addr, stage int
				if _, err := fmt.Sscanf(text, "%d/%d", &addr, &stage); err != nil {
					t.Fatal(err)
				}
				w := stranger(fmt.Sprintf("10.0.0.%d", addr), int32(stage))
				w.Conn = told{w.Conn, func() {
					if out == "nobody" {
						out = fmt.Sprint(i)
					}
				}}
				if !d.enter(w) {
					t.Fatalf("%s: connection %d does not come in", tt.name, i)
				}
				if stage == stageIn {
					d.known(w)
				}
				time.Sleep(moment / 16) // of the bubble's clock: each is younger than the one before
			}
			time.Sleep(moment)
			d.enter(stranger("10.0.0.9", stageNew))
			if out != tt.out {
				t.Errorf("%s: %s goes, want %s", tt.name, out, tt.out)
			}
		})
	}
}

// told tells when a connection is closed.
type told struct {
	net.Conn
	closed func()
}

func (c told) Close() error { c.closed(); return c.Conn.Close() }

// Nobody is thrown out before his moment is over, and who waits for that comes in as soon as somebody leaves.
func TestAMomentForEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		d.limit(1, 9)
		first := stranger("10.0.0.1", stageNew)
		d.enter(first)
		began := time.Now()
		if !d.enter(stranger("10.0.0.1", stageNew)) || time.Since(began) != moment {
			t.Errorf("the second comes in after %s, want %s", time.Since(began), moment)
		}
		began = time.Now()
		time.AfterFunc(moment/4, func() { d.limit(2, 9); d.leave(first) })
		if !d.enter(stranger("10.0.0.1", stageNew)) || time.Since(began) != moment/4 {
			t.Errorf("the third comes in after %s, want %s", time.Since(began), moment/4)
		}
		time.AfterFunc(moment/4, d.close)
		if d.enter(stranger("10.0.0.1", stageNew)) {
			t.Error("somebody comes in through a closed door")
		}
	})
}

// However those of a flood are mixed, the places go round: who waits behind 1,000 of them does not wait for long.
func TestTheFloodGoesBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		d.limit(100, 512)
		began := time.Now()
		for i := range 1000 {
			w := stranger(fmt.Sprintf("10.0.0.%d", 1+i%2), stageNew)
			if !d.enter(w) {
				t.Fatalf("connection %d does not come in", i)
			}
			if i%8 == 6 {
				w.stage.Store(stageOffer)
			}
		}
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("1,000 connections take %s", d)
		} else {
			t.Logf("1,000 connections take %s", d)
		}
	})
}

// The counts by address come back to nothing.
func TestDoorForgets(t *testing.T) { synctest.Test(t, doorForgets) }

func doorForgets(t *testing.T) {
	d := newDoor()
	d.limit(3, 5)
	var all []*peer
	for i := range 20 {
		w := stranger(fmt.Sprintf("10.0.%d.1", i%4), int32(i%3))
		all = append(all, w)
		if d.enter(w) && i%5 == 0 {
			d.known(w)
		}
	}
	for _, w := range all {
		d.leave(w)
	}
	if len(d.in)+len(d.strangers)+len(d.crowd) != 0 {
		t.Errorf("left: %d connections, %d strangers, %v", len(d.in), len(d.strangers), d.crowd)
	}
}

// How far a connection has come is told by what it has sent.
func TestStages(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	w := newPeer(near)
	go func() {
		for _, n := range []int{20, identSize - 20, 1, 1} {
			_, _ = far.Write(make([]byte, n))
		}
	}()
	var got []int32
	for _, n := range []int{20, identSize - 20, 1} {
		if _, err := io.ReadFull(w, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		got = append(got, w.stage.Load())
	}
	w.stage.Store(stageKeys)
	if _, err := io.ReadFull(w, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if got = append(got, w.stage.Load()); fmt.Sprint(got) != "[0 0 1 2]" {
		t.Errorf("stages %v", got)
	}
}
