package seed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if from := os.Getenv("SEED_TEST_FROM"); from != "" {
		os.Exit(helper(from, os.Getenv("SEED_TEST_TO")))
	}
	os.Exit(m.Run())
}

// helper is another process that fills; see TestKilled and inNamespaces.
func helper(from, to string) int {
	if options := os.Getenv("SEED_TEST_MOUNT"); options != "" {
		flags := uintptr(0)
		if options == "ro" {
			flags, options = unix.MS_RDONLY, ""
		}
		if err := unix.Mount("tmpfs", to, "tmpfs", flags, options); err != nil {
			fmt.Println("mount:", err)
			return 3
		}
	}
	r, err := Fill(context.Background(), Options{From: from, To: to, UID: Unchanged, GID: Unchanged, Mode: Unchanged})
	names, _ := os.ReadDir(to)
	fmt.Println(r, err, len(names))
	if err != nil {
		return 1
	}
	return 0
}

func fillIt(t *testing.T, from, to string) (Result, *Progress) {
	t.Helper()
	p := &Progress{}
	r, err := Fill(t.Context(), Options{From: from, To: to, UID: Unchanged, GID: Unchanged, Mode: Unchanged, Progress: p})
	if err != nil {
		t.Fatal(err)
	}
	return r, p
}

// tree makes a directory with one of each kind of file.
func tree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "from")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir+"/a/b", 0o755))
	must(os.WriteFile(dir+"/a/file", []byte("text"), 0o640))
	must(os.WriteFile(dir+"/.hidden", nil, 0o600))
	must(os.WriteFile(dir+"/run.sh", []byte("#!/bin/sh\n"), 0o755))
	must(unix.Chmod(dir+"/run.sh", 0o4755))
	must(os.Link(dir+"/a/file", dir+"/a/b/same"))
	must(os.Symlink("file", dir+"/a/link"))
	must(os.Symlink("/nowhere", dir+"/dangling"))
	must(unix.Mkfifo(dir+"/fifo", 0o622))
	must(os.WriteFile(dir+"/with space\nand line", []byte("x"), 0o444))
	f, err := os.Create(dir + "/sparse")
	must(err)
	_, err = f.WriteAt(bytes.Repeat([]byte("end"), 1000), 4<<20)
	must(err)
	must(f.Truncate(8 << 20))
	must(f.Close())
	_ = unix.Setxattr(dir+"/run.sh", "user.colour", []byte("red"), 0)
	if os.Getuid() == 0 {
		must(os.Lchown(dir+"/a/link", 12, 34))
		must(os.Chown(dir+"/a/b", 56, 78))
	}
	old := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	for _, name := range []string{"a/file", "a/b", "a", "."} {
		must(os.Chtimes(filepath.Join(dir, name), old, old))
	}
	must(os.Chmod(dir, 0o750))
	must(os.Chmod(dir+"/a/b", 0o555))
	must(os.Mkdir(dir+"/locked", 0o555))
	must(os.Chtimes(dir, old, old))
	t.Cleanup(func() { _ = os.Chmod(dir+"/a/b", 0o755) })
	return dir
}

