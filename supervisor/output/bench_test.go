package output

import (
	"bytes"
	"path/filepath"
	"runtime"
	"testing"
)

// benchmarkStream pushes 32 KiB writes through a pipe, in this process.
func benchmarkStream(b *testing.B, o Options) {
	s := open(b, newHub(b, HubOptions{}), o)
	block := bytes.Repeat([]byte("0123456789012345678901234567890123456789012345678901234567890\n"), 512)
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.ChildEnd().Write(block); err != nil {
			b.Fatal(err)
		}
	}
	end(b, s)
}

func BenchmarkRotatingFile(b *testing.B) {
	benchmarkStream(b, Options{Targets: []string{filepath.Join(b.TempDir(), "x.log")}, Maxbytes: 50 << 20, Backups: 2})
}

func BenchmarkDiscard(b *testing.B) { benchmarkStream(b, Options{}) }

func BenchmarkRawPrefix(b *testing.B) {
	benchmarkStream(b, Options{Targets: []string{"/dev/null"}, Format: FormatRaw})
}

func BenchmarkJSON(b *testing.B) {
	benchmarkStream(b, Options{Targets: []string{"/dev/null"}, Format: FormatJSON})
}

func BenchmarkCaptureAndStrip(b *testing.B) {
	benchmarkStream(b, Options{Targets: []string{"/dev/null"}, CaptureMaxbytes: 1 << 20, StripANSI: true})
}

// TestIdleStreamIsSmall keeps the promise of the package comment: a silent stream has no goroutine and no buffer.
func TestIdleStreamIsSmall(t *testing.T) {
	const n = 400
	h := newHub(t, HubOptions{})
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	streams := make([]*Stream, n)
	for i := range streams {
		streams[i] = open(t, h, Options{Targets: []string{"/dev/null"}})
		say(t, streams[i], "hello\n")
		eventually(t, "read", func() bool { return h.Stats().BytesRead == uint64(6*(i+1)) })
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := int64(after.HeapAlloc-before.HeapAlloc) / n; each > 4096 {
		t.Errorf("an idle stream holds %d bytes, want 4096 at most", each)
	} else {
		t.Logf("an idle stream holds %d bytes", each)
	}
	for _, s := range streams {
		end(t, s)
	}
}
