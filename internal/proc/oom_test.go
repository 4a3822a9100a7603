package proc

import (
	"strconv"
	"sync"
	"testing"
)

// Children read their value first thing; those that are started at the same time have the agent's.
func TestOOMScoreAdjIsThereFromTheStart(t *testing.T) {
	r := newTestReaper(t)
	const own = "/proc/self/oom_score_adj"
	before := firstLine(own)
	agents, err := strconv.Atoi(before)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 60 {
		want := agents
		spec := shell("read adj < " + own + "; echo $adj")
		if i%2 == 0 {
			want = min(1000, agents+i+1)
			spec.OOMScoreAdj = &want
		}
		if i%3 == 0 {
			spec.Umask = 0o27 // another way to fork
		}
		wg.Go(func() {
			st, out, err := r.Run(testContext(t), spec, RunOptions{})
			if got := string(out); err != nil || st.Code != 0 || got != strconv.Itoa(want)+"\n" {
				t.Errorf("got %q, %v, %v; want %d", got, st, err, want)
			}
		})
	}
	wg.Wait()
	missing := NewSpec("/nowhere/at/all")
	most := 1000
	missing.OOMScoreAdj = &most
	if _, err := r.Start(missing); err == nil {
		t.Error("a file that is not there was started")
	}
	if got := firstLine(own); got != before {
		t.Errorf("the agent's own became %s, was %s", got, before)
	}
}
