package models

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What inpod did not put there it does not replace.
func TestWhatIsThereAlready(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before func(to string) error
		refuse string
	}{
		{"nothing", func(string) error { return nil }, ""},
		{"an empty directory", func(to string) error { return os.MkdirAll(to, 0o755) }, ""},
		{"a new file system", func(to string) error { return os.MkdirAll(to+"/lost+found", 0o755) }, ""},
		{"somebody's files", func(to string) error { return os.MkdirAll(to+"/thesis", 0o755) }, `holds "thesis", which inpod did not put there; remove it, or set models[].to to another directory`},
		{"a file", func(to string) error { return os.WriteFile(to, nil, 0o644) }, "is no directory"},
		{"a link to a directory", func(to string) error {
			if err := os.Mkdir(to+".real", 0o755); err != nil {
				return err
			}
			return os.Symlink(to+".real", to)
		}, ""},
	} {
		dir := t.TempDir()
		write(t, dir+"/in/m.bin", []byte("m"))
		if err := os.Mkdir(dir+"/models", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := tt.before(dir + "/models/m"); err != nil {
			t.Fatal(err)
		}
		m := "- {name: m, url: DIR/in/m.bin, to: DIR/models/m}"
		if tt.refuse != "" {
			refused(t, dir, m, tt.refuse)
			continue
		}
		fetch(t, dir, m)
		if diff := cmp.Diff(map[string]string{"m.bin": "m"}, tree(t, dir+"/models/m/")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		leftovers(t, dir+"/models")
	}
}

// A directory that must stay gets new content, also when an agent was ended in the middle of that.
func TestContentIsSwapped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/in/a.bin", []byte("a"))
	write(t, dir+"/in/sub/b.bin", []byte("b"))
	u := New(parse(t, dir, "- {name: m, url: DIR/in, to: DIR/m}"), Options{Log: slog.New(slog.DiscardHandler)}).units[0]
	put := func() error {
		src, err := u.source()
		if err != nil {
			t.Fatal(err)
		}
		l, err := src.list(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		p := &place{to: dir + "/m", work: dir + "/m/" + insideName, inside: true}
		p.stamp()
		return u.renew(t.Context(), p, l)
	}
	if err := os.MkdirAll(dir+"/m/lost+found", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a.bin": "a", "sub/b.bin": "b"}, tree(t, dir+"/m")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	write(t, dir+"/in/a.bin", []byte("new"))
	if err := os.RemoveAll(dir + "/in/sub"); err != nil {
		t.Fatal(err)
	}
	// As it is when the old model is half gone and the new one half there.
	for _, err := range []error{
		os.MkdirAll(dir+"/m/.inpod/old", 0o700), os.Rename(dir+"/m/"+stampName, dir+"/m/.inpod/old/"+stampName), os.WriteFile(dir+"/m/.inpod/owned", nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a.bin": "new"}, tree(t, dir+"/m")); diff != "" {
		t.Errorf("after the interruption (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(dir + "/m/lost+found"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(dir + "/m/" + stampName); err != nil {
		t.Fatal(err)
	}
	if err := put(); err == nil || !strings.Contains(err.Error(), `holds "a.bin"`) {
		t.Errorf("without the stamp: %v", err)
	}
}

// An agent that is ended leaves what the next one goes on with.
func TestTheNextAgentGoesOn(t *testing.T) {
	t.Parallel()
	dir, data := t.TempDir(), noise(4<<20)
	half := make(chan struct{})
	var second atomic.Value
	url := localServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		if r.Header.Get("Range") == "" {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			_, _ = w.Write(data[:3<<20])
			_ = http.NewResponseController(w).Flush()
			close(half)
			<-r.Context().Done()
			return
		}
		second.Store(r.Header.Get("Range") + " " + r.Header.Get("If-Range"))
		var from int
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data[from:])
	})
	m := fmt.Sprintf("- {name: m, url: '%s/m.bin', to: DIR/m, sha256: %s}", url, sum(data))
	ctx, cancel := context.WithCancel(t.Context())
	f := New(parse(t, dir, m), Options{Log: slog.New(slog.DiscardHandler)})
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	<-half
	for f.States()[0].Done < 3<<20 {
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
	}
	if s := f.States()[0]; s.State != stateFetching || s.Detail != "75 % (3.1 MB of 4.2 MB)" {
		t.Errorf("in the middle: %+v", s)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("a fetch that was ended returns nil")
	}
	log := fetch(t, dir, m)
	if got := second.Load(); got != `bytes=3145728- "one"` {
		t.Errorf("the second agent asks for %v\n%s", got, log)
	}
	if got := tree(t, dir+"/m")["m.bin"]; got != string(data) {
		t.Errorf("%d bytes came, want %d", len(got), len(data))
	}
	leftovers(t, dir)
}

// Pods that share a volume fetch once.
func TestTwoAgentsWithOneVolume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var whole atomic.Int32
	began, goOn := make(chan struct{}, 2), make(chan struct{})
	url := localServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		whole.Add(1)
		began <- struct{}{}
		<-goOn
		_, _ = w.Write([]byte("model"))
	})
	m := parse(t, dir, "- {name: m, url: '"+url+"/m.bin', to: DIR/m}")
	ended := make(chan error, 2)
	var fetchers [2]*Fetcher
	for i := range fetchers {
		fetchers[i] = New(m, Options{Log: slog.New(slog.DiscardHandler)})
		go func() { ended <- fetchers[i].Run(t.Context()) }()
	}
	<-began
	waiting := func() bool {
		return fetchers[0].States()[0].Detail == "another process is fetching it" || fetchers[1].States()[0].Detail == "another process is fetching it"
	}
	for !waiting() {
		select {
		case err := <-ended:
			t.Fatalf("one has ended: %v", err)
		case <-t.Context().Done():
			t.Fatal("neither waits")
		default:
		}
	}
	close(goOn)
	for range fetchers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := whole.Load(); n != 1 {
		t.Errorf("the model was fetched %d times", n)
	}
	leftovers(t, dir)
}

func TestReadOnlyTarget(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere; e2e has a read-only file system")
	}
	dir := t.TempDir()
	write(t, dir+"/in/m.bin", []byte("m"))
	if err := os.Mkdir(dir+"/models", 0o555); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "- {name: m, url: DIR/in/m.bin, to: DIR/models/m}",
		fmt.Sprintf("cannot put the model into %s: mkdir %s: permission denied; the agent runs as user %d", filepath.Join(dir, "models/m"), filepath.Join(dir, "models/.m.inpod"), os.Getuid()))
}

// Root does not go where a link of another user leads: neither to the model nor to where it is put together.
func TestALinkOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // who is not root may go where he can
	}
	for _, link := range []string{"m", ".m.inpod"} {
		dir, victim := t.TempDir(), t.TempDir()
		src := write(t, filepath.Join(dir, "src.onnx"), []byte("model"))
		at := filepath.Join(dir, link)
		if err := errors.Join(os.Symlink(victim, at), os.Lchown(at, 1234, 1234)); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, "- {name: m, url: "+src+", to: DIR/m}", "belongs to the user 1234, and root does not follow it")
		if names, _ := os.ReadDir(victim); len(names) > 0 {
			t.Errorf("the link was followed: %v", names)
		}
	}
}
