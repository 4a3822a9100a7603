package sftp

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/sshd/files"
)

// scene is a jail with a bit of everything, and something outside of it.
func scene(t *testing.T) (jail, outside string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	jail, outside = filepath.Join(dir, "jail"), filepath.Join(dir, "outside")
	for _, d := range []string{jail, outside, filepath.Join(jail, "d"), filepath.Join(jail, "ro"), filepath.Join(jail, "empty")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(jail, "f"), "file")
	write(t, filepath.Join(jail, "d", "g"), "inner")
	write(t, filepath.Join(jail, "ro", "r"), "read only")
	write(t, filepath.Join(outside, "secret"), "SECRET")
	return jail, outside
}

// tree lists everything below dir with its contents.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.Walk(dir, func(p string, st os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		what := st.Mode().String()
		if st.Mode().IsRegular() {
			what += " " + contents(t, p) + " " + st.ModTime().String()
		}
		out[strings.TrimPrefix(p, dir)] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// changes are requests that would change something, each in a way that works where it may.
func changes(c *client, dir string) map[string]func() uint32 {
	at := func(name string) string { return dir + "/" + name }
	return map[string]func() uint32{
		"open to write":    func() uint32 { return c.code(typeOpen, at("f"), uint32(flagWrite), attrs{}) },
		"open to append":   func() uint32 { return c.code(typeOpen, at("f"), uint32(flagWrite|flagAppend), attrs{}) },
		"open read-write":  func() uint32 { return c.code(typeOpen, at("f"), uint32(flagRead|flagWrite), attrs{}) },
		"create":           func() uint32 { return c.code(typeOpen, at("new"), uint32(flagWrite|flagCreate), attrs{}) },
		"create to read":   func() uint32 { return c.code(typeOpen, at("new"), uint32(flagRead|flagCreate), attrs{}) },
		"truncate to read": func() uint32 { return c.code(typeOpen, at("f"), uint32(flagRead|flagTrunc), attrs{}) },
		"append to read":   func() uint32 { return c.code(typeOpen, at("f"), uint32(flagRead|flagAppend), attrs{}) },
		"setstat mode":     func() uint32 { return c.code(typeSetstat, at("f"), attrs{flags: attrMode, mode: 0o600}) },
		"setstat size":     func() uint32 { return c.code(typeSetstat, at("f"), attrs{flags: attrSize}) },
		"setstat times":    func() uint32 { return c.code(typeSetstat, at("f"), attrs{flags: attrTimes}) },
		"setstat owner":    func() uint32 { return c.code(typeSetstat, at("f"), attrs{flags: attrOwner, uid: 1, gid: 1}) },
		"setstat nothing":  func() uint32 { return c.code(typeSetstat, at("f"), attrs{}) },
		"lsetstat":         func() uint32 { return c.code(typeExtended, "lsetstat@openssh.com", at("f"), attrs{flags: attrTimes}) },
		"mkdir":            func() uint32 { return c.code(typeMkdir, at("newdir"), attrs{}) },
		"rmdir":            func() uint32 { return c.code(typeRmdir, at("empty")) },
		"remove":           func() uint32 { return c.code(typeRemove, at("f")) },
		"rename":           func() uint32 { return c.code(typeRename, at("f"), at("g")) },
		"posix-rename":     func() uint32 { return c.code(typeExtended, "posix-rename@openssh.com", at("f"), at("g")) },
		"hardlink":         func() uint32 { return c.code(typeExtended, "hardlink@openssh.com", at("f"), at("g")) },
		"symlink":          func() uint32 { return c.code(typeSymlink, "f", at("link")) },
	}
}

func TestReadOnlyIsReadOnlyForEveryPacket(t *testing.T) {
	jail, _ := scene(t)
	for name, opts := range map[string]Options{
		"whole": {Access: files.ReadOnly, Home: jail},
		"jail":  {Access: files.ReadOnly, Root: jail},
		"rules": {Access: files.ReadWrite, Root: jail, Paths: []files.Rule{{Path: "/", Access: files.ReadOnly}}},
	} {
		t.Run(name, func(t *testing.T) {
			before := tree(t, jail)
			c := start(t, opts)
			for what, do := range changes(c, ".") {
				if code := do(); code != statusDenied {
					t.Errorf("%s: status %d, want %d", what, code, statusDenied)
				}
			}
			h := c.open("f", flagRead)
			for what, args := range map[string][]any{
				"write":    {byte(typeWrite), h, uint64(0), "x"},
				"fsetstat": {byte(typeFsetstat), h, attrs{flags: attrMode, mode: 0o600}},
				"truncate": {byte(typeFsetstat), h, attrs{flags: attrSize}},
				"times":    {byte(typeFsetstat), h, attrs{flags: attrTimes}},
				"owner":    {byte(typeFsetstat), h, attrs{flags: attrOwner, uid: 1, gid: 1}},
				"copy":     {byte(typeExtended), "copy-data", c.open("d/g", flagRead), uint64(0), uint64(0), h, uint64(0)},
			} {
				if code := c.code(args[0].(byte), args[1:]...); code != statusDenied {
					t.Errorf("%s by handle: status %d, want %d", what, code, statusDenied)
				}
			}
			if d := cmp.Diff(before, tree(t, jail)); d != "" {
				t.Error(d)
			}
			c.must(typeRead, h, uint64(0), uint32(9))
			c.must(typeOpendir, ".")
		})
	}
}

