package metrics

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestReadCgroup(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	full := Usage{
		MemoryLimit: 2 << 30, MemoryUsed: 1 << 30, MemoryWorkingSet: 1e9, CPULimit: 1.5, CPUSeconds: 12.5,
		Periods: 10, Throttled: 3, ThrottledSeconds: 2.5, PidsLimit: inf, Pids: 17, OOMKills: 2,
	}
	none := Usage{0, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan}
	for _, tt := range []struct {
		tree, proc string
		want       func(u Usage) Usage
		base       Usage
	}{
		{"v1", "4:memory:/docker/abc\n", func(u Usage) Usage { u.Version = 1; return u }, full},
		{"hybrid", "0::/\n", func(u Usage) Usage { u.Version, u.MemoryLimit, u.CPULimit = 1, inf, inf; return u }, full},
		{"v2", "0::/not/here\n", func(u Usage) Usage { u.Version, u.PidsLimit = 2, 100; return u }, full},
		{"v2", "0::/../..\n", func(u Usage) Usage { u.Version, u.PidsLimit = 2, 100; return u }, full},
		{"v2", "0::/kubepods/pod1\n", func(u Usage) Usage { u.Version, u.MemoryLimit = 2, 1<<20; return u }, none},
		{"v2-unlimited", "", func(u Usage) Usage {
			u.Version, u.MemoryLimit, u.CPULimit, u.MemoryUsed, u.MemoryWorkingSet = 2, inf, inf, 5, 5
			return u
		}, none},
		{"absent", "", func(u Usage) Usage { return u }, none},
		{"no/such/tree", "", func(u Usage) Usage { return u }, none},
	} {
		got := ReadCgroup(filepath.Join("testdata", tt.tree), tt.proc)
		if diff := cmp.Diff(tt.want(tt.base), got, cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("%s with %q (-want +got):\n%s", tt.tree, tt.proc, diff)
		}
		if n := OOMKills(filepath.Join("testdata", tt.tree), tt.proc); n != got.OOMKills && !math.IsNaN(got.OOMKills) {
			t.Errorf("%s with %q: OOMKills says %v, want %v", tt.tree, tt.proc, n, got.OOMKills)
		}
	}
}

func TestReadCgroupOfThisMachine(t *testing.T) {
	if u := ReadCgroup(CgroupRoot, ""); u.Version != 0 && math.IsNaN(u.MemoryUsed) && math.IsNaN(u.CPUSeconds) {
		t.Errorf("version %d but neither memory nor CPU could be read: %+v", u.Version, u)
	}
}

func TestOwnMemoryLimit(t *testing.T) {
	for _, tt := range []struct {
		limit float64
		want  int64
		ok    bool
	}{
		{math.Inf(1), 0, false},
		{math.NaN(), 0, false},
		{0, 0, false},
		{100 << 20, 64 << 20, true},
		{4 << 30, 512 << 20, true},
	} {
		got, ok := OwnMemoryLimit(tt.limit)
		if got != tt.want || ok != tt.ok {
			t.Errorf("OwnMemoryLimit(%v) = %d, %v; want %d, %v", tt.limit, got, ok, tt.want, tt.ok)
		}
	}
}
