package metrics

import "math"

const (
	leastMemory = 64 << 20
	share       = 8
)

// OwnMemoryLimit is the soft memory limit (runtime/debug.SetMemoryLimit) that suits an agent in a container that may
// use limit bytes: an eighth, and never so little that the collector would run all the time. ok is false when the
// container is not limited. GOMAXPROCS needs nothing of the kind: since Go 1.25 the runtime follows the cgroup's quota.
func OwnMemoryLimit(limit float64) (bytes int64, ok bool) {
	if math.IsNaN(limit) || math.IsInf(limit, 0) || limit <= 0 {
		return 0, false
	}
	return max(leastMemory, int64(limit)/share), true
}
