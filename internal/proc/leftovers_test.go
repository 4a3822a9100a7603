package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLeftovers(t *testing.T) {
	tests := []struct {
		name, script string // prints the pids of what it leaves, all in one line, then reads a line
		group        bool   // its process group has members left
		hidden       bool   // what it leaves is not below it any more while it lives
	}{
		{"a child in the group", "sleep 1000 & echo $!; read x", true, false},
		{"a child in the group that ignores SIGTERM", "(trap '' TERM; exec sleep 1000) & echo $!; read x", true, false},
		{"a double fork", "(sleep 1000 & echo $!); read x", true, true},
		{"a session of its own", "setsid sleep 1000 & echo $!; read x", false, false},
		{"a session of its own, below a child", "sh -c 'setsid sleep 1000 & echo $!; wait' & read x", true, false},
		{"a group of its own that ignores SIGTERM", "(trap '' TERM; exec setsid sleep 1000) & echo $!; read x", false, false},
	}
	for _, childrenFile := range []bool{true, false} {
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s/children file %v", test.name, childrenFile), func(t *testing.T) {
				r := newTestReaper(t)
				r.host.childrenFile = r.host.childrenFile && childrenFile
				spec := shell(test.script)
				in := stdin(t, &spec)
				next := lines(t, &spec)
				p := mustStart(t, r, spec)
				pid, err := strconv.Atoi(next())
				if err != nil {
					t.Fatal(err)
				}
				// One that hides is not hidden before its parent has ended and it is ours.
				waitUntil(t, func() bool {
					m, _ := readMember(pid)
					return m.Name == "sleep" && (m.PPID == os.Getpid()) == test.hidden
				}, "no sleep")
				before := p.Descendants()
				if found := slices.ContainsFunc(before, func(m Member) bool { return m.PID == pid }); found == test.hidden {
					t.Errorf("got descendants %v, want %d among them: %v", before, pid, !test.hidden)
				}
				_ = in.Close()
				await(t, p)
				left := p.Leftovers(before)
				if alive := left.Alive(); !slices.ContainsFunc(alive, func(m Member) bool { return m.PID == pid }) {
					t.Errorf("got %v alive, want %d among them", alive, pid)
				}
				if err := p.SignalGroup(0); (err == nil) != test.group {
					t.Errorf("group signal: got %v, want success %v", err, test.group)
				}
				if err := left.End(testContext(t), syscall.SIGTERM, 50*time.Millisecond); err != nil {
					t.Error(err)
				}
				if m, ok := readMember(pid); ok && !m.dead() {
					t.Errorf("%v lives, want it ended", m)
				}
				if alive := left.Alive(); len(alive) != 0 {
					t.Errorf("got %v alive, want none", alive)
				}
				waitUntil(t, func() bool { return r.childless.Load() }, "a zombie is left")
				if err := p.SignalGroup(0); !errors.Is(err, ErrDone) {
					t.Errorf("group signal after the end: got %v, want ErrDone", err)
				}
			})
		}
	}
}

func TestNothingIsLeftOfAnOrdinaryProcess(t *testing.T) {
	r := newTestReaper(t)
	p := mustStart(t, r, shell("(exit 3); exit 0"))
	await(t, p)
	left := p.Leftovers(nil)
	if alive := left.Alive(); len(alive) != 0 || !p.groupGone {
		t.Errorf("got %v alive, group gone %v, want none and true", alive, p.groupGone)
	}
	if err := errors.Join(left.Signal(syscall.SIGKILL), left.Wait(testContext(t))); err != nil {
		t.Error(err)
	}
	if got := p.Descendants(); got != nil {
		t.Errorf("got %v below a reaped process, want none", got)
	}
}

// The wait ends by the reaper's event: nothing else would end it within the context's time, were polling stopped.
func TestLeftoversWaitEndsWithContext(t *testing.T) {
	r := newTestReaper(t)
	spec := shell("sleep 1000 & echo $!")
	next := lines(t, &spec)
	p := mustStart(t, r, spec)
	pid := next()
	await(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := p.Leftovers(nil).Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline: %s lives", err, pid)
	}
	event, stop := r.watch()
	defer stop()
	if err := p.SignalGroup(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-event:
	case <-time.After(patience):
		t.Error("got no event for an adopted process that ended")
	}
	if !p.groupGone {
		t.Error("the group is not known to be gone after its last member was reaped")
	}
}

// Members name one process, not whoever has its number now.
func TestMemberSignalChecksTheStart(t *testing.T) {
	r := newTestReaper(t)
	p := mustStart(t, r, NewSpec("/bin/sleep", "1000"))
	m, ok := readMember(p.PID())
	if !ok {
		t.Fatal("cannot read a live process")
	}
	other := m
	other.Start--
	if err := other.signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if now, ok := readMember(p.PID()); !ok || now.dead() {
		t.Fatal("a signal for an earlier process hit the one that has its number now")
	}
	if err := m.signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if st := await(t, p); st.Signal != syscall.SIGTERM {
		t.Errorf("got %v, want terminated by SIGTERM", st)
	}
	if err := m.signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal to a process that is gone: got %v, want nil", err)
	}
}

