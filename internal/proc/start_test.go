package proc

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEveryStatus(t *testing.T) {
	r := newTestReaper(t)
	ps := make([]*Process, 256)
	for code := range ps {
		ps[code] = mustStart(t, r, shell("exit "+strconv.Itoa(code)))
	}
	for code, p := range ps {
		if st := await(t, p); st.Code != code || st.Signal != 0 || !st.Exited() || st.Shell() != code ||
			st.String() != fmt.Sprintf("exit status %d", code) {
			t.Errorf("got %+v (%v), want exit status %d", st, st, code)
		}
	}
}

func TestEverySignal(t *testing.T) {
	r := newTestReaper(t)
	for sig := syscall.Signal(1); sig <= 31; sig++ {
		switch sig {
		case syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH, // ignored by default
			syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
			continue
		}
		p := mustStart(t, r, NewSpec("/bin/sleep", "1000"))
		if err := p.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if st := await(t, p); st.Code != -1 || st.Signal != sig || st.Exited() || st.Shell() != 128+int(sig) {
			t.Errorf("got %+v, want an end by signal %d", st, sig)
		}
		if err := p.Signal(sig); !errors.Is(err, ErrDone) {
			t.Errorf("signal after the end: got %v, want ErrDone", err)
		}
		if err := p.SignalGroup(sig); !errors.Is(err, ErrDone) {
			t.Errorf("group signal after the end: got %v, want ErrDone", err)
		}
	}
}

func TestStatusString(t *testing.T) {
	tests := []struct {
		wait uint32
		want string
	}{
		{0, "exit status 0"},
		{3 << 8, "exit status 3"},
		{9, "terminated by SIGKILL"},
		{11 | 0x80, "terminated by SIGSEGV (core dumped)"},
		{40, "terminated by signal 40"},
	}
	for _, test := range tests {
		st := newStatus(syscall.WaitStatus(test.wait), &syscall.Rusage{})
		if st.String() != test.want || st.Core != (test.wait&0x80 != 0) {
			t.Errorf("%#x: got %q, core %v, want %q", test.wait, st, st.Core, test.want)
		}
	}
}

// A stopped process has not ended.
func TestStopIsNoEnd(t *testing.T) {
	r := newTestReaper(t)
	p := mustStart(t, r, NewSpec("/bin/sleep", "1000"))
	_ = p.Signal(syscall.SIGSTOP)
	waitUntil(t, func() bool { m, _ := readMember(p.PID()); return m.State == 'T' }, "it did not stop")
	select {
	case <-p.Done():
		t.Errorf("got %v, want a process that is only stopped", p.Status())
	default:
	}
	_ = p.Signal(syscall.SIGKILL)
	await(t, p)
}

// withLoader is a program for this machine that names its loader, and nothing else.
func withLoader(loader string) string {
	var b bytes.Buffer
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	head := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	size := uint64(len(loader) + 1)
	for _, part := range []any{head, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 64 + 56, Filesz: size, Memsz: size}} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return b.String() + loader + "\x00"
}

func TestStartErrors(t *testing.T) {
	r := newTestReaper(t)
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	spec := func(path string, change ...func(*Spec)) Spec {
		s := NewSpec(path)
		for _, c := range change {
			c(&s)
		}
		return s
	}
	in := func(dir string) func(*Spec) { return func(s *Spec) { s.Dir = dir } }
	garbage := file("garbage", "\x01\x02", 0o755)
	lost := file("lost", "#!/no/such/interp -x\n", 0o755)
	windows := file("windows", "#!/bin/sh\r\necho\r\n", 0o755)
	foreign := file("foreign", withLoader("/no/such/ld.so"), 0o755)
	tests := []struct {
		name string
		spec Spec
		err  error
		text string
	}{
		{"missing", spec("/no/such"), syscall.ENOENT, `cannot start "/no/such": no such file or directory`},
		{"no mode bit", spec(file("plain", "", 0o644)), syscall.EACCES, "permission denied"},
		{"a directory", spec(dir), syscall.EACCES, "permission denied"},
		{"no format", spec(garbage), syscall.ENOEXEC, "neither a program for this machine nor a script"},
		{"no interpreter", spec(lost), syscall.ENOENT, `cannot run its interpreter "/no/such/interp"`},
		{"line ends of Windows", spec(windows), syscall.ENOENT, `cannot run its interpreter "/bin/sh\r"`},
		{"another C library", spec(foreign), syscall.ENOENT, "it is there, but the loader that it was linked for is not"},
		{"no directory", spec(sh, in("/no/dir")), syscall.ENOENT, `cannot change to directory "/no/dir"`},
		{"file as directory", spec(sh, in(garbage)), syscall.ENOTDIR, "is not a directory"},
		{"too much", spec(sh, func(s *Spec) { s.Env = []string{strings.Repeat("x", 4<<20)} }), syscall.E2BIG, "too large"},
		{"no terminal", spec(sh, func(s *Spec) { s.TTY = true }), syscall.ENOTTY, "cannot start"},
		{"nul byte", spec("/bin/s\x00h"), syscall.EINVAL, "cannot start"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := r.Start(test.spec)
			if !errors.Is(err, test.err) || !strings.Contains(fmt.Sprint(err), test.text) {
				t.Errorf("got %v, want %v with %q", err, test.err, test.text)
			}
		})
	}
	if st := r.Stats(); st.SpawnFailures != uint64(len(tests)) || st.Spawned != 0 || st.Orphans != 0 {
		t.Errorf("got %+v, want %d failures and nothing else", st, len(tests))
	}
	r.Close()
	if _, err := r.Start(NewSpec(sh)); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestEnvironmentAndDirectory(t *testing.T) {
	r := newTestReaper(t)
	dir := t.TempDir()
	spec := NewSpec("/usr/bin/env")
	spec.Env, spec.Dir = []string{"A=1", "B=x=y"}, dir
	if got := run(t, r, spec); !slices.Equal(got, spec.Env) {
		t.Errorf("got environment %q, want %q", got, spec.Env)
	}
	spec.Env = nil
	if got := run(t, r, spec); len(got) != 0 {
		t.Errorf("got environment %q, want none", got)
	}
	spec = NewSpec("/bin/pwd", "-P")
	spec.Dir = dir
	if got := run(t, r, spec); !slices.Equal(got, []string{dir}) {
		t.Errorf("got directory %q, want %q", got, dir)
	}
}

