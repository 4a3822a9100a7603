// Package users makes users in the container: entries of /etc/passwd, /etc/group and /etc/shadow, a home directory from
// /etc/skel, keys to log in with, and the right to sudo.
//
// Enter at Maker.Make. It brings a user to what the settings say and changes nothing that is so already, so it can be
// called at each start. The files are changed under the lock of lckpwdf(3) and replaced as a whole. A password is never
// in a log, an error or a command line.
package users

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/inpod/inpod/boot/seed"
	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/trust"
)

// Maker makes users below Root.
type Maker struct {
	// Root is where etc is: "" is the file system of the container.
	Root string
	// Env is the environment that users[].password_env names, by name.
	Env map[string]string
	// Hash makes a crypt(5) hash of a password, IsHash tells one from a password, and Verify compares the two.
	Hash   func(password []byte) (string, error)
	IsHash func(string) bool
	Verify func(password []byte, hash string) bool
	// Seeded are home directories that get their files from elsewhere.
	Seeded []string
}

// Result tells what was done for one user.
type Result struct {
	UID, GID int
	Home     string
	Changes  []string // what was changed, for people; none when everything was so
	Warnings []string // what could not be done and does not matter much

	maker *Maker
	acc   *account
	keys  []string // that Finish adds
}

// account is a user as the files shall say.
type account struct {
	name, home, shell string
	uid, gid          int
	oldUID            int // of the entry that is there; -1 where there is none
}

// firstID is where numbers of people begin (login.defs(5)).
const firstID = 1000

// Make makes one user, or brings the one who is there to what the settings say. The error says what stands in the way; what
// was done before it stays. Result.Adopt and Result.Finish do the rest.
func (m *Maker) Make(ctx context.Context, u config.User) (*Result, error) {
	hash, password, err := m.password(u)
	if err != nil {
		return nil, err
	}
	keys, err := readKeys(u.AuthorizedKeys)
	if err != nil {
		return nil, err
	}
	r := &Result{}
	acc, err := m.entries(ctx, u, hash, password, r)
	if err != nil {
		return r, err
	}
	r.UID, r.GID, r.Home, r.maker, r.acc = acc.uid, acc.gid, acc.home, m, acc
	if err := m.home(ctx, u, acc, r); err != nil {
		return r, err
	}
	if m.seeded(acc) {
		r.keys = keys
	} else if err := m.keys(acc, keys, r); err != nil {
		return r, err
	}
	return r, m.sudo(u, password != "" || hash != "", r)
}

// Finish adds the keys that had to wait for the seed of the home directory, which fills none that has anything in it.
func (r *Result) Finish() error { return r.maker.keys(r.acc, r.keys, r) }

func (m *Maker) seeded(acc *account) bool { return slices.Contains(m.Seeded, filepath.Clean(acc.home)) }

func (m *Maker) path(name string) string { return m.Root + name }

// password returns the password or the hash that the settings name; both "" means that there is none.
func (m *Maker) password(u config.User) (hash, password string, err error) {
	text := m.Env[u.PasswordEnv]
	if u.PasswordFile != "" {
		b, err := os.ReadFile(m.path(u.PasswordFile))
		if err != nil {
			return "", "", fmt.Errorf("cannot read the password: %w", err)
		}
		if text = string(b); strings.TrimRight(text, "\r\n") == "" {
			return "", "", fmt.Errorf("cannot read the password: %s is empty", u.PasswordFile)
		}
	}
	text = strings.TrimRight(text, "\r\n") // a Secret's often has a line end
	switch {
	case strings.ContainsAny(text, "\n\x00"):
		return "", "", errors.New("cannot use the password: it has more than one line")
	case m.IsHash(text) && !strings.Contains(text, ":"):
		return text, "", nil
	}
	return "", text, nil
}

