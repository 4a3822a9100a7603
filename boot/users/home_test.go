package users

import (
	"errors"
	"os"
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
