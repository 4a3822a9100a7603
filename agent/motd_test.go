package agent

import (
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/metrics"
)

func TestMOTD(t *testing.T) {
	u := metrics.Usage{Version: 2, CPULimit: 7.5, MemoryLimit: 16 << 30, MemoryWorkingSet: 3 << 29}
	got := motdText(u, 64<<30, []string{"NVIDIA A100", "T4", "NVIDIA A100"}, []disk{{"/", 100 << 30, 25 << 30}, {"/data", 2 << 40, 2 << 40}})
	want := `
  CPU     7.5 cores
  Memory  16 GiB, 1.5 GiB in use
  GPU     NVIDIA A100 × 2
  GPU     T4 × 1
  Disks   /                        100 GiB, 75 % in use
          /data                    2 TiB, 0 % in use

`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	u = metrics.Usage{CPULimit: math.Inf(1), MemoryLimit: math.Inf(1), MemoryWorkingSet: math.NaN()}
	got = motdText(u, 64<<30, nil, nil)
	want = "\n  CPU     " + number(float64(cores())) + " cores, not limited\n  Memory  64 GiB, not limited\n\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDisks(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range disks("overlay / overlay rw 0 0\nproc /proc proc rw 0 0\ntmpfs / tmpfs rw 0 0\ntmpfs /etc/hosts ext4 rw 0 0\ntmpfs /no\\040such tmpfs rw 0 0\n") {
		seen[d.path] = true
	}
	if len(seen) != 1 || !seen["/"] {
		t.Errorf("%v, want / alone", seen)
	}
}

// A file system that does not answer holds up no login, and is not asked again until it has answered.
func TestDisksThatDoNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		var calls atomic.Int32
		look := withinTime(func() []int32 {
			n := calls.Add(1)
			<-answer
			return []int32{n}
		}, time.Second)
		for range 3 {
			began := time.Now()
			if got := look(); got != nil || time.Since(began) != time.Second {
				t.Errorf("got %v after %s", got, time.Since(began))
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
		close(answer)
		synctest.Wait()
		if got := look(); len(got) != 1 || got[0] != 2 {
			t.Errorf("got %v after it has answered", got)
		}
	})
}