// describe lists everything that a copy must keep, by path.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	out, inodes := map[string]string{}, map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		size := st.Size
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			size = 0
		}
		text := fmt.Sprintf("%o %d:%d %d %v", st.Mode, st.Uid, st.Gid, size, time.Unix(st.Mtim.Unix()).UTC())
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			text += " -> " + target
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %x", bytes.TrimRight(b[:min(len(b), 64)], "\x00"))
			if st.Nlink > 1 {
				if inodes[st.Ino] == "" {
					inodes[st.Ino] = name
				}
				text += " same as " + inodes[st.Ino]
			}
		}
		out[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameTree(t *testing.T, from, to string) {
	t.Helper()
	want, got := describe(t, from), describe(t, to)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%q:\ngot  %s\nwant %s", name, got[name], want[name])
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
}

func TestFill(t *testing.T) {
	from := tree(t)
	for name, prepare := range map[string]func(to string) error{
		"missing": func(string) error { return nil },
		"empty":   func(to string) error { return os.Mkdir(to, 0o755) },
		"link": func(to string) error {
			return errors.Join(os.Mkdir(to+".real", 0o755), os.Symlink(to+".real", to))
		},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "to")
			if err := prepare(to); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(to+"/a/b", 0o755) })
			if r, p := fillIt(t, from, to); r != Filled || p.Files.Load() != 11 || p.Bytes.Load() > 1<<20 {
				t.Errorf("got %v, %s", r, p.Text())
			}
			real, err := filepath.EvalSymlinks(to)
			if err != nil {
				t.Fatal(err)
			}
			sameTree(t, from, real)
			var st unix.Stat_t
			if err := unix.Stat(to+"/sparse", &st); err != nil || st.Blocks > 1000 {
				t.Errorf("the hole is filled: %d blocks (%v)", st.Blocks, err)
			}
			value := make([]byte, 10)
			if n, err := unix.Getxattr(from+"/run.sh", "user.colour", value); err == nil {
				if _, err := unix.Getxattr(to+"/run.sh", "user.colour", value); err != nil || string(value[:n]) != "red" {
					t.Errorf("extended attribute: %q, %v", value[:n], err)
				}
			}
			// Again: it is the users' now.
			if err := os.Remove(to + "/run.sh"); err != nil {
				t.Fatal(err)
			}
			if r, _ := fillIt(t, from, to); r != HadData {
				t.Errorf("the second time: %v", r)
			}
			if _, err := os.Lstat(to + "/run.sh"); err == nil {
				t.Error("what the user removed came back")
			}
		})
	}
}

func TestWhatIsThereStays(t *testing.T) {
	from, to := tree(t), t.TempDir()
	if err := os.Mkdir(to+"/lost+found", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to+"/mine", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, _ := fillIt(t, from, to); r != HadData {
		t.Errorf("got %v", r)
	}
	if err := os.Remove(to + "/mine"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(to+"/a/b", 0o755) })
	if r, _ := fillIt(t, from, to); r != Filled {
		t.Errorf("with lost+found alone: %v", r)
	}
}

func TestOwnerAndMode(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("changing the owner needs root")
	}
	from, to := tree(t), t.TempDir()
	if _, err := Fill(t.Context(), Options{From: from, To: to, UID: 1234, GID: 567, Mode: 0o711}); err != nil {
		t.Fatal(err)
	}
	for name, text := range describe(t, to) {
		if !strings.Contains(text, " 1234:567 ") {
			t.Errorf("%q: %s", name, text)
		}
	}
	if st, err := os.Stat(to); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(to + "/run.sh"); err != nil || st.Mode()&os.ModeSetuid == 0 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// The moment at which a copy is interrupted is any: the process is killed, and the next one completes it.
