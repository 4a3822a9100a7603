package agent

import (
	"math"
	"testing"

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
