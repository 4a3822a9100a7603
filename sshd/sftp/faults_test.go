package sftp

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/sshd/files"
	"golang.org/x/sys/unix"
)

// What was put where nobody may read it does not become readable by another name.
func TestRenameGivesNoFurtherRights(t *testing.T) {
	for _, tt := range []struct {
		from, to files.Access
		ok       bool
	}{
		{files.WriteOnly, files.ReadWrite, false},
		{files.ReadWrite, files.WriteOnly, true},
		{files.WriteOnly, files.WriteOnly, true},
		{files.ReadWrite, files.ReadWrite, true},
	} {
		for _, jailed := range []bool{true, false} {
			jail, _ := scene(t)
			opts, at := Options{Root: jail, Access: files.ReadWrite}, func(p string) string { return p }
			if !jailed {
				opts.Root, at = "", func(p string) string { return jail + p }
			}
			opts.Paths = []files.Rule{{Path: at("/d"), Access: tt.from}, {Path: at("/empty"), Access: tt.to}}
			c := start(t, opts)
			if err := os.Mkdir(filepath.Join(jail, "d", "dir"), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"g", "dir"} {
				code := c.code(typeRename, at("/d/"+name), at("/empty/"+name))
				if (code == statusOK) != tt.ok || !tt.ok && code != statusDenied {
					t.Errorf("jail %v, RENAME of %s from access %d to access %d: status %d", jailed, name, tt.from, tt.to, code)
				}
			}
			write(t, filepath.Join(jail, "d", "h"), "more")
			code := c.code(typeExtended, "posix-rename@openssh.com", at("/d/h"), at("/empty/h"))
			if (code == statusOK) != tt.ok {
				t.Errorf("jail %v, posix-rename from access %d to access %d: status %d", jailed, tt.from, tt.to, code)
			}
		}
	}
}

// A request for nothing is answered with nothing, and not with a status that says all went well and brings no data.
func TestReadOfNothing(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	write(t, name, "some")
	c := start(t, all())
	h := c.open(name, flagRead)
	kind, q := c.ask(typeRead, h, uint64(0), uint32(0))
	if kind != typeData || len(q.bytes()) != 0 || q.err != nil {
		t.Errorf("READ of 0 bytes: answer of type %d, want DATA of 0 bytes", kind)
	}
	if kind, q := c.ask(typeRead, h, uint64(1), uint32(2)); kind != typeData || q.string() != "om" {
		t.Errorf("READ after it: answer of type %d", kind)
	}
}

// A name that the kernel would not take is not looked at part by part.
func TestLongNames(t *testing.T) {
	jail, _ := scene(t)
	long := "/" + strings.Repeat("d/../", 40_000)
	for name, opts := range map[string]Options{
		"whole": {Access: files.ReadWrite},
		"jail":  {Access: files.ReadWrite, Root: jail},
		"rules": {Access: files.ReadWrite, Root: jail, Paths: []files.Rule{{Path: "/ro", Access: files.ReadOnly}}},
	} {
		c := start(t, opts)
		p := long
		if opts.Root == "" {
			p = jail + long
		}
		began := time.Now()
		for range 3 {
			for _, kind := range []byte{typeRealpath, typeStat, typeOpendir} {
				if code := c.code(kind, p); code != statusBadMessage {
					t.Errorf("%s: request %d with a name of %d bytes: status %d, want %d", name, kind, len(p), code, statusBadMessage)
				}
			}
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s: nine requests took %s", name, took)
		}
	}
}

// A quota that others have used up refuses growth, and nothing that does not grow.
func TestQuotaThatOthersHaveUsedUp(t *testing.T) {
	jail, _ := scene(t)
	write(t, filepath.Join(jail, "big"), strings.Repeat("x", 1000))
	c := start(t, Options{Access: files.ReadWrite, Root: jail, Quota: files.NewQuota(jail, 500)})
	h := c.open("/big", flagWrite)
	c.must(typeWrite, h, uint64(10), "over")
	if code := c.code(typeWrite, h, uint64(1000), "more"); code != statusFailure {
		t.Errorf("WRITE beyond the end: status %d, want %d", code, statusFailure)
	}
	if got := contents(t, filepath.Join(jail, "big")); len(got) != 1000 || got[10:14] != "over" {
		t.Errorf("%d bytes, %q", len(got), got[:20])
	}
}

// A name that becomes a link between looking and opening shows nothing of a directory that may not be listed.
func TestListingRace(t *testing.T) {
	jail, _ := scene(t)
	write(t, filepath.Join(jail, "d", "SECRET"), "")
	c := start(t, Options{Access: files.ReadWrite, Root: jail, Paths: []files.Rule{{Path: "/d", Access: files.WriteOnly}}})
	if code := c.code(typeOpendir, "/d"); code != statusDenied {
		t.Fatalf("OPENDIR of a directory that may only be written to: status %d, want %d", code, statusDenied)
	}
	link, dir := filepath.Join(jail, "link"), filepath.Join(jail, "x")
	if err := os.Symlink("d", link); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	for i := range 20_000 {
		kind, q := c.ask(typeOpendir, "/x")
		if kind != typeHandle {
			continue
		}
		h := q.string()
		var names []string
		for {
			kind, q := c.ask(typeReaddir, h)
			if kind != typeName {
				break
			}
			for n := q.uint32(); n > 0; n-- {
				names = append(names, q.string())
				q.bytes()
				q.attrs()
			}
		}
		c.must(typeClose, h)
		if slices.Contains(names, "SECRET") {
			t.Fatalf("round %d: the directory was listed: %q", i, names)
		}
	}
}
