package sftp

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/sshd/files"
)

// everyWay asks for p in every way there is to reach something, and fails when one of them does.
func everyWay(t *testing.T, c *client, p string) {
	t.Helper()
	for what, args := range map[string][]any{
		"open":     {byte(typeOpen), p, uint32(flagRead), attrs{}},
		"write":    {byte(typeOpen), p, uint32(flagWrite), attrs{}},
		"truncate": {byte(typeOpen), p, uint32(flagWrite | flagTrunc), attrs{}},
		"setstat":  {byte(typeSetstat), p, attrs{flags: attrSize}},
		"chmod":    {byte(typeSetstat), p, attrs{flags: attrMode, mode: 0o777}},
		"times":    {byte(typeSetstat), p, attrs{flags: attrTimes}},
		"list":     {byte(typeOpendir), p},
		"remove":   {byte(typeRemove), p},
		"hardlink": {byte(typeExtended), "hardlink@openssh.com", p, "stolen"},
		"rename":   {byte(typeRename), p, "stolen"},
		"into":     {byte(typeRename), "f", p + "/x"},
		"mkdir":    {byte(typeMkdir), p + "/x", attrs{}},
		"symlink":  {byte(typeSymlink), "f", p + "/x"},
	} {
		code := c.code(args[0].(byte), args[1:]...)
		if code == statusOK {
			t.Errorf("%s %q went through", what, p)
		}
	}
}

func TestNothingLeadsOutOfTheJail(t *testing.T) {
	jail, outside := scene(t)
	before := tree(t, outside)
	secret := filepath.Join(outside, "secret")
	c := start(t, Options{Root: jail, Access: files.ReadWrite})
	for _, p := range []string{
		secret, "../outside/secret", "/../outside/secret", "d/../../outside/secret", "../../../../../../../../" + secret,
		"/proc/self/root/" + secret, "/proc/self/cwd/x", "../outside", "..//outside/./secret",
	} {
		everyWay(t, c, p)
	}
	for i, target := range []string{
		secret, outside, "../outside/secret", "../outside", "/..//../" + secret, "/proc/self/root" + secret, "d/../../outside/secret",
		"../jail/../outside/secret",
	} {
		link := fmt.Sprintf("l%d", i)
		if err := os.Symlink(target, filepath.Join(jail, link)); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{link + "/secret", link + "/../outside/secret", link + "/..//secret"} {
			if code := c.code(typeOpen, p, uint32(flagRead), attrs{}); code == statusOK {
				t.Errorf("%q -> %q went through", p, target)
			}
		}
		if code := c.code(typeOpen, link, uint32(flagRead), attrs{}); code == statusOK {
			t.Errorf("link to %q went through", target)
		}
		if code := c.code(typeSetstat, link, attrs{flags: attrMode, mode: 0o777}); code == statusOK {
			t.Errorf("chmod through a link to %q went through", target)
		}
		if kind, q := c.ask(typeRealpath, link+"/x"); kind == typeName {
			q.uint32()
			if got := q.string(); strings.HasPrefix(got, outside) && !strings.HasPrefix(target, "/") {
				t.Errorf("REALPATH of a link to %q = %q", target, got)
			}
		}
	}
	if d := cmp.Diff(before, tree(t, outside)); d != "" {
		t.Error(d)
	}
}

func TestLinksMeanWhatTheyWouldInAChroot(t *testing.T) {
	jail, _ := scene(t)
	c := start(t, Options{Root: jail, Access: files.ReadWrite})
	for target, want := range map[string]string{
		"/d/g": "/d/g", "g": "/d/g", jail + "/d/g": "/d/g", "/../d/g": "/d/g", "../../../d/g": "/d/g", "/d/../d/g": "/d/g",
	} {
		c.must(typeSymlink, target, "d/link")
		h := c.open("d/link", flagRead)
		if _, q := c.ask(typeRead, h, uint64(0), uint32(99)); q.string() != "inner" {
			t.Errorf("link to %q leads elsewhere", target)
		}
		c.must(typeClose, h)
		_, q := c.ask(typeRealpath, "d/link")
		q.uint32()
		if got := q.string(); got != want {
			t.Errorf("REALPATH of a link to %q = %q, want %q", target, got, want)
		}
		_, q = c.ask(typeReadlink, "d/link")
		q.uint32()
		if got, shown := q.string(), strings.TrimPrefix(target, jail); got != shown {
			t.Errorf("READLINK of a link to %q = %q, want %q", target, got, shown)
		}
		c.must(typeRemove, "d/link")
	}
	if err := os.Symlink("/", filepath.Join(jail, "top")); err != nil {
		t.Fatal(err)
	}
	c.must(typeRename, "top/f", "top/d/../empty/f")
	c.must(typeMkdir, "top/top/top/new", attrs{})
	c.must(typeRmdir, "new")
	if got := listNames(t, c, "top/empty"); len(got) != 3 || got[2] != "f" {
		t.Errorf("listing through a link: %q", got)
	}
	_, q := c.ask(typeRealpath, "top/../../../d/./g/")
	q.uint32()
	if got := q.string(); got != "/d/g" {
		t.Errorf("REALPATH = %q, want /d/g", got)
	}
	loop := filepath.Join(jail, "loop")
	if err := os.Symlink("/loop", loop); err != nil {
		t.Fatal(err)
	}
	if code := c.code(typeStat, "loop"); code == statusOK {
		t.Error("a loop of links has been followed")
	}
}

