package proc

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start executes spec in a process group of its own. The error wraps the errno of the step that failed
// (execve, chdir, setuid, …) and names what it was about.
func (r *Reaper) Start(spec Spec) (*Process, error) {
	p, err := r.start(spec)
	if err != nil {
		r.failed.Add(1)
		return nil, explain(spec, r.credential(spec), err)
	}
	r.spawned.Add(1)
	return p, nil
}

func (r *Reaper) start(spec Spec) (*Process, error) {
	argv := spec.Argv
	if len(argv) == 0 {
		argv = []string{spec.Path}
	}
	attr := &syscall.ProcAttr{Dir: spec.Dir, Env: spec.Env, Sys: r.sysAttr(spec)}
	if attr.Env == nil {
		attr.Env = []string{}
	}
	for _, f := range []*os.File{spec.Stdin, spec.Stdout, spec.Stderr} {
		if f == nil {
			f = r.null
		}
		attr.Files = append(attr.Files, f.Fd())
	}
	for _, f := range spec.ExtraFiles {
		attr.Files = append(attr.Files, f.Fd())
	}
	defer runtime.KeepAlive(spec)
	touch(spec)
	if spec.Umask < 0 && spec.Nice == nil && !r.host.masked {
		return r.fork(spec, argv, attr)
	}
	return r.forkApart(spec, argv, attr)
}

// touch makes the kernel fetch what the child is about to use. The runtime cannot stop the world while a fork
// waits for its execve, so a slow disk or network mount is waited for here, where only this thread blocks.
func touch(spec Spec) {
	if spec.Dir != "" {
		_, _ = os.Stat(spec.Dir)
	}
	fd, err := syscall.Open(spec.Path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return // fork reports what is wrong
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG {
		var head [256]byte
		_, _ = syscall.Pread(fd, head[:], 0)
	}
}

// fork starts the process from the calling thread and registers it before the reaper can look.
func (r *Reaper) fork(spec Spec, argv []string, attr *syscall.ProcAttr) (*Process, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return nil, ErrClosed
	}
	// A failed execve is reaped inside ForkExec, undisturbed because we hold the lock.
	pid, err := r.forkExec(spec, argv, attr)
	if err != nil {
		return nil, err
	}
	p := &Process{r: r, pid: pid, done: make(chan struct{})}
	r.register(p)
	return p, nil
}

// forkApart forks from a thread with its own umask, nice value and signal mask. A child inherits these from the
// thread that forks it, and no other thread of ours may be seen with them: the thread leaves the shared
// file-system state, and it ends with its goroutine because that never unlocks it.
func (r *Reaper) forkApart(spec Spec, argv []string, attr *syscall.ProcAttr) (*Process, error) {
	type result struct {
		p   *Process
		err error
	}
	// Threads cost memory, and one process can only fork so fast: a thousand starts at once share a few.
	r.apart <- struct{}{}
	defer func() { <-r.apart }()
	c := make(chan result, 1)
	var run func()
	run = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The main thread must not change and cannot end: keep it busy while another goroutine gets another thread.
			done := make(chan struct{})
			go func() { defer close(done); run() }()
			<-done
			runtime.UnlockOSThread()
			return
		}
		if err := r.prepareThread(spec); err != nil {
			c <- result{err: err}
			return
		}
		p, err := r.fork(spec, argv, attr)
		c <- result{p, err}
	}
	go run()
	res := <-c
	return res.p, res.err
}

func (r *Reaper) prepareThread(spec Spec) error {
	if spec.Umask >= 0 {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("cannot set umask %03o: unshare: %w", spec.Umask, err)
		}
		unix.Umask(spec.Umask)
	}
	if spec.Nice != nil {
		if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), *spec.Nice); err != nil {
			return fmt.Errorf("cannot set nice %d: %w", *spec.Nice, err)
		}
	}
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		return fmt.Errorf("cannot clear the signal mask: %w", err)
	}
	return nil
}

func (r *Reaper) sysAttr(spec Spec) *syscall.SysProcAttr {
	if spec.TTY {
		return &syscall.SysProcAttr{Setsid: true, Setctty: true, Credential: r.credential(spec)}
	}
	if spec.Session {
		return &syscall.SysProcAttr{Setsid: true, Credential: r.credential(spec)}
	}
	attr := &syscall.SysProcAttr{Setpgid: true, Credential: r.credential(spec)}
	if spec.Foreground {
		attr.Foreground, attr.Ctty = true, int(spec.Stdin.Fd())
	}
	return attr
}

// credential returns nil when nothing would change: root without capabilities may then start programs "as root".
func (r *Reaper) credential(spec Spec) *syscall.Credential {
	uid, gid := os.Geteuid(), os.Getegid()
	if (spec.UID < 0 || spec.UID == uid) && (spec.GID < 0 || spec.GID == gid) && spec.Groups == nil {
		return nil
	}
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: !r.host.setgroups}
	if spec.UID >= 0 {
		cred.Uid = uint32(spec.UID)
	}
	if spec.GID >= 0 {
		cred.Gid = uint32(spec.GID)
	}
	for _, g := range spec.Groups {
		cred.Groups = append(cred.Groups, uint32(g))
	}
	return cred
}
