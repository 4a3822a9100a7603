package probe

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/internal/proc"
)

func TestExec(t *testing.T) {
	r := newReaper(t)
	tests := []struct {
		script, want string
	}{
		{"exit 0", ""},
		{"echo fine; exit 0", ""},
		{"exit 3", "exit status 3, want exit status 0"},
		{"echo a; echo not yet >&2; exit 1", "exit status 1, want exit status 0: not yet"},
		{"kill -9 $$", "terminated by SIGKILL, want exit status 0"},
		{"printf '%0300d' 0; exit 1", "exit status 1, want exit status 0: " + strings.Repeat("0", 200) + "…"},
	}
	for _, test := range tests {
		check, err := Exec(r, command("sh", "-c", test.script))
		if err != nil {
			t.Fatal(err)
		}
		want := test.want
		if want != "" {
			want = "exec sh -c " + test.script + ": " + want
		}
		says(t, check.Check(within(t, patience)), want)
	}
}

func command(argv ...string) proc.Spec {
	spec := proc.NewSpec(argv[0], argv[1:]...)
	spec.Env = []string{"PATH=/usr/bin:/bin"}
	return spec
}

func TestExecLooksUpItsCommand(t *testing.T) {
	r := newReaper(t)
	check, err := Exec(r, command("no-such-command", "-x"))
	if err != nil {
		t.Fatal(err)
	}
	says(t, check.Check(within(t, patience)), "exec no-such-command -x: can't find command 'no-such-command'")
	spec := command("true")
	spec.Env = nil
	if check, err = Exec(r, spec); err != nil {
		t.Fatal(err)
	}
	says(t, check.Check(within(t, patience)), "")
	_, err = Exec(r, proc.Spec{})
	says(t, err, "cannot check with an empty command")
}

// A check that is late must not keep its caller, whatever the command does.
func TestExecEndsInTime(t *testing.T) {
	r := newReaper(t)
	check, err := Exec(r, command("sh", "-c", "trap '' TERM; sleep 1000; sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err = check.Check(within(t, 50*time.Millisecond))
	if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > patience {
		t.Errorf("got %v after %v, want a deadline error soon after 50ms", err, took)
	}
	if !strings.HasSuffix(err.Error(), ": no answer in time") {
		t.Errorf("got %q, want it to say that no answer came in time", err)
	}
}
