package agent

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestKillWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var kills atomic.Int64
		kills.Store(2) // before we came
		w := watchKills(slog.New(slog.NewTextHandler(&out, nil)), func() float64 { return float64(kills.Load()) })
		for range 3 {
			time.Sleep(killsEvery)
		}
		kills.Store(5)
		for range 3 {
			time.Sleep(killsEvery)
		}
		w.close()
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "out of memory") || !strings.Contains(got, "processes=3 in_all=5") {
			t.Errorf("got %q, want one line with 3 and 5", got)
		}
	})
}

func TestKillWatchWithoutACount(t *testing.T) {
	calls := 0
	w := watchKills(slog.New(slog.DiscardHandler), func() float64 { calls++; return math.NaN() })
	w.close()
	if calls != 1 {
		t.Errorf("asked %d times, want once", calls)
	}
}
