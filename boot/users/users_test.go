package users

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/inpod/inpod/config"
)

// base is an etc like that of a small image.
func base(t *testing.T) *Maker {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd":           "root:x:0:0:root:/root:/bin/bash\nnobody:x:64999:64999::/:/usr/sbin/nologin\n# a comment\n",
		"etc/group":            "root:x:0:\nvideo:x:44:somebody\nnogroup:x:64999:\nsomebody:x:1000:\n",
		"etc/shadow":           "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n",
		"etc/skel/.bashrc":     "# skel\n",
		"etc/sudoers.d/README": "",
		"bin/sh":               "",
	} {
		write(t, filepath.Join(root, name), text)
	}
	if err := os.Chmod(root+"/etc/shadow", 0o640); err != nil {
		t.Fatal(err)
	}
	return &Maker{
		Root: root, Env: map[string]string{"PW": "the secret"},
		Hash:   func(p []byte) (string, error) { return "$6$" + fmt.Sprintf("%x", p), nil },
		IsHash: func(s string) bool { return strings.HasPrefix(s, "$") },
		Verify: func(p []byte, hash string) bool { return hash == "$6$"+fmt.Sprintf("%x", p) },
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// someID is a number that the test may give files to.
func someID() string {
	if os.Getuid() == 0 {
		return "1234"
	}
	return strconv.Itoa(os.Getuid())
}

// A Secret's text often ends with a line end, in a variable as in a file; and an entry that needed no password needs one now.
func TestAPasswordThatIsSetCounts(t *testing.T) {
	m := base(t)
	m.Env["PW"] = "the secret\n"
	write(t, m.Root+"/etc/passwd", fmt.Sprintf("root:x:0:0::/root:/bin/sh\ndesk::%s:%d::/home/desk:/bin/sh\n", someID(), os.Getgid()))
	if _, err := m.Make(t.Context(), config.User{Name: "desk", PasswordEnv: "PW"}); err != nil {
		t.Fatal(err)
	}
	if shadow := read(t, m.Root+"/etc/shadow"); !strings.Contains(shadow, "\ndesk:$6$"+fmt.Sprintf("%x", "the secret")+":") {
		t.Errorf("shadow:\n%s", shadow)
	}
	if passwd := read(t, m.Root+"/etc/passwd"); !strings.Contains(passwd, "\ndesk:x:") {
		t.Errorf("passwd lets everybody in:\n%s", passwd)
	}
	if r, err := m.Make(t.Context(), config.User{Name: "desk", PasswordEnv: "PW"}); err != nil || len(r.Changes) > 0 {
		t.Errorf("the second time: %v, %v", r, err)
	}
}

// Where nothing can be removed, because of a read-only root or another user's directory, there is mostly nothing to remove:
// that is no warning of sudo. Only who is not root is kept out by a mode.
func TestNoSudoIsNoWarning(t *testing.T) {
	m := base(t)
	dir := m.Root + "/etc/sudoers.d"
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	r, err := m.Make(t.Context(), config.User{Name: "desk", UID: someID(), GID: strconv.Itoa(os.Getgid())})
	if err != nil || len(r.Warnings) > 0 {
		t.Errorf("got %v and the warnings %q", err, r.Warnings)
	}
}

func TestMake(t *testing.T) {
	m := base(t)
	key := filepath.Join(t.TempDir(), "key")
	write(t, key, "# ours\nssh-ed25519 AAAA me\n\n")
	u := config.User{
		Name: "desk", UID: someID(), GID: strconv.Itoa(os.Getgid()), Groups: []string{"video", "nosuch"},
		PasswordEnv: "PW", AuthorizedKeys: []string{key}, Sudo: true,
	}
	if os.Getgid() == 0 {
		u.GID = "1234"
	}
	r, err := m.Make(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	want := "[user made in group video password set home made files of /etc/skel copied 1 keys added sudo allowed] [there is no group \"nosuch\"]"
	if got := fmt.Sprint(r.Changes, r.Warnings); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for file, line := range map[string]string{
		"/etc/passwd":                     "desk:x:" + u.UID + ":" + u.GID + ":desk:/home/desk:/bin/sh\n",
		"/etc/group":                      "\nvideo:x:44:somebody,desk\n",
		"/etc/shadow":                     "\ndesk:$6$74686520736563726574:",
		"/home/desk/.bashrc":              "# skel\n",
		"/home/desk/.ssh/authorized_keys": "ssh-ed25519 AAAA me\n",
		"/etc/sudoers.d/inpod-desk":       "desk ALL=(ALL:ALL) ALL\n",
	} {
		if got := read(t, m.Root+file); !strings.Contains(got, line) {
			t.Errorf("%s: got %q, want %q in it", file, got, line)
		}
	}
	if got := read(t, m.Root+"/etc/passwd"); !strings.Contains(got, "# a comment\n") {
		t.Errorf("the comment is gone: %q", got)
	}
	for file, mode := range map[string]os.FileMode{
		"/etc/shadow": 0o640, "/etc/passwd": 0o644, "/etc/sudoers.d/inpod-desk": 0o440,
		"/home/desk": 0o700, "/home/desk/.ssh": 0o700, "/home/desk/.ssh/authorized_keys": 0o600,
	} {
		st, err := os.Stat(m.Root + file)
		if err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want %v", file, st.Mode(), err, mode)
		}
		if uid, _ := owner(m.Root + file); strings.HasPrefix(file, "/home") && strconv.Itoa(uid) != u.UID {
			t.Errorf("%s belongs to %d", file, uid)
		}
	}
	// What shadow's own tools say of it.
	out, err := exec.Command("/usr/sbin/pwck", "-r", m.Root+"/etc/passwd", m.Root+"/etc/shadow").CombinedOutput()
	if strings.Count(string(out), "invalid") != 1 || strings.Contains(string(out), "no matching") { // the comment is the one
		t.Errorf("pwck: %v\n%s", err, out)
	}
	// A second start changes nothing.
	before := read(t, m.Root+"/etc/shadow")
	r, err = m.Make(t.Context(), u)
	if err != nil || len(r.Changes) > 0 || read(t, m.Root+"/etc/shadow") != before {
		t.Errorf("the second time: %v, %v", r, err)
	}
	// Another password, no sudo.
	m.Env["PW"], u.Sudo = "another", false
	r, err = m.Make(t.Context(), u)
	if err != nil || fmt.Sprint(r.Changes) != "[password set]" {
		t.Errorf("another password: %v, %v", r, err)
	}
	if _, err := os.Stat(m.Root + "/etc/sudoers.d/inpod-desk"); err == nil {
		t.Error("sudo is still allowed")
	}
}

func TestNumbers(t *testing.T) {
	for name, tt := range map[string]struct {
		user config.User
		want string // uid gid, or the error
	}{
		"the first free one":     {config.User{Name: "a"}, "1001 1001"},
		"the group of that name": {config.User{Name: "somebody"}, "1001 1000"},
		"a group that is there":  {config.User{Name: "a", UID: "5000", GID: "44"}, "5000 44"},
		"a group of another":     {config.User{Name: "a", UID: "1000"}, "1000 1001"},
		"a number that is taken": {config.User{Name: "a", UID: "64999"}, `cannot make the user: uid 64999 belongs to "nobody"; choose another, or remove that user from the image`},
		"a user who is there":    {config.User{Name: "nobody"}, "64999 64999"},
		"another number for him": {config.User{Name: "nobody", UID: "4321", GID: "4321"}, "4321 4321"},
	} {
		t.Run(name, func(t *testing.T) {
			m := base(t)
			r := &Result{}
			acc, err := m.entries(t.Context(), tt.user, "", "", r)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = fmt.Sprint(acc.uid, acc.gid)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestScratch(t *testing.T) {
	m := base(t)
	if err := os.RemoveAll(m.Root + "/etc"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.Root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Make(t.Context(), config.User{Name: "a", UID: someID(), GID: strconv.Itoa(os.Getgid()), PasswordEnv: "PW", Sudo: true}); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(m.Root + "/etc/shadow"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
}

// No error names the password.
func TestErrors(t *testing.T) {
	m := base(t)
	dir := t.TempDir()
	write(t, dir+"/two", "the secret\nsecond line\n")
	write(t, dir+"/none", "\n")
	for _, tt := range []struct {
		user config.User
		want string
	}{
		{config.User{Name: "a", PasswordFile: "/nosuch"}, "cannot read the password: open " + m.Root + "/nosuch: no such file or directory"},
		{config.User{Name: "a", PasswordFile: strings.TrimPrefix(dir, m.Root) + "/two"}, ""},
		{config.User{Name: "a", AuthorizedKeys: []string{"/nosuch"}}, "cannot read the keys: open /nosuch: no such file or directory"},
		{config.User{Name: "a", UID: "64999"}, "cannot make the user: uid 64999 belongs to"},
	} {
		if tt.want == "" {
			m.Root = ""
			tt.want = "cannot use the password: it has more than one line"
		}
		_, err := m.Make(t.Context(), tt.user)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
		m = base(t)
	}
	// /etc that may not be written to.
	if os.Getuid() == 0 {
		return
	}
	if err := os.Chmod(m.Root+"/etc", 0o555); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"/etc/passwd", "/etc/group", "/etc/shadow"} {
		if err := os.Chmod(m.Root+f, 0o444); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Make(t.Context(), config.User{Name: "a"}); err == nil || !strings.Contains(err.Error(), "/etc/group: permission denied; making users needs root") {
		t.Errorf("got %v", err)
	}
	t.Cleanup(func() { _ = os.Chmod(m.Root+"/etc", 0o755) })
}

// The keys go nowhere else, even where the user's volume says so.
func TestHomeWithLinks(t *testing.T) {
	m := base(t)
	victim := t.TempDir()
	if err := os.MkdirAll(m.Root+"/home/a", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, m.Root+"/home/a/.ssh"); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	write(t, key, "ssh-ed25519 AAAA me\n")
	_, err := m.Make(t.Context(), config.User{Name: "a", UID: someID(), GID: strconv.Itoa(os.Getgid()), AuthorizedKeys: []string{key}})
	if err == nil {
		t.Error("no error")
	}
	if names, _ := os.ReadDir(victim); len(names) > 0 {
		t.Errorf("the link was followed: %v", names)
	}
}

func FuzzTable(f *testing.F) {
	for _, s := range []string{"", "root:x:0:0:root:/root:/bin/sh\n", "+::::::\n", "a:b\n\n#x\n", "a:x:::::\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		table := parseTable(b, 7)
		want := string(b)
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if got := string(table.bytes()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		table.find("a")
		table.byNumber(0)
	})
}