func TestWriteOnlyIsWriteOnly(t *testing.T) {
	jail, _ := scene(t)
	if err := os.Symlink("f", filepath.Join(jail, "link")); err != nil {
		t.Fatal(err)
	}
	c := start(t, Options{Access: files.WriteOnly, Root: jail})
	h := c.open("f", flagWrite)
	c.must(typeWrite, h, uint64(0), "FILE")
	to := c.open("copy", flagWrite|flagCreate)
	c.must(typeStat, "f")
	for what, args := range map[string][]any{
		"open to read":  {byte(typeOpen), "f", uint32(flagRead), attrs{}},
		"open for both": {byte(typeOpen), "f", uint32(flagRead | flagWrite), attrs{}},
		"read":          {byte(typeRead), h, uint64(0), uint32(4)},
		"list":          {byte(typeOpendir), "."},
		"read a link":   {byte(typeReadlink), "link"},
		"copy":          {byte(typeExtended), "copy-data", h, uint64(0), uint64(0), to, uint64(0)},
		"hard link":     {byte(typeExtended), "hardlink@openssh.com", "f", "f2"},
	} {
		if code := c.code(args[0].(byte), args[1:]...); code != statusDenied {
			t.Errorf("%s: status %d, want %d", what, code, statusDenied)
		}
	}
}

func TestZeroOptionsDeny(t *testing.T) {
	jail, _ := scene(t)
	c := start(t, Options{Root: jail})
	for _, args := range [][]any{
		{byte(typeStat), "f"},
		{byte(typeOpendir), "."},
		{byte(typeOpen), "f", uint32(flagRead), attrs{}},
		{byte(typeExtended), "statvfs@openssh.com", "."},
	} {
		if code := c.code(args[0].(byte), args[1:]...); code != statusDenied {
			t.Errorf("%v: status %d, want %d", args, code, statusDenied)
		}
	}
	for what, do := range changes(c, ".") {
		if code := do(); code != statusDenied {
			t.Errorf("%s: status %d, want %d", what, code, statusDenied)
		}
	}
}

func TestRules(t *testing.T) {
	jail, _ := scene(t)
	for link, target := range map[string]string{"d/to-ro": "../ro", "d/to-r": "/ro/r", "d/abs": jail + "/ro"} {
		if err := os.Symlink(target, filepath.Join(jail, link)); err != nil {
			t.Fatal(err)
		}
	}
	c := start(t, Options{Root: jail, Access: files.ReadWrite, Paths: []files.Rule{
		{Path: "/ro", Access: files.ReadOnly}, {Path: "/ro/in", Access: files.ReadWrite}, {Path: "/hidden", Access: 0},
	}})
	before := tree(t, filepath.Join(jail, "ro"))
	for _, p := range []string{"ro/r", "/ro/r", "ro/../ro/r", "d/to-ro/r", "d/to-r", "d/abs/r", "d/to-ro/../ro/r"} {
		for what, args := range map[string][]any{
			"write":    {byte(typeOpen), p, uint32(flagWrite), attrs{}},
			"truncate": {byte(typeOpen), p, uint32(flagWrite | flagTrunc), attrs{}},
			"setstat":  {byte(typeSetstat), p, attrs{flags: attrSize}},
		} {
			if code := c.code(args[0].(byte), args[1:]...); code != statusDenied {
				t.Errorf("%s %q: status %d, want %d", what, p, code, statusDenied)
			}
		}
		c.must(typeOpen, p, uint32(flagRead), attrs{})
	}
	for what, args := range map[string][]any{
		"move the place of a rule":   {byte(typeRename), "ro", "rw"},
		"move onto it":               {byte(typeExtended), "posix-rename@openssh.com", "empty", "ro"},
		"move out of it":             {byte(typeRename), "ro/r", "r"},
		"move into it":               {byte(typeRename), "f", "ro/f"},
		"link into what is writable": {byte(typeExtended), "hardlink@openssh.com", "ro/r", "r"},
		"make the hidden":            {byte(typeMkdir), "hidden", attrs{}},
		"remove":                     {byte(typeRemove), "ro/r"},
	} {
		if code := c.code(args[0].(byte), args[1:]...); code != statusDenied {
			t.Errorf("%s: status %d, want %d", what, code, statusDenied)
		}
	}
	if d := cmp.Diff(before, tree(t, filepath.Join(jail, "ro"))); d != "" {
		t.Error(d)
	}
	c.must(typeRename, "f", "d/f")
	c.must(typeRename, "d/f", "empty/f")
}

