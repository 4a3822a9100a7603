package sshd

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal.
type terminal struct {
	master, slave *os.File
	name          string // of the slave, for SSH_TTY
}

// openTerminal makes a terminal that belongs to u. pty(7) and devpts: the kernel makes the slave with the rights of
// whoever opens the master.
func openTerminal(u *account) (*terminal, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open /dev/ptmx: %w", err)
	}
	t := &terminal{master: os.NewFile(uintptr(fd), "/dev/ptmx")}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		_ = t.master.Close()
		return nil, fmt.Errorf("cannot unlock a terminal: %w", err)
	}
	t.name = "/dev/pts/" + strconv.Itoa(n)
	// Through the master, since /dev/pts may be that of another namespace (Linux 4.13).
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, flags)
	slave := int(peer)
	if errno != 0 {
		slave, err = unix.Open(t.name, flags, 0)
	}
	if err != nil {
		_ = t.master.Close()
		return nil, fmt.Errorf("cannot open %s: %w", t.name, err)
	}
	t.slave = os.NewFile(uintptr(slave), t.name)
	if !u.own {
		// The group and the mode stay devpts's: tty's, that may write, or nobody's. Those of the user's group may not write.
		if err := t.slave.Chown(u.uid, -1); err != nil {
			t.close()
			return nil, fmt.Errorf("cannot give %s to %s: %w", t.name, u.name, err)
		}
	}
	return t, nil
}

func (t *terminal) close() {
	_ = t.master.Close()
	_ = t.slave.Close()
}

// unread tells whether there is output that was not read yet.
func (t *terminal) unread() bool {
	conn, err := t.master.SyscallConn()
	if err != nil {
		return false
	}
	there := false
	_ = conn.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		there = err == nil && n > 0 && p[0].Revents&unix.POLLIN != 0
	})
	return there
}

// resize sets the size, which sends SIGWINCH to the foreground.
func (t *terminal) resize(w windowSize) {
	conn, err := t.master.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{
			Row: clampSize(w.Rows), Col: clampSize(w.Columns), Xpixel: clampSize(w.Width), Ypixel: clampSize(w.Height),
		})
	})
}

func clampSize(n uint32) uint16 { return uint16(min(n, 0xffff)) }

// windowSize is the body of window-change, and a part of pty-req (RFC 4254, 6.2 and 6.7).
type windowSize struct{ Columns, Rows, Width, Height uint32 }

// The opcodes of RFC 4254, 8.
const (
	ttyEnd    = 0
	ttyISpeed = 128
	ttyOSpeed = 129
)

// controlChars are the indices of Termios.Cc by opcode.
func controlChar(op byte) (int, bool) {
	i, ok := map[byte]int{
		1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL, 7: unix.VEOL2,
		8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT, 13: unix.VWERASE, 14: unix.VLNEXT, 18: unix.VDISCARD,
	}[op]
	return i, ok
}

// modes are the flags by opcode, in the fields of Termios.
func inputMode(op byte) uint32 {
	return map[byte]uint32{
		30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR, 35: unix.IGNCR, 36: unix.ICRNL,
		37: unix.IUCLC, 38: unix.IXON, 39: unix.IXANY, 40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8,
	}[op]
}

func localMode(op byte) uint32 {
	return map[byte]uint32{
		50: unix.ISIG, 51: unix.ICANON, 52: unix.XCASE, 53: unix.ECHO, 54: unix.ECHOE, 55: unix.ECHOK, 56: unix.ECHONL,
		57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN, 60: unix.ECHOCTL, 61: unix.ECHOKE, 62: unix.PENDIN,
	}[op]
}

func outputMode(op byte) uint32 {
	return map[byte]uint32{
		70: unix.OPOST, 71: unix.OLCUC, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
	}[op]
}

func controlMode(op byte) uint32 {
	return map[byte]uint32{92: unix.PARENB, 93: unix.PARODD}[op]
}

// setModes applies the encoded terminal modes of pty-req. What is not known ends it, as RFC 4254, 8 says.
func (t *terminal) setModes(modes []byte) error {
	fd := int(t.slave.Fd())
	tio, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	for len(modes) >= 5 && modes[0] != ttyEnd && modes[0] < 160 {
		applyMode(tio, modes[0], binary.BigEndian.Uint32(modes[1:]))
		modes = modes[5:]
	}
	return unix.IoctlSetTermios(fd, unix.TCSETS, tio)
}

func applyMode(tio *unix.Termios, op byte, v uint32) {
	set := func(field *uint32, bit uint32) {
		*field &^= bit
		if v != 0 {
			*field |= bit
		}
	}
	if i, ok := controlChar(op); ok {
		if v == 255 { // no character
			v = 0
		}
		tio.Cc[i] = byte(v)
		return
	}
	switch op {
	case 90, 91: // CS7, CS8
		if v != 0 {
			tio.Cflag = tio.Cflag&^unix.CSIZE | map[byte]uint32{90: unix.CS7, 91: unix.CS8}[op]
		}
		return
	case ttyISpeed, ttyOSpeed: // a pseudo-terminal has no speed
		return
	}
	set(&tio.Iflag, inputMode(op))
	set(&tio.Lflag, localMode(op))
	set(&tio.Oflag, outputMode(op))
	set(&tio.Cflag, controlMode(op))
}
