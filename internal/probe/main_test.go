package probe

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/inpod/inpod/internal/proc"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func newReaper(t *testing.T) *proc.Reaper {
	t.Helper()
	r, err := proc.New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// says holds an error against what its text must be; "" means success.
func says(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