func TestChmodInAJailGivesNoOtherUser(t *testing.T) {
	jail, _ := scene(t)
	c := start(t, Options{Root: jail, Access: files.ReadWrite})
	c.must(typeSetstat, "f", attrs{flags: attrMode, mode: 0o106755})
	st, err := os.Stat(filepath.Join(jail, "f"))
	if err != nil || st.Mode() != 0o755 {
		t.Errorf("mode %v (%v), want 0755", st.Mode(), err)
	}
	if code := c.code(typeSetstat, "f", attrs{flags: attrOwner, uid: 12345, gid: 12345}); code != statusDenied {
		t.Errorf("chown: status %d, want %d", code, statusDenied)
	}
	c.must(typeSetstat, "f", attrs{flags: attrOwner, uid: uint32(os.Getuid()), gid: uint32(os.Getgid())})
}

func listNames(t *testing.T, c *client, dir string) (names []string) {
	t.Helper()
	kind, q := c.ask(typeOpendir, dir)
	if kind != typeHandle {
		t.Fatalf("OPENDIR %q: status %d", dir, q.uint32())
	}
	h := q.string()
	for {
		kind, q := c.ask(typeReaddir, h)
		if kind == typeStatus {
			slices.Sort(names)
			return names
		}
		for n := q.uint32(); n > 0; n-- {
			names = append(names, q.string())
			q.string()
			q.attrs()
		}
		if q.err != nil {
			t.Fatal(q.err)
		}
	}
}

func TestQuota(t *testing.T) {
	jail, _ := scene(t) // 4 + 5 + 9 bytes
	quota := files.NewQuota(jail, 1_000_018)
	opts := Options{Root: jail, Access: files.ReadWrite, Quota: quota}
	c := start(t, opts)
	h := c.open("big", flagWrite|flagCreate)
	used := func(want int64) {
		t.Helper()
		if got := quota.Used(); got != want {
			t.Errorf("%d bytes are used, want %d", got, want)
		}
	}
	part := strings.Repeat("x", 200_000)
	for i := range 5 {
		c.must(typeWrite, h, uint64(i*len(part)), part)
	}
	used(1_000_018)
	if code, text := c.said(typeWrite, h, uint64(1_000_000), "y"); code != statusFailure || !strings.Contains(text, "quota") {
		t.Errorf("one byte more: status %d %q", code, text)
	}
	c.must(typeWrite, h, uint64(10), part) // nothing grows
	for what, args := range map[string][]any{
		"truncate":     {byte(typeFsetstat), h, attrs{flags: attrSize, size: 1_000_001}},
		"setstat":      {byte(typeSetstat), "f", attrs{flags: attrSize, size: 5}},
		"a new file":   {byte(typeWrite), c.open("new", flagWrite|flagCreate), uint64(0), "z"},
		"beyond a gap": {byte(typeWrite), c.open("new", flagWrite), uint64(1 << 40), "z"},
		"append":       {byte(typeWrite), c.open("f", flagWrite|flagAppend), uint64(0), "z"},
		"copy":         {byte(typeExtended), "copy-data", c.open("f", flagRead), uint64(0), uint64(0), c.open("new", flagWrite), uint64(0)},
	} {
		if code := c.code(args[0].(byte), args[1:]...); code != statusFailure {
			t.Errorf("%s: status %d, want %d", what, code, statusFailure)
		}
	}
	kind, q := c.ask(typeExtended, "statvfs@openssh.com", ".")
	if kind != typeExtendedReply {
		t.Fatalf("statvfs: type %d", kind)
	}
	q.uint64()
	frsize, blocks, free, avail := q.uint64(), q.uint64(), q.uint64(), q.uint64()
	if blocks != 1_000_018/frsize || free != 0 || avail != 0 {
		t.Errorf("statvfs: %d blocks of %d, %d free, %d available", blocks, frsize, free, avail)
	}
	c.must(typeFsetstat, h, attrs{flags: attrSize, size: 1000})
	used(1018)
	c.must(typeExtended, "hardlink@openssh.com", "big", "big2")
	c.must(typeRemove, "big")
	used(1018)
	c.must(typeExtended, "posix-rename@openssh.com", "f", "big2")
	used(18)
	c.must(typeWrite, h, uint64(1000), "into what has no name any more")
	used(48)
	c.must(typeClose, h)
	used(18)
	c.must(typeOpen, "ro/r", uint32(flagWrite|flagTrunc), attrs{})
	used(9)
	if second := files.NewQuota(jail, 100); true {
		opts.Quota = second
		start(t, opts).must(typeStat, ".")
		if got := second.Used(); got != 9 {
			t.Errorf("counted anew it is %d, want 9", got)
		}
	}
}