// statusFields starts `cat /proc/self/status` as spec says and returns what the kernel says of it.
func statusFields(t *testing.T, r *Reaper, change func(*Spec)) map[string]string {
	t.Helper()
	spec := NewSpec("/bin/cat", "/proc/self/status")
	if change != nil {
		change(&spec)
	}
	_, out, err := r.Run(testContext(t), spec, RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(out)) {
		k, v, _ := strings.Cut(line, ":")
		fields[k] = strings.Join(strings.Fields(v), " ")
	}
	return fields
}

func TestUmaskAndNiceStayInTheChild(t *testing.T) {
	r := newTestReaper(t)
	before := statusFields(t, r, nil)["Umask"]
	own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	own = 20 - own // the raw system call shifts it
	for i := range 20 {
		mask, nice := []int{0, 0o27, 0o77, 0o777}[i%4], own+i%3
		got := statusFields(t, r, func(s *Spec) { s.Umask = mask })
		if want := fmt.Sprintf("%04o", mask); got["Umask"] != want {
			t.Errorf("got umask %s, want %s", got["Umask"], want)
		}
		spec := NewSpec("/usr/bin/nice")
		spec.Nice = &nice
		if got := run(t, r, spec); got[0] != strconv.Itoa(nice) {
			t.Errorf("got nice %s, want %d", got[0], nice)
		}
		if got := statusFields(t, r, nil)["Umask"]; got != before {
			t.Fatalf("our own umask became %s, was %s", got, before)
		}
		if got := run(t, r, NewSpec("/usr/bin/nice")); got[0] != strconv.Itoa(own) {
			t.Fatalf("our own nice became %s, was %d", got[0], own)
		}
	}
	below := own - 5
	spec := NewSpec("/usr/bin/nice")
	spec.Nice = &below
	st, out, err := r.Run(testContext(t), spec, RunOptions{})
	if os.Geteuid() == 0 && err == nil && strings.TrimSpace(string(out)) == strconv.Itoa(below) {
		return // root, with CAP_SYS_NICE
	}
	if !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.EPERM) {
		t.Errorf("nice %d: got %v, %q, %v, want a refusal", below, st, out, err)
	} else if !strings.Contains(err.Error(), fmt.Sprintf("cannot set nice %d", below)) {
		t.Errorf("got %q, want it to name nice", err)
	}
}

func TestUserSwitch(t *testing.T) {
	r := newTestReaper(t)
	uid, gid := os.Getuid(), os.Getgid()
	// To be who one is works for everybody, with and without capabilities.
	got := statusFields(t, r, func(s *Spec) { s.UID, s.GID = uid, gid })
	if want := fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", uid); got["Uid"] != want {
		t.Errorf("got uids %q, want %q", got["Uid"], want)
	}
	spec := NewSpec("/bin/cat", "/proc/self/status")
	spec.UID, spec.GID, spec.Groups = 65534, 65533, []int{65531, 65532}
	if uid == 0 {
		got := statusFields(t, r, func(s *Spec) { *s = spec })
		for key, want := range map[string]string{
			"Uid": "65534 65534 65534 65534", "Gid": "65533 65533 65533 65533", "Groups": "65531 65532", "CapEff": "0000000000000000",
		} {
			if got[key] != want {
				t.Errorf("got %s %q, want %q", key, got[key], want)
			}
		}
		return
	}
	spec.UID = uid + 1
	_, err := r.Start(spec)
	if !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), fmt.Sprintf("cannot switch to uid %d", uid+1)) {
		t.Errorf("got %v, want a refusal that names the uid", err)
	}
}

