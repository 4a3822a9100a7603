package files

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Identity is a user whose rights a session has. The kernel keeps identities by thread, so that a session that does
// one thing at a time can have one of its own in a process of root's: no second process, and no pipes to it. What the
// kernel calls the file-system identity is enough for files, and leaves no way for the user to signal or trace us.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
}

// Run calls do with the identity, on a thread that ends with it. A nil identity is the process's own.
func (id *Identity) Run(do func() error) error {
	if id == nil {
		return do()
	}
	done := make(chan error, 1)
	go id.on(done, do)
	return <-done
}

// on does it on the thread of a goroutine of its own.
func (id *Identity) on(done chan<- error, do func() error) {
	// Never unlocked: the runtime ends the thread with the goroutine, and starts none from it.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread cannot end, and what it is the process seems to be: it waits while another one is used.
		other := make(chan error, 1)
		go id.on(other, do)
		done <- <-other
		runtime.UnlockOSThread()
		return
	}
	err := id.assume()
	if err == nil {
		err = do()
	}
	done <- err
}

// assume makes the calling thread the user's. The calls are made bare: those of the packages syscall and unix change
// all threads.
func (id *Identity) assume() error {
	var groups unsafe.Pointer
	if len(id.Groups) > 0 {
		groups = unsafe.Pointer(&id.Groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(id.Groups)), uintptr(groups), 0); e != 0 {
		return fmt.Errorf("cannot set the groups of user %d: %w", id.UID, e)
	}
	// They report no error: they return what was, and a second call tells what is.
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(id.GID), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(id.UID), 0, 0)
	const none = ^uintptr(0)
	gid, _, _ := unix.RawSyscall(unix.SYS_SETFSGID, none, 0, 0)
	uid, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, none, 0, 0)
	if uint32(gid) != id.GID || uint32(uid) != id.UID {
		return fmt.Errorf("cannot become user %d and group %d: %w", id.UID, id.GID, unix.EPERM)
	}
	// The rest of root's capabilities are of no use to files, except those of others.
	hdr, nothing := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if err := unix.Capset(&hdr, &nothing[0]); err != nil {
		return fmt.Errorf("cannot drop capabilities: %w", err)
	}
	return nil
}
