package models

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
)

// logBuffer keeps what a Fetcher logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// parse reads models as they stand in the settings, DIR being a directory of the test.
func parse(t *testing.T, dir, models string) []config.Model {
	t.Helper()
	c, err := config.Parse("f", []byte("models:\n"+strings.ReplaceAll(models, "DIR", dir)+"\n"), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Models
}

// try fetches and returns what was logged.
func try(t *testing.T, dir, models string, env ...string) (string, error) {
	t.Helper()
	log := &logBuffer{}
	f := New(parse(t, dir, models), Options{Log: slog.New(slog.NewTextHandler(log, nil)), Env: append(env, "HOME="+dir)})
	for _, u := range f.units {
		u.pause = time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err := f.Run(ctx)
	cancel()
	f.Close()
	return log.String(), err
}

func fetch(t *testing.T, dir, models string, env ...string) string {
	t.Helper()
	log, err := try(t, dir, models, env...)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return log
}

// refused fails unless the fetch fails with want.
func refused(t *testing.T, dir, models, want string, env ...string) {
	t.Helper()
	log, err := try(t, dir, models, env...)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got the error %v, want %q\n%s", err, want, log)
	}
}

// tree is every file below dir with its content; links with their target. The stamp is left out.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == stampName {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if d.Type()&fs.ModeSymlink != 0 {
			got[name], err = os.Readlink(path)
			got[name] = "-> " + got[name]
			return err
		}
		b, err := os.ReadFile(path)
		got[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// leftovers fails when anything but the models is in dir.
func leftovers(t *testing.T, dir string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".inpod") {
			t.Errorf("%s is left in %s", e.Name(), dir)
		}
	}
}

// noise is a file of n bytes that no compression makes smaller, the same in each run.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// entry is one of a tar: a file, unless it says otherwise.
type entry struct {
	name, text, link string
	kind             byte
	mode             int64
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o644
		}
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, Size: int64(len(e.text))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func write(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// nextPort is the one to try next; it begins anywhere, as another run of the tests may be going on.
var nextPort atomic.Int64

// port is an address on which nobody listens, and which no other test is given. It is above the range from which the kernel
// takes ports for outgoing connections and for listeners on port 0: one of those could have it before the server under test.
func port(t *testing.T) string {
	t.Helper()
	const first, count = 61000, 1500
	nextPort.CompareAndSwap(0, 1+rand.Int64N(count))
	for range count {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+nextPort.Add(1)%count))
		if err == nil {
			_ = ln.Close()
			return ln.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// serve runs a server until the end of the test, and returns when it answers on addr.
func serve(t *testing.T, addr, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
	}
	var out bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(time.Minute); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s has ended: %s", name, out.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v\n%s", name, err, out.String())
		}
	}
}

// nginx serves the files below dir.
func nginx(t *testing.T, dir string) string {
	t.Helper()
	addr, work := port(t), t.TempDir()
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/log; events {}
http { access_log off; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d;
scgi_temp_path %[1]s/e; server { listen %[2]s; root %[3]s; } }`, work, addr, dir)
	serve(t, addr, "nginx", "-c", write(t, work+"/conf", []byte(conf)), "-p", work, "-e", work+"/log")
	return "http://" + addr
}

// cutter passes connections on to a server, and cuts each of the first of them after some bytes of the answer.
type cutter struct {
	addr string
	cuts atomic.Int64
}

func newCutter(t *testing.T, to string, after func(n int64) (bytes int64, cut bool)) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{addr: "http://" + ln.Addr().String()}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for n := int64(1); ; n++ {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			limit, cut := after(n)
			go func() {
				defer down.Close()
				up, err := net.Dial("tcp", strings.TrimPrefix(to, "http://"))
				if err != nil {
					return
				}
				defer up.Close()
				go func() { _, _ = io.Copy(up, down) }()
				if !cut {
					_, _ = io.Copy(down, up)
					return
				}
				if _, err := io.CopyN(down, up, limit); err != nil {
					_, _ = io.Copy(down, up)
					return
				}
				c.cuts.Add(1)
				_ = down.(*net.TCPConn).SetLinger(0)
			}()
		}
	}()
	return c
}

// local serves h for the time of the test.
func localServer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + ln.Addr().String()
}