func TestNoPipesAndDevicesInAJail(t *testing.T) {
	jail, _ := scene(t)
	if err := syscall.Mkfifo(filepath.Join(jail, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	c := start(t, Options{Root: jail, Access: files.ReadWrite})
	for _, flag := range []uint32{flagRead, flagRead | flagWrite} { // neither waits for the other end
		if code := c.code(typeOpen, "fifo", flag, attrs{}); code != statusDenied {
			t.Errorf("a FIFO: status %d, want %d", code, statusDenied)
		}
	}
	if code := c.code(typeOpen, "fifo", uint32(flagWrite), attrs{}); code == statusOK {
		t.Error("a FIFO can be written")
	}
}

// TestJailRace swaps a directory for a link that leads out, and back, all the time, while the session asks for what
// is behind that name. The secret is never read, written or removed.
func TestJailRace(t *testing.T) {
	for name, rules := range map[string][]files.Rule{"jail": nil, "rules": {{Path: "/ro", Access: files.ReadOnly}}} {
		t.Run(name, func(t *testing.T) { jailRace(t, rules) })
	}
}

func jailRace(t *testing.T, rules []files.Rule) {
	jail, outside := scene(t)
	if err := os.Symlink(outside, filepath.Join(jail, "out-link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("ro", filepath.Join(jail, "ro-link")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(jail, "d", "secret"), "inner")
	write(t, filepath.Join(jail, "d", "r"), "inner")
	before, ro := tree(t, outside), tree(t, filepath.Join(jail, "ro"))
	swaps := 25_000 // of four renames
	if testing.Short() {
		swaps = 2_500
	}
	swapped := make(chan int)
	go func() {
		n := 0
		defer func() { swapped <- n }()
		in := func(name string) string { return filepath.Join(jail, name) }
		for ; n < swaps; n++ {
			link := in("out-link")
			if n%2 == 1 {
				link = in("ro-link")
			}
			for _, mv := range [][2]string{{in("d"), in("aside")}, {link, in("d")}, {in("d"), link}, {in("aside"), in("d")}} {
				if err := os.Rename(mv[0], mv[1]); err != nil {
					t.Errorf("cannot swap: %v", err)
					return
				}
			}
		}
	}()
	c := start(t, Options{Root: jail, Access: files.ReadWrite, Paths: rules})
	reached := 0
	for i := 0; ; i++ {
		select {
		case n := <-swapped:
			t.Logf("%d swaps of two renames each way, %d rounds, %d times something was reached", n, i, reached)
			if n < swaps {
				t.Errorf("%d swaps, want %d", n, swaps)
			}
			if d := cmp.Diff(before, tree(t, outside)); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(ro, tree(t, filepath.Join(jail, "ro"))); rules != nil && d != "" {
				t.Error(d)
			}
			return
		default:
		}
		reached += raceOnce(t, c, i)
	}
}

// raceOnce makes one request behind the name that changes.
func raceOnce(t *testing.T, c *client, i int) int {
	t.Helper()
	p := "d/secret"
	if i&1 == 1 {
		p = "d/r"
	}
	switch i / 2 % 5 {
	case 0:
		kind, q := c.ask(typeOpen, p, uint32(flagRead), attrs{})
		if kind != typeHandle {
			return 0
		}
		h := q.string()
		_, q = c.ask(typeRead, h, uint64(0), uint32(99))
		if got := q.string(); got == "SECRET" {
			t.Fatalf("round %d: the secret was read", i)
		}
		c.must(typeClose, h)
	case 1:
		kind, q := c.ask(typeOpen, p, uint32(flagWrite), attrs{})
		if kind != typeHandle {
			return 0
		}
		h := q.string()
		c.must(typeWrite, h, uint64(0), "INNER")
		c.must(typeClose, h)
	case 2:
		if c.code(typeSetstat, p, attrs{flags: attrMode, mode: 0o640}) != statusOK {
			return 0
		}
	case 3:
		kind, q := c.ask(typeOpen, "d/new", uint32(flagWrite|flagCreate|flagTrunc), attrs{})
		if kind != typeHandle {
			return 0
		}
		c.must(typeClose, q.string())
	case 4:
		if c.code(typeRename, "d/new", "d/newer") != statusOK && c.code(typeRemove, "d/newer") != statusOK {
			return 0
		}
	}
	return 1
}
