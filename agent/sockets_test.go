package agent

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	at := unixSocket{path: path, mode: 0o640, uid: os.Getuid(), gid: os.Getgid()}
	first, err := listenUnix(at)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(path); err != nil || fi.Mode() != fs.ModeSocket|0o640 {
		t.Errorf("the socket is %v, %v; want a socket of mode 0640", fi.Mode(), err)
	}
	if _, err := listenUnix(at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("over a live socket: %v, want EADDRINUSE", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v, want no file", err)
	}
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = stale.Close()
	second, err := listenUnix(at)
	if err != nil {
		t.Fatalf("over a stale socket: %v", err)
	}
	_ = second.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(at); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("over a file: %v, want an error that says what it is", err)
	}
	if data, err := os.ReadFile(path); string(data) != "precious" {
		t.Errorf("the file is %q, %v; want it untouched", data, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
