package proc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// judged is how many processes the judge starts in each of its two rounds; fewer with -short.
var judged = map[bool]int{false: 10_000, true: 1000}[os.Getenv(shortEnv) != ""]

const shortEnv = "PROC_TEST_SHORT"

// TestNoStatusIsLost starts 10,000 processes that all live at once and end at once, and 10,000 more as fast as the
// machine forks, while orphans are born all the time: as PID 1 of a PID namespace, and as a subreaper.
func TestNoStatusIsLost(t *testing.T) {
	for _, test := range []struct {
		name string
		argv []string
	}{
		{"subreaper", nil},
		{"pid1", unshare()},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := reexec(t, "judge", test.argv...)
			start := time.Now()
			out, err := cmd.CombinedOutput()
			if err != nil && bytes.Contains(out, []byte("unshare failed")) {
				t.Skipf("the kernel gives us no PID namespace: %s", out)
			}
			if err != nil {
				t.Fatalf("got %v, want no lost status, no wrong one and no zombie:\n%s", err, out)
			}
			t.Logf("%v: %s", time.Since(start).Round(time.Millisecond), out)
		})
	}
}

func unshare() []string {
	args := []string{"unshare", "-pf", "--mount-proc"}
	if os.Geteuid() != 0 {
		args = append(args, "-Ur")
	}
	return args
}

// reexec returns this test binary in another mode, started through the words of argv.
func reexec(t *testing.T, mode string, argv ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv = append(argv, self)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), modeEnv+"="+mode)
	if testing.Short() {
		cmd.Env = append(cmd.Env, shortEnv+"=1")
	}
	return cmd
}

// fate is what a judged process does: its script, how it must end, and how many orphans it leaves.
type fate struct {
	script  string
	code    int
	signal  syscall.Signal
	orphans int
}

func fateOf(i int) fate {
	f := fate{code: i % 256}
	switch {
	case i%17 == 0:
		f.code, f.signal = -1, []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGALRM}[i/17%4]
		f.script = fmt.Sprintf("kill -%d $$", int(f.signal))
	default:
		f.script = "exit " + strconv.Itoa(f.code)
	}
	switch i % 8 {
	case 3: // ends at about the same time as its parent
		f.script, f.orphans = "(read x <&3; exit 9) & "+f.script, 1
	case 6: // a daemon's double fork
		f.script, f.orphans = "( (read x <&3; exit 8) & ) ; "+f.script, 1
	}
	return f
}

func judgeMain() int {
	r, err := New(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	started := time.Now()
	n := min(judged, roomFor())
	var faults []string
	orphans := uint64(0)
	count := func(from, n int, gated bool) {
		f, o := judgeRound(r, from, n, gated)
		faults, orphans = append(faults, f...), orphans+o
	}
	for from := 0; from < judged; from += n {
		count(from, min(n, judged-from), true)
	}
	gate := time.Since(started)
	count(judged, judged, false)
	faults = append(faults, judgeEnd(r, uint64(2*judged), orphans)...)
	fmt.Printf("pid %d: %d at once in %v, %d unordered in %v, %+v", os.Getpid(), n, gate.Round(time.Millisecond),
		judged, (time.Since(started) - gate).Round(time.Millisecond), r.Stats())
	for i, f := range faults {
		if i < 20 {
			fmt.Println("\nFAULT", f)
		}
	}
	return min(1, len(faults))
}

// judgeRound starts n processes. Gated ones live until the last of them was started, and then all end.
func judgeRound(r *Reaper, from, n int, gated bool) (faults []string, orphans uint64) {
	var mu sync.Mutex
	fault := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		faults = append(faults, fmt.Sprintf(format, args...))
	}
	rd, wr, err := os.Pipe()
	if err != nil {
		return []string{err.Error()}, 0
	}
	var all, spawned sync.WaitGroup
	nice := 1
	for i := from; i < from+n; i++ {
		f := fateOf(i)
		orphans += uint64(f.orphans)
		spec := shell(f.script)
		if gated {
			spec.Argv[2] = "read x <&3; " + f.script
		}
		spec.ExtraFiles = []*os.File{rd}
		if !gated {
			spec.ExtraFiles = []*os.File{r.null}
		}
		if i%10 == 0 {
			spec.Umask, spec.Nice = 0o27, &nice // the other way to fork
		}
		spawned.Add(1)
		all.Go(func() {
			p, err := startPatiently(r, spec)
			spawned.Done()
			if err != nil {
				fault("start %d: %v", i, err)
				return
			}
			<-p.Done()
			if st := p.Status(); st.Code != f.code || st.Signal != f.signal {
				fault("process %d (%q): got %v, want code %d, signal %d", i, f.script, st, f.code, f.signal)
			}
			if err := p.Signal(syscall.SIGKILL); !errors.Is(err, ErrDone) {
				fault("signal after the end: got %v, want ErrDone", err)
			}
		})
	}
	spawned.Wait()
	rd.Close()
	wr.Close() // opens the gate
	all.Wait()
	return faults, orphans
}

// startPatiently waits while the machine has no room for another process, which is not what is judged.
func startPatiently(r *Reaper, spec Spec) (*Process, error) {
	for try := 0; ; try++ {
		p, err := r.Start(spec)
		if !errors.Is(err, syscall.EAGAIN) || try > 1000 {
			return p, err
		}
		runtime.Gosched()
	}
}

// judgeEnd waits for the last orphan and then looks for what must not be there.
func judgeEnd(r *Reaper, started, orphans uint64) (faults []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	event, stop := r.watch()
	defer stop()
	for !r.childless.Load() {
		select {
		case <-event:
		case <-ctx.Done():
			return []string{fmt.Sprintf("children are left: %v", everything())}
		}
	}
	if st := r.Stats(); st.Spawned != started || st.Reaped != started || st.Orphans != orphans || st.Running != 0 {
		faults = append(faults, fmt.Sprintf("got %+v, want %d spawned and reaped, %d orphans, 0 running", st, started, orphans))
	}
	for _, m := range everything() {
		if m.PPID == os.Getpid() || m.dead() && os.Getpid() == 1 {
			faults = append(faults, fmt.Sprintf("left in /proc: %v, state %c", m, m.State))
		}
	}
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		faults = append(faults, fmt.Sprintf("wait4: got %d, %v, want ECHILD", pid, err))
	}
	return faults
}

// roomFor tells how many judged processes, with their orphans, can live here at once.
func roomFor() int {
	room := judged
	limit := func(n int) { room = min(room, max(64, n)) }
	if n, err := strconv.Atoi(firstLine("/proc/sys/kernel/pid_max")); err == nil {
		limit(n / 2)
	}
	var rl syscall.Rlimit
	const rlimitNproc = 6
	if syscall.Getrlimit(rlimitNproc, &rl) == nil && rl.Cur < 1<<30 && os.Geteuid() != 0 {
		limit(int(rl.Cur) / 3)
	}
	for _, f := range []string{"/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"} {
		if n, err := strconv.Atoi(firstLine(f)); err == nil {
			limit(n / 3)
		}
	}
	if f, err := os.Open("/proc/meminfo"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if kb, ok := strings.CutPrefix(s.Text(), "MemAvailable:"); ok {
				n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kb), " kB"))
				limit(n / 2 / 400) // a blocked shell and its orphan need about 400 kB
			}
		}
	}
	return room
}

func firstLine(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, 64))
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}
