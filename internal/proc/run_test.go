package proc

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"
)

func newTestReaper(t *testing.T) *Reaper {
	t.Helper()
	r, err := New(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestRunCaptures(t *testing.T) {
	r := newTestReaper(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	spec := NewSpec("/bin/sh", "-c", "cat; echo err >&2; umask; nice; exit 3")
	n := 5
	spec.Umask, spec.Nice = 0o027, &n
	spec.Env = []string{"PATH=/usr/bin:/bin"}
	st, out, err := r.Run(ctx, spec, RunOptions{Input: []byte("in\n")})
	if err != nil || st.Code != 3 || string(out) != "in\nerr\n0027\n5\n" {
		t.Fatalf("got %v %q %v", st, out, err)
	}
}
