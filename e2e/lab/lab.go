// Package lab runs supervisors side by side for the end-to-end tests and the benchmarks: the
// binary under test and Debian's Python supervisord, each in a directory of its own.
//
// Enter at Build (the binaries) and Start (a supervisor). Client talks XML-RPC to either, written
// apart from inpod's own client so that a mistake in that one is seen. Nothing here judges.
package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The real peers, where Debian's packages put them.
const (
	Supervisord   = "/usr/bin/supervisord"
	Supervisorctl = "/usr/bin/supervisorctl"
)

// Binaries are the paths of what Build made.
type Binaries struct {
	Inpod     string // static, stripped: what is shipped
	Race      string // with the race detector; the same as Inpod when it was not asked for
	Prog      string // the static test program, e2e/testprog
	LinkDir   string // holds links named supervisord and supervisorctl to Inpod
	RaceLinks string // the same for Race
}

// Build makes the binaries in dir. The race build needs cgo and a C compiler.
func Build(ctx context.Context, dir string, race bool) (Binaries, error) {
	b := Binaries{
		Inpod: filepath.Join(dir, "inpod"), Prog: filepath.Join(dir, "testprog"),
		LinkDir: filepath.Join(dir, "links"),
	}
	b.Race, b.RaceLinks = b.Inpod, b.LinkDir
	// hack/test.sh builds them once for all users: the second one has no Go cache.
	if built := os.Getenv("TEST_BIN_DIR"); built != "" {
		b = Binaries{
			Inpod: filepath.Join(built, "inpod"), Prog: filepath.Join(built, "testprog"),
			Race: filepath.Join(built, "inpod"), LinkDir: b.LinkDir, RaceLinks: b.LinkDir,
		}
		if race {
			b.Race, b.RaceLinks = filepath.Join(built, "inpod-race"), filepath.Join(dir, "links-race")
			if err := link(b.RaceLinks, b.Race); err != nil {
				return b, err
			}
		}
		return b, link(b.LinkDir, b.Inpod)
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return b, err
	}
	steps := [][]string{
		{b.Prog, "CGO_ENABLED=0", "-ldflags=-s -w", "./e2e/testprog"},
		{b.Inpod, "CGO_ENABLED=0", "-ldflags=-s -w", "./cmd/inpod"},
	}
	if os.Getenv("E2E_SELF") != "" { // the harness is compared with itself: no inpod is needed
		steps = steps[:1]
	} else if race {
		b.Race, b.RaceLinks = filepath.Join(dir, "inpod-race"), filepath.Join(dir, "links-race")
		steps = append(steps, []string{b.Race, "CGO_ENABLED=1", "-race", "./cmd/inpod"})
	}
	for _, s := range steps {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", s[2], "-o", s[0], s[3])
		cmd.Dir = root
		cmd.Env = append(os.Environ(), s[1])
		if out, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("cannot build %q: %w\n%s", s[3], err, out)
		}
	}
	if err := link(b.LinkDir, b.Inpod); err != nil {
		return b, err
	}
	return b, link(b.RaceLinks, b.Race)
}

func link(dir, target string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the directory of links: %w", err)
	}
	for _, name := range []string{"supervisord", "supervisorctl"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			return fmt.Errorf("cannot link %q: %w", name, err)
		}
	}
	return nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("cannot find the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("cannot find the module: not inside one")
	}
	return filepath.Dir(mod), nil
}

// Until calls ok every few milliseconds until it returns true; false means that the time ran out.
func Until(limit time.Duration, ok func() bool) bool {
	end := time.Now().Add(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		<-tick.C
	}
}
