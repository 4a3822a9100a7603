package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseAccess(t *testing.T) {
	for word, want := range map[string]Access{"read-only": ReadOnly, "write-only": WriteOnly, "read-write": ReadWrite, "none": 0} {
		if got, err := ParseAccess(word); got != want || err != nil {
			t.Errorf("ParseAccess(%q) = %v, %v", word, got, err)
		}
	}
	if _, err := ParseAccess("rw"); err == nil {
		t.Error("rw is taken")
	}
}

const nobody = 65534

// TestIdentity asks the kernel: what belongs to others is refused, new files belong to the user, and the process is
// what it was.
func TestIdentity(t *testing.T) {
	id := &Identity{UID: nobody, GID: nobody, Groups: []uint32{12345}}
	if os.Getuid() != 0 {
		if err := id.Run(func() error { return nil }); !errors.Is(err, syscall.EPERM) {
			t.Errorf("a plain user becomes another: %v", err)
		}
		return
	}
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) { // the test's directory is closed to others
		must(os.Chmod(d, 0o755))
	}
	must(os.Mkdir(filepath.Join(dir, "own"), 0o700))
	must(os.Chown(filepath.Join(dir, "own"), nobody, nobody))
	must(os.WriteFile(filepath.Join(dir, "root"), []byte("x"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "group"), []byte("x"), 0o640))
	must(os.Chown(filepath.Join(dir, "group"), 0, 12345))
	err := id.Run(func() error {
		tree, err := Open(Options{Access: ReadWrite, Home: dir, Identity: id})
		if err != nil {
			return err
		}
		defer tree.Close()
		if _, err := tree.OpenFile("root", os.O_RDONLY, 0); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a file of root's: %v", err)
		}
		if _, err := tree.OpenFile("group", os.O_RDONLY, 0); err != nil {
			t.Errorf("a file of the supplementary group: %v", err)
		}
		for op, err := range map[string]error{
			"remove": tree.Remove("root"), "chmod": tree.Chmod("root", 0o777, true), "mkdir": tree.Mkdir("new", 0o755),
			"chown": tree.Chown("own", 0, 0, true),
		} {
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v, want permission denied", op, err)
			}
		}
		f, err := tree.OpenFile("own/f", os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		// Magic links lead past permissions.
		for _, p := range []string{"/proc/self/root/" + dir + "/own/f", fmt.Sprintf("/proc/self/fd/%d", f.Fd()), "/proc/self/cwd/files.go"} {
			if _, err := tree.OpenFile(p, os.O_RDONLY, 0); err == nil {
				t.Errorf("%s can be opened", p)
			}
		}
		for _, p := range []string{"/proc/self/environ", "/proc/self/mem", fmt.Sprintf("/proc/%d/mem", os.Getpid())} {
			if _, err := tree.OpenFile(p, os.O_RDONLY, 0); err == nil {
				t.Errorf("%s can be opened", p)
			}
		}
		return f.Close()
	})
	must(err)
	var st unix.Stat_t
	must(unix.Stat(filepath.Join(dir, "own", "f"), &st))
	if st.Uid != nobody || st.Gid != nobody {
		t.Errorf("the new file belongs to %d:%d", st.Uid, st.Gid)
	}
	// The thread ends with its goroutine, a moment after the result is there.
	deadline, left := time.Now().Add(time.Minute), ""
	for left = ofSomebodyElse(t); left != "" && time.Now().Before(deadline); left = ofSomebodyElse(t) {
		runtime.Gosched()
	}
	if left != "" {
		t.Errorf("a thread keeps the identity:\n%s", left)
	}
}

// ofSomebodyElse returns the status of a thread of ours that has another identity than the process, if there is one.
func ofSomebodyElse(t *testing.T) string {
	t.Helper()
	status, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range status {
		data, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(data), "Uid:\t0\t0\t0\t0\n") && strings.Contains(string(data), "Uid:\t0") {
			return string(data) // one that has ended is not there any more
		}
	}
	return ""
}

// TestQuotaOfManySessions lets sessions write, cut and remove at once; in the end the sum is what is there.
func TestQuotaOfManySessions(t *testing.T) {
	dir := t.TempDir()
	quota := NewQuota(dir, 1<<20)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			tree, err := Open(Options{Root: dir, Access: ReadWrite, Quota: quota})
			if err != nil {
				t.Error(err)
				return
			}
			defer tree.Close()
			for n := range 300 {
				if err := churn(tree, i, n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want, err := size(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := quota.Used(); got != want {
		t.Errorf("%d bytes are used, %d are there", got, want)
	}
}

// churn does something with one of a few files.
func churn(tree *Tree, i, n int) error {
	name := fmt.Sprint("f", (i+n)%5)
	switch n % 4 {
	case 0, 1:
		f, err := tree.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, 5000+n), int64(n*997%30_000)); err != nil && !errors.Is(err, syscall.EDQUOT) {
			return err
		}
		if err := f.Truncate(int64(n * 31 % 20_000)); err != nil && !errors.Is(err, syscall.EDQUOT) {
			return err
		}
	case 2:
		if err := tree.Rename(name, fmt.Sprint("f", n%5), true); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case 3:
		if err := tree.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func TestQuotaIsCountedOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	q := NewQuota(dir, 1500)
	if err := q.refresh(); err != nil || q.Used() != 1000 || q.Left() != 500 {
		t.Errorf("used %d, left %d (%v), want 1000 and 500", q.Used(), q.Left(), err)
	}
	if err := NewQuota(filepath.Join(dir, "nothing"), 1).refresh(); err == nil {
		t.Error("a directory that is not there is counted")
	}
}