// What only root can get wrong: a program's user that may not enter its directory.
func TestDirectoryOfAnotherUser(t *testing.T) {
	r := newTestReaper(t)
	dir := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	spec := shell("exit 0")
	spec.Dir, spec.UID, spec.GID = dir, 65534, 65534
	_, err := r.Start(spec)
	want := fmt.Sprintf(`cannot start "/bin/sh" as uid 65534 in directory %q: permission denied`, dir)
	if os.Geteuid() != 0 {
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
		spec.UID, spec.GID = Unchanged, Unchanged
		_, err = r.Start(spec)
		want = `cannot start "/bin/sh": permission denied`
	}
	if !errors.Is(err, syscall.EACCES) || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

// The core flag is set when, and only when, the kernel wrote a core.
func TestCoreFlag(t *testing.T) {
	r := newTestReaper(t)
	spec := shell("ulimit -c unlimited 2>/dev/null; kill -SEGV $$")
	spec.Dir = t.TempDir()
	st, _, err := r.Run(testContext(t), spec, RunOptions{})
	if err != nil || st.Signal != syscall.SIGSEGV {
		t.Fatalf("got %v, %v, want SIGSEGV", st, err)
	}
	if pattern := firstLine("/proc/sys/kernel/core_pattern"); strings.HasPrefix(pattern, "/") || strings.HasPrefix(pattern, "|") {
		t.Logf("core flag %v: cores go to %q, where a test cannot look", st.Core, pattern)
		return
	}
	entries, err := os.ReadDir(spec.Dir)
	if err != nil || st.Core != (len(entries) > 0) {
		t.Errorf("got core flag %v with %d files written, %v", st.Core, len(entries), err)
	}
}

func TestTerminal(t *testing.T) {
	r := newTestReaper(t)
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ptmx.Close()
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	spec := shell("exec 3>/dev/tty && cut -d' ' -f1,5,6 /proc/$$/stat; tty")
	spec.TTY, spec.Stdin = true, tty
	next := lines(t, &spec)
	p := mustStart(t, r, spec)
	if got, want := next(), fmt.Sprintf("%[1]d %[1]d %[1]d", p.PID()); got != want {
		t.Errorf("got pid, group and session %q, want %q", got, want)
	}
	if got := next(); got != tty.Name() {
		t.Errorf("got terminal %q, want %q", got, tty.Name())
	}
	await(t, p)
}

func TestDescriptors(t *testing.T) {
	r := newTestReaper(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for extra := range 3 {
		spec := NewSpec("/bin/ls", "/proc/self/fd")
		want := []string{"0", "1", "2", "3"} // ls has its directory open too
		for i := range extra {
			spec.ExtraFiles = append(spec.ExtraFiles, null)
			want = append(want, strconv.Itoa(4+i))
		}
		if got := run(t, r, spec); !slices.Equal(got, want) {
			t.Errorf("%d extra files: got descriptors %q, want %q", extra, got, want)
		}
	}
}

func TestOwnProcessGroup(t *testing.T) {
	r := newTestReaper(t)
	p := mustStart(t, r, NewSpec("/bin/sleep", "1000"))
	// The kernel lets us go on a moment before the process has its new name.
	waitUntil(t, func() bool { m, _ := readMember(p.PID()); return m.Name == "sleep" }, "it has another name")
	m, _ := readMember(p.PID())
	if self, _ := readMember(os.Getpid()); m.PGID != p.PID() || m.SID != self.SID || m.PPID != os.Getpid() || m.Name != "sleep" {
		t.Errorf("got %+v, want a group of its own in session %d", m, self.SID)
	}
}

func TestOneReaperOnly(t *testing.T) {
	r := newTestReaper(t)
	if _, err := New(r.log); err == nil {
		t.Error("got a second reaper, want an error")
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	newTestReaper(t)
}

func BenchmarkStart(b *testing.B) {
	nice := 1
	for _, bench := range []struct {
		name   string
		change func(*Spec)
	}{
		{"plain", func(*Spec) {}},
		{"umask", func(s *Spec) { s.Umask = 0o22 }},
		{"umask+nice", func(s *Spec) { s.Umask, s.Nice = 0o22, &nice }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r := newTestReaper(b)
			spec := NewSpec("/bin/true")
			bench.change(&spec)
			for b.Loop() {
				p, err := r.Start(spec)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				<-p.Done()
				b.StartTimer()
			}
		})
	}
}
