package agent

import (
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	accounts "github.com/inpod/inpod/boot/users"
	"github.com/inpod/inpod/config"
)

// A home that is seeded gets its keys, and the seed is not kept from it by them.
func TestASeededHomeGetsKeys(t *testing.T) {
	root := t.TempDir()
	home, from, key := root+"/home/desk", root+"/seed", root+"/key"
	err := errors.Join(os.Mkdir(root+"/etc", 0o755), os.Mkdir(from, 0o755),
		os.WriteFile(from+"/readme", nil, 0o644), os.WriteFile(key, []byte("ssh-ed25519 AAAA me\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	u := config.User{Name: "desk", Home: "/home/desk/", UID: strconv.Itoa(os.Getuid()), GID: strconv.Itoa(os.Getgid()), AuthorizedKeys: []string{key}}
	m := &accounts.Maker{Root: root, IsHash: func(string) bool { return false }, Seeded: []string{"/home/desk"}}
	r, err := m.Make(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{log: slog.New(slog.DiscardHandler)}
	a.settings.Store(&config.Config{})
	a.users = &userStep{board: newBoard("user", []string{"desk"}), a: a, users: []config.User{u}, made: []*accounts.Result{r}}
	a.prep = a.newPreparation(&loaded{cfg: &config.Config{Seed: []config.Seed{{From: from, To: home, Required: true}}}})
	p := a.prep
	p.start()
	<-p.done
	if p.err != nil {
		t.Fatal(p.err)
	}
	for _, file := range []string{"/readme", "/.ssh/authorized_keys"} {
		if _, err := os.Stat(home + file); err != nil {
			t.Error(err)
		}
	}
	if items := p.items(); len(items) != 2 || !strings.HasSuffix(items[0].Detail, "1 keys added") || items[1].State != itemDone {
		t.Errorf("the steps: %+v", items)
	}
}

// The step hands the files of a home over to a new number, where SIGTERM and people can reach it.
func TestTheStepHandsFilesOver(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root can give files away
	}
	root := t.TempDir()
	write(t, root+"/etc/passwd", "desk:x:64999:64999::/home/desk:/bin/sh\n")
	write(t, root+"/home/desk/file", "")
	if err := os.Chown(root+"/home/desk/file", 64999, 64999); err != nil {
		t.Fatal(err)
	}
	u := config.User{Name: "desk", UID: "4321"}
	r, err := (&accounts.Maker{Root: root, IsHash: func(string) bool { return false }}).Make(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{log: slog.New(slog.DiscardHandler)}
	s := &userStep{board: newBoard("user", []string{"desk"}), a: a, users: []config.User{u}, made: []*accounts.Result{r}}
	s.end(0, itemDone, told(r))
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(root + "/home/desk/file")
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != 4321 || s.items()[0].State != itemDone {
		t.Errorf("%+v, %v, %+v", st.Sys(), err, s.items())
	}
}