// entries brings the files of /etc to what u says, all of them under one lock.
func (m *Maker) entries(ctx context.Context, u config.User, hash, password string, r *Result) (*account, error) {
	db, err := m.open()
	if err != nil {
		return nil, err
	}
	acc, err := m.plan(db, u)
	if err != nil {
		return nil, err
	}
	m.change(db, u, acc, r)
	if err := m.setPassword(db, u.Name, hash, password, r); err != nil {
		return nil, err
	}
	// An entry without an x there is not looked up in /etc/shadow; an empty one lets everybody in (passwd(5)).
	if entry := db.passwd.find(u.Name); (hash != "" || password != "") && entry[1] != "x" {
		entry[1] = "x"
		db.passwd.dirty = true
	}
	if !db.changed() {
		return acc, nil
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Somebody may have been faster: what was read before the lock counts only when it is still so.
	if again, err := m.open(); err != nil {
		return nil, err
	} else if !again.same(db) {
		return nil, errors.New("cannot change the users: somebody else is doing so")
	}
	return acc, db.write()
}

// plan decides on the numbers, the home and the shell. It adds the user's own group when that is missing.
func (m *Maker) plan(db *database, u config.User) (*account, error) {
	acc := &account{name: u.Name, home: u.Home, shell: u.Shell, uid: -1, gid: -1, oldUID: -1}
	old := db.passwd.find(u.Name)
	if old != nil {
		acc.uid, _ = strconv.Atoi(old[2])
		acc.gid, _ = strconv.Atoi(old[3])
		acc.oldUID = acc.uid
		acc.home, acc.shell = first(acc.home, old[5]), first(acc.shell, old[6])
	}
	acc.home = first(acc.home, "/home/"+u.Name)
	if u.Home != "" {
		acc.home = filepath.Clean(u.Home)
	}
	acc.shell = first(acc.shell, m.defaultShell())
	if u.UID != "" {
		acc.uid, _ = strconv.Atoi(u.UID) // config has looked at it
	}
	if owner := db.passwd.byNumber(acc.uid); owner != nil && owner[0] != u.Name {
		return nil, fmt.Errorf("cannot make the user: uid %d belongs to %q; choose another, or remove that user from the image", acc.uid, owner[0])
	}
	if acc.uid < 0 {
		acc.uid = db.passwd.free(db.group)
	}
	return acc, m.ownGroup(db, u, acc)
}

func (m *Maker) ownGroup(db *database, u config.User, acc *account) error {
	named := db.group.find(u.Name)
	switch {
	case u.GID != "":
		acc.gid, _ = strconv.Atoi(u.GID)
	case acc.gid >= 0:
	case named != nil:
		acc.gid, _ = strconv.Atoi(named[2])
	case db.group.byNumber(acc.uid) == nil:
		acc.gid = acc.uid
	default:
		acc.gid = db.group.free(db.passwd)
	}
	if db.group.byNumber(acc.gid) != nil {
		return nil
	}
	if named != nil {
		named[2] = strconv.Itoa(acc.gid)
		db.group.dirty = true
		return nil
	}
	db.group.add([]string{u.Name, "x", strconv.Itoa(acc.gid), ""})
	return nil
}

// change writes the plan into the tables.
func (m *Maker) change(db *database, u config.User, acc *account, r *Result) {
	want := []string{acc.name, "x", strconv.Itoa(acc.uid), strconv.Itoa(acc.gid), acc.name, acc.home, acc.shell}
	if old := db.passwd.find(u.Name); old == nil {
		db.passwd.add(want)
		r.Changes = append(r.Changes, "user made")
	} else {
		want[1], want[4] = old[1], old[4]
		if !slices.Equal(old[:7], want) {
			copy(old, want)
			db.passwd.dirty = true
			r.Changes = append(r.Changes, "entry changed")
		}
	}
	for _, name := range u.Groups {
		g := db.group.find(name)
		if g == nil {
			r.Warnings = append(r.Warnings, fmt.Sprintf("there is no group %q", name))
			continue
		}
		members := strings.FieldsFunc(g[3], func(c rune) bool { return c == ',' })
		if !slices.Contains(members, u.Name) {
			g[3] = strings.Join(append(members, u.Name), ",")
			db.group.dirty = true
			r.Changes = append(r.Changes, "in group "+name)
		}
	}
}

// setPassword puts the hash into /etc/shadow. A password that the hash there fits is left, so that the file stays the same
// from start to start.
func (m *Maker) setPassword(db *database, name, hash, password string, r *Result) error {
	if db.shadow.hidden {
		if hash == "" && password == "" {
			return nil
		}
		return errors.New("cannot set the password: /etc/shadow cannot be read: permission denied")
	}
	entry := db.shadow.find(name)
	if entry == nil {
		// *: no password fits, but a key may: "!" would lock the whole account for sshd(8).
		entry = []string{name, "*", strconv.Itoa(daysNow()), "0", "99999", "7", "", "", ""}
		db.shadow.add(entry)
	}
	switch {
	case hash == "" && password == "":
		return nil
	case hash != "" && entry[1] == hash, password != "" && m.IsHash(entry[1]) && m.Verify([]byte(password), entry[1]):
		return nil
	case password != "":
		var err error
		if hash, err = m.Hash([]byte(password)); err != nil {
			return fmt.Errorf("cannot hash the password: %w", err)
		}
	}
	entry[1], entry[2] = hash, strconv.Itoa(daysNow())
	db.shadow.dirty = true
	r.Changes = append(r.Changes, "password set")
	return nil
}

func (m *Maker) defaultShell() string {
	for _, shell := range []string{"/bin/bash", "/bin/sh"} {
		if _, err := os.Stat(m.path(shell)); err == nil {
			return shell
		}
	}
	return "/bin/sh"
}

// home makes the home directory. An empty one, such as a new volume, gets the files of /etc/skel too, and one that is
// root's, as volumes are when they are made, becomes the user's.
func (m *Maker) home(ctx context.Context, u config.User, acc *account, r *Result) error {
	home := filepath.Clean(m.path(acc.home))
	if err := trust.Path(home); err != nil {
		return fmt.Errorf("cannot use %q as the home directory: %w", acc.home, err)
	}
	st, err := os.Stat(home)
	missing := errors.Is(err, os.ErrNotExist)
	if missing {
		if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
			return fmt.Errorf("cannot make the home directory: %w", err)
		}
		if err := os.Mkdir(home, 0o700); err != nil {
			return fmt.Errorf("cannot make the home directory: %w", err)
		}
		r.Changes = append(r.Changes, "home made")
	} else if err != nil || !st.IsDir() {
		return fmt.Errorf("cannot use %q as the home directory: it is none", acc.home)
	}
	if uid, gid := owner(home); uid != acc.uid && (missing || uid == 0) || missing && gid != acc.gid {
		if !missing && !acc.owns(u, home) {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the home directory %s stays root's; name the user's own in users[].home", acc.home))
		} else if err := give(home, acc); err != nil {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the home directory cannot be made the user's, and stays as it is: %v", bare(err)))
			return nil
		}
	}
	if m.seeded(acc) {
		return nil
	}
	return m.skeleton(ctx, acc, r)
}