func TestKilled(t *testing.T) {
	from := tree(t)
	for i := range 300 {
		if err := os.WriteFile(fmt.Sprintf("%s/a/file%d", from, i), bytes.Repeat([]byte{byte(i)}, 50_000), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/top%d", from, i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, dir := range []string{from + "/a", from} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	results := map[string]int{}
	for range 12 {
		to := filepath.Join(t.TempDir(), "to")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SEED_TEST_FROM="+from, "SEED_TEST_TO="+to)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(2+rand.IntN(60))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		r, _ := fillIt(t, from, to)
		results[r.String()]++
		sameTree(t, from, to)
		if t.Failed() {
			return
		}
		_ = os.Chmod(to+"/a/b", 0o755)
	}
	t.Log(results)
}

// Two states that a kill leaves, made by hand.
func TestInterrupted(t *testing.T) {
	from := tree(t)
	t.Run("while copying", func(t *testing.T) {
		to := t.TempDir()
		if err := os.MkdirAll(to+"/"+work+"/"+data+"/a", 0o700); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(to+"/a/b", 0o755) })
		if r, _ := fillIt(t, from, to); r != Resumed {
			t.Errorf("got %v", r)
		}
		sameTree(t, from, to)
	})
	t.Run("while moving, and somebody was faster", func(t *testing.T) {
		to := t.TempDir()
		if err := os.MkdirAll(to+"/"+work+"/"+data+"/a", 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{work + "/" + moving: "", work + "/" + data + "/run.sh": "the image's", work + "/" + data + "/b": "", "run.sh": "mine"} {
			if err := os.WriteFile(to+"/"+name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if r, _ := fillIt(t, from, to); r != Conflict {
			t.Errorf("got %v", r)
		}
		got, err := os.ReadFile(to + "/run.sh")
		if err != nil || string(got) != "mine" {
			t.Errorf("run.sh: %q, %v", got, err)
		}
		if names := describe(t, to); len(names) != 4 {
			t.Errorf("got %q, want run.sh, a and b", names)
		}
	})
	t.Run("while copying, and somebody began to use it", func(t *testing.T) {
		to := t.TempDir()
		if err := os.MkdirAll(to+"/"+work+"/"+data+"/a", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+"/mine", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, _ := fillIt(t, from, to); r != HadData {
			t.Errorf("got %v", r)
		}
		if names := describe(t, to); len(names) != 2 {
			t.Errorf("left behind: %q", names)
		}
	})
	t.Run("by a signal", func(t *testing.T) {
		to := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Fill(ctx, Options{From: from, To: to, UID: Unchanged, GID: Unchanged, Mode: Unchanged}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		t.Cleanup(func() { _ = os.Chmod(to+"/a/b", 0o755) })
		if r, _ := fillIt(t, from, to); r != Resumed {
			t.Errorf("got %v", r)
		}
	})
}

// A link in the volume must not take root elsewhere.
func TestLinkInTheVolume(t *testing.T) {
	from, to, victim := tree(t), t.TempDir(), t.TempDir()
	if err := os.WriteFile(victim+"/precious", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, to+"/"+work); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(to+"/a/b", 0o755) })
	fillIt(t, from, to)
	sameTree(t, from, to)
	if names := describe(t, victim); len(names) != 2 {
		t.Errorf("the link was followed: %q", names)
	}
}

func TestErrors(t *testing.T) {
	from, dir := tree(t), t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, to, want string }{
		{dir + "/nosuch", dir + "/to", `cannot open "` + dir + `/nosuch": no such file or directory`},
		{dir + "/file", dir + "/to", `cannot open "` + dir + `/file": not a directory`},
		{from, dir + "/file", `cannot make "` + dir + `/file": not a directory`},
	} {
		_, err := Fill(t.Context(), Options{From: tt.from, To: tt.to, UID: Unchanged, GID: Unchanged, Mode: Unchanged})
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

// A volume that is too small, and one that is read-only, in a mount namespace of a process's own.
func TestFullAndReadOnly(t *testing.T) {
	from := tree(t)
	if err := os.WriteFile(from+"/large", make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]string{
		"size=2m": `cannot copy "large": no space left on device 0`,
		"ro":      `cannot write there: read-only file system 0`,
	} {
		to := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SEED_TEST_FROM="+from, "SEED_TEST_TO="+to, "SEED_TEST_MOUNT="+options)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\ngot  %s\nwant …%s", options, err, out, want)
		}
	}
}

// Several pods may have the same volume: one fills it, the others find it filled.
func TestSharedVolume(t *testing.T) {
	from, to := tree(t), filepath.Join(t.TempDir(), "to")
	t.Cleanup(func() { _ = os.Chmod(to+"/a/b", 0o755) })
	if err := os.WriteFile(from+"/large", make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	const pods = 6
	results := make(chan Result, pods)
	for range pods {
		go func() {
			r, err := Fill(context.Background(), Options{From: from, To: to, UID: Unchanged, GID: Unchanged, Mode: Unchanged})
			if err != nil {
				t.Error(err)
			}
			results <- r
		}()
	}
	filled := 0
	for range pods {
		if r := <-results; r == Filled {
			filled++
		} else if r != HadData {
			t.Errorf("got %v", r)
		}
	}
	if filled != 1 {
		t.Errorf("%d of them filled it", filled)
	}
	sameTree(t, from, to)
}

// Root does not go where a link of another user leads.
func TestALinkOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // who is not root may go where he can
	}
	from, victim, dir := t.TempDir(), t.TempDir(), t.TempDir()+"/link"
	if err := errors.Join(os.WriteFile(from+"/a", nil, 0o600), os.Symlink(victim, dir), os.Lchown(dir, 1234, 1234)); err != nil {
		t.Fatal(err)
	}
	_, err := Fill(t.Context(), Options{From: from, To: dir, UID: Unchanged, GID: Unchanged, Mode: Unchanged})
	if err == nil || !strings.Contains(err.Error(), "belongs to the user 1234, and root does not follow it") {
		t.Errorf("got %v", err)
	}
	if names, _ := os.ReadDir(victim); len(names) > 0 {
		t.Errorf("the link was followed: %v", names)
	}
}
