package agent

import (
	"log/slog"
	"math"
	"os"
	"sync"
	"time"

	"github.com/inpod/inpod/metrics"
)

// killsEvery is how often the kernel's count is looked at: two small files.
const killsEvery = 5 * time.Second

// killWatch says when the kernel kills a process of the container for want of memory. Whoever started it sees a SIGKILL
// and no more, and of a server's worker not even that is in our log.
type killWatch struct {
	stop chan struct{}
	wg   sync.WaitGroup
}

// watchKills begins. count returns how many there have been, NaN where the kernel does not say.
func watchKills(log *slog.Logger, count func() float64) *killWatch {
	w := &killWatch{stop: make(chan struct{})}
	before := count()
	if math.IsNaN(before) {
		return w
	}
	w.wg.Go(func() {
		ticker := time.NewTicker(killsEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-w.stop:
				return
			}
			if now := count(); now > before {
				log.Warn("out of memory: the kernel killed processes of this container", "processes", int64(now-before), "in_all", int64(now))
				before = now
			}
		}
	})
	return w
}

// close ends it.
func (w *killWatch) close() {
	close(w.stop)
	w.wg.Wait()
}

// killsOfTheContainer is the count of the agent's own cgroup.
func killsOfTheContainer() float64 {
	self, _ := os.ReadFile("/proc/self/cgroup") // absent: the root is read
	return metrics.OOMKills(metrics.CgroupRoot, string(self))
}
