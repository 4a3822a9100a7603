package users

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/inpod/inpod/config"
)

// A user of the image may have a directory of the system as his home: it stays root's unless the settings name it.
func TestDirectoriesOfTheSystemStayRoots(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root can give a directory away
	}
	for _, tt := range []struct {
		name, home string // of the entry in /etc/passwd
		u          config.User
		want       int
	}{
		{"the root", "/", config.User{}, 0},
		{"the root, by name", "/", config.User{Home: "/"}, 0},
		{"a system directory", "/bin", config.User{}, 0},
		{"one that is named", "/bin", config.User{Home: "/bin"}, 64999},
		{"an empty one", "/empty", config.User{}, 64999},
		{"the one of people", "/home/nobody", config.User{}, 64999},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := base(t)
			write(t, m.Root+"/etc/passwd", "nobody:x:64999:64999:nobody:"+tt.home+":/usr/sbin/nologin\n")
			write(t, m.Root+"/home/nobody/file", "")
			if err := os.Mkdir(m.Root+"/empty", 0o755); err != nil {
				t.Fatal(err)
			}
			tt.u.Name = "nobody"
			r, err := m.Make(t.Context(), tt.u)
			if err != nil {
				t.Fatal(err)
			}
			if uid, _ := owner(m.Root + tt.home); uid != tt.want {
				t.Errorf("%s belongs to %d, want %d", tt.home, uid, tt.want)
			}
			if warned := strings.Contains(strings.Join(r.Warnings, ";"), "stays root's"); warned != (tt.want == 0) {
				t.Errorf("the warnings are %q", r.Warnings)
			}
		})
	}
}

// A home that is a link of another user's is not gone to.
func TestAHomeBehindALink(t *testing.T) {
	if os.Getuid() != 0 {
		return // who is not root may go where he can
	}
	m := base(t)
	victim := t.TempDir()
	link := m.Root + "/home"
	if err := errors.Join(os.Symlink(victim, link), os.Lchown(link, 1234, 1234)); err != nil {
		t.Fatal(err)
	}
	_, err := m.Make(t.Context(), config.User{Name: "desk"})
	if err == nil || !strings.Contains(err.Error(), "belongs to the user 1234, and root does not follow it") {
		t.Errorf("got %v", err)
	}
	if names, _ := os.ReadDir(victim); len(names) > 0 {
		t.Errorf("the link was followed: %v", names)
	}
	// One of root's is.
	if err := os.Lchown(link, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Make(t.Context(), config.User{Name: "desk"}); err != nil {
		t.Error(err)
	}
	if uid, _ := owner(victim + "/desk"); uid == 0 {
		t.Error("the home is root's")
	}
}

// The seed fills no home that has anything in it, so the keys come after it.
func TestKeysOfASeededHome(t *testing.T) {
	m := base(t)
	m.Seeded = []string{"/home/desk"}
	key := t.TempDir() + "/key"
	write(t, key, "ssh-ed25519 AAAA me\n")
	r, err := m.Make(t.Context(), config.User{
		Name: "desk", Home: "/home/desk/", UID: someID(), GID: strconv.Itoa(os.Getgid()), AuthorizedKeys: []string{key},
	})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(m.Root + "/home/desk"); err != nil || len(list) > 0 {
		t.Errorf("the home holds %v, %v", list, err)
	}
	before := len(r.Changes)
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, m.Root+"/home/desk/.ssh/authorized_keys"); got != "ssh-ed25519 AAAA me\n" || len(r.Changes) != before+1 {
		t.Errorf("the keys are %q, the changes %q", got, r.Changes)
	}
}

// Keys that are there are not taken away for a moment: whoever has the old file open has all of it.
func TestKeysAreReplacedAsAWhole(t *testing.T) {
	m := base(t)
	file := m.Root + "/home/desk/.ssh/authorized_keys"
	write(t, file, "old")
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	key := t.TempDir() + "/key"
	write(t, key, "new\n")
	u := config.User{Name: "desk", UID: someID(), GID: strconv.Itoa(os.Getgid()), AuthorizedKeys: []string{key}}
	if _, err := m.Make(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(file)
	if got := read(t, file); got != "old\nnew\n" || err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("got %q, %v, %v", got, st.Mode(), err)
	}
	if uid, _ := owner(file); uid != os.Getuid() {
		t.Errorf("it belongs to %d now", uid)
	}
	if b, err := io.ReadAll(old); err != nil || string(b) != "old" {
		t.Errorf("the old file has %q, %v", b, err)
	}
	// A link stays one.
	if err := errors.Join(os.Rename(file, m.Root+"/home/desk/keys"), os.Symlink("../keys", file)); err != nil {
		t.Fatal(err)
	}
	write(t, key, "newer\n")
	if _, err := m.Make(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if got := read(t, m.Root+"/home/desk/keys"); got != "old\nnew\nnewer\n" {
		t.Errorf("got %q", got)
	}
	if list, err := os.ReadDir(m.Root + "/home/desk/.ssh"); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

// The files of a home go along with their user's number, when there is somebody who can end that.
func TestAdopt(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root can give files away
	}
	m := base(t)
	home := m.Root + "/home/nobody"
	write(t, home+"/d/his", "")
	write(t, home+"/roots", "")
	if err := errors.Join(os.Chown(home+"/d/his", 64999, 64999), os.Symlink("/etc", home+"/link"), os.Lchown(home+"/link", 64999, 64999)); err != nil {
		t.Fatal(err)
	}
	r, err := m.Make(t.Context(), config.User{Name: "nobody", UID: "4321", Home: "/home/nobody"})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Adopt(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if uid, _ := owner(home + "/d/his"); uid != 64999 {
		t.Errorf("it belongs to %d before anybody can end that", uid)
	}
	if err := r.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]int{home: 4321, home + "/d/his": 4321, home + "/roots": 0, "/etc": 0} {
		if uid, _ := owner(file); uid != want {
			t.Errorf("%s belongs to %d, want %d", file, uid, want)
		}
	}
}
