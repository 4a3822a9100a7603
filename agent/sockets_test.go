package agent

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/inpod/inpod/config"
)

func socketAt(t *testing.T, path string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("", nil, config.Options{Env: []string{"INPOD_ADMIN_SOCKET=" + path}})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestControlSocketTakesItsDirectoryAway(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	for _, tt := range []struct {
		name, dir string
		left      bool
	}{
		{"made for it", dir + "/made", false},
		{"there before", dir, true},
	} {
		ln, path, err := listenControl(socketAt(t, tt.dir+"/i.sock"), log)
		if err != nil || path != tt.dir+"/i.sock" {
			t.Fatalf("%s: got %q, %v", tt.name, path, err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: got %v, %v; want a socket of mode 0600", tt.name, st, err)
		}
		ln.Close()
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: the socket is left", tt.name)
		}
		if _, err := os.Stat(tt.dir); (err == nil) != tt.left {
			t.Errorf("%s: the directory is left: got %v, want %v", tt.name, err == nil, tt.left)
		}
	}
}

func TestControlSocketThatCannotBeHad(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "")
	for _, path := range []string{dir + "/file/i.sock", dir + "/no/such/i.sock", dir + "/file"} {
		ln, at, err := listenControl(socketAt(t, path), slog.New(slog.DiscardHandler))
		if ln != nil || at != "" || err == nil || !strings.Contains(err.Error(), "admin.socket") {
			t.Errorf("%s: got %v, %q, %v; want an error that names admin.socket", path, ln, at, err)
		}
	}
}