// owns tells whether a home directory that is root's is to become the user's. What an image's own users have as theirs may be
// a directory of the system: /, /bin, /usr/sbin.
func (acc *account) owns(u config.User, home string) bool {
	switch clean := filepath.Clean(acc.home); {
	case clean == "/":
		return false
	case u.Home != "" || acc.oldUID < 0 || clean == "/home/"+acc.name:
		return true
	}
	list, err := os.ReadDir(home)
	return err == nil && !slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() != "lost+found" })
}

// give makes a directory the user's: the one that was looked at, whatever has its name by now.
func give(home string, acc *account) error {
	real, err := filepath.EvalSymlinks(home)
	if err != nil {
		return err
	}
	dir, err := os.OpenFile(real, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Chown(acc.uid, acc.gid)
}

// Adopt hands the files in the home directory over to the user's number, where Make gave him a new one. A large home takes
// its time.
func (r *Result) Adopt(ctx context.Context) error {
	acc := r.acc
	if acc.oldUID < 0 || acc.oldUID == acc.uid || filepath.Clean(acc.home) == "/" {
		return nil
	}
	home := r.maker.path(acc.home)
	if err := trust.Path(home); err != nil {
		return fmt.Errorf("cannot hand over the files of %q: %w", acc.home, err)
	}
	root, err := os.OpenRoot(home) // the user may make links meanwhile
	if err != nil {
		return fmt.Errorf("cannot hand over the files of %q: %w", acc.home, bare(err))
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && int(info.Sys().(*syscall.Stat_t).Uid) == acc.oldUID {
			_ = root.Lchown(path, acc.uid, acc.gid)
		}
		return nil
	})
}

func (m *Maker) skeleton(ctx context.Context, acc *account, r *Result) error {
	skel := m.path("/etc/skel")
	if st, err := os.Stat(skel); err != nil || !st.IsDir() {
		return nil
	}
	st, err := os.Stat(m.path(acc.home))
	if err != nil {
		return err
	}
	result, err := seed.Fill(ctx, seed.Options{
		From: skel, To: m.path(acc.home), UID: acc.uid, GID: acc.gid, Mode: int64(st.Mode().Perm()),
	})
	if err != nil {
		return fmt.Errorf("cannot copy /etc/skel: %w", err)
	}
	if result != seed.HadData {
		r.Changes = append(r.Changes, "files of /etc/skel copied")
	}
	return nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