// When the number of a reaped leader was given to another process, the group counts as gone.
func TestGroupNumberReuse(t *testing.T) {
	r := newTestReaper(t)
	p := mustStart(t, r, NewSpec("/bin/sleep", "1000"))
	r.mu.RLock()
	old := &Process{r: r, pid: p.PID(), reaped: true}
	if old.groupLeft() {
		t.Error("got a group left, want it gone: its number names another process")
	}
	r.groups[p.PID()] = old
	r.register(p)
	if !old.groupGone || len(r.groups) != 0 {
		t.Errorf("got gone %v, %d groups, want true and 0 after the number was reused", old.groupGone, len(r.groups))
	}
	r.mu.RUnlock()
	if err := old.SignalGroup(syscall.SIGKILL); !errors.Is(err, ErrDone) {
		t.Errorf("got %v, want ErrDone", err)
	}
}

func TestParseStat(t *testing.T) {
	rest := " S 7 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"
	tests := []struct {
		line string
		want Member
		ok   bool
	}{
		{"42 (sh)" + rest, Member{42, 7, 8, 9, 12345, 'S', "sh"}, true},
		{"42 (a) b (c)" + rest, Member{42, 7, 8, 9, 12345, 'S', "a) b (c"}, true},
		{"42 ()" + rest, Member{42, 7, 8, 9, 12345, 'S', ""}, true},
		{"x (sh)" + rest, Member{}, false},
		{"42 (sh) S 7 8", Member{}, false},
		{"", Member{}, false},
		{")(", Member{}, false},
	}
	for _, test := range tests {
		if got, ok := parseStat([]byte(test.line)); got != test.want || ok != test.ok {
			t.Errorf("%q: got %+v, %v, want %+v, %v", test.line, got, ok, test.want, test.ok)
		}
	}
}

// TestStopRest has processes of every stubborn kind ended: as a subreaper and as PID 1.
func TestStopRest(t *testing.T) {
	for name, argv := range map[string][]string{"subreaper": nil, "pid1": unshare()} {
		t.Run(name, func(t *testing.T) {
			out, err := reexec(t, "stoprest", argv...).CombinedOutput()
			if err != nil && strings.Contains(string(out), "unshare failed") {
				t.Skipf("the kernel gives us no PID namespace: %s", out)
			}
			if err != nil || len(out) > 0 {
				t.Errorf("got %v, %s, want everything ended", err, out)
			}
		})
	}
}

func stopRestMain() int {
	r, err := New(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// Those for which SIGTERM is enough end by it, however late they hear of it; for the others the grace must end.
	tame := []string{"echo x; exec sleep 1000", "echo x; kill -STOP $$; sleep 1000", "(sleep 1000 & echo x); exit 0"}
	for _, p := range stopRestOf(ctx, r, time.Hour, tame) {
		if st := p.Status(); st.Signal != syscall.SIGTERM && st.Code != 0 {
			fmt.Printf("got %v, want SIGTERM to be enough\n", st)
		}
	}
	stopRestOf(ctx, r, 100*time.Millisecond, append(tame,
		"trap '' TERM; echo x; sleep 1000; sleep 1000",
		"setsid sh -c 'trap \"\" TERM; sleep 1000 & echo x; wait' & wait"))
	if err := r.StopRest(ctx, time.Hour); err != nil {
		fmt.Println(err)
	}
	return 0
}

// stopRestOf starts scripts, each of which says x, has them ended, and prints what is wrong.
func stopRestOf(ctx context.Context, r *Reaper, grace time.Duration, scripts []string) (started []*Process) {
	rd, wr, err := os.Pipe()
	if err != nil {
		fmt.Println(err)
		return nil
	}
	defer rd.Close()
	defer wr.Close()
	for _, script := range scripts {
		spec := shell(script)
		spec.Stdout = wr
		p, err := r.Start(spec)
		if err == nil {
			started = append(started, p)
			_, err = rd.Read(make([]byte, 2))
		}
		if err != nil {
			fmt.Println(err)
			return started
		}
	}
	if err := r.StopRest(ctx, grace); err != nil {
		fmt.Println(err)
	}
	for _, p := range started {
		<-p.Done()
	}
	if left := r.host.below(os.Getpid()); len(left) > 0 {
		fmt.Printf("left: %v\n", left)
	}
	return started
}

// stdin gives spec a pipe and returns its other end.
func stdin(t testing.TB, spec *Spec) *os.File {
	t.Helper()
	rd, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rd.Close(); wr.Close() })
	spec.Stdin = rd
	return wr
}
