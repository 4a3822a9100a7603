package supervisor

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"testing"
)

// Images of one file have no /tmp, and nobody wants to read of that where no program needs it.
func TestClearAutoLogsWithoutADirectory(t *testing.T) {
	var said bytes.Buffer
	b := start(t, "", func(o *Options) {
		o.Config.Supervisord.Childlogdir = filepath.Join(t.TempDir(), "missing")
		o.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	b.stop()
	if said.Len() > 0 {
		t.Errorf("it warned: %s", said.String())
	}
}
