package proc

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Member is a process somewhere below a started one. PID and Start together name it for good: a process that got
// the number later has a later start.
type Member struct {
	PID, PPID, PGID, SID int
	Start                uint64 // in clock ticks since boot
	State                byte   // R, S, D, T, Z, …: see proc_pid_stat(5)
	Name                 string // at most 15 bytes
}

func (m Member) String() string { return fmt.Sprintf("%d (%s)", m.PID, m.Name) }

// dead tells whether m only waits for its parent to take its status.
func (m Member) dead() bool { return m.State == 'Z' || m.State == 'X' || m.State == 'x' }

func (m Member) same(o Member) bool { return m.PID == o.PID && m.Start == o.Start }

// readMember returns the process with the number pid, if there is one.
func readMember(pid int) (Member, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Member{}, false
	}
	return parseStat(data)
}

// parseStat reads a line of /proc/PID/stat. The name may hold spaces and parentheses.
func parseStat(data []byte) (Member, bool) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 1 || end < open {
		return Member{}, false
	}
	f := strings.Fields(string(data[end+1:]))
	if len(f) < 20 {
		return Member{}, false
	}
	m := Member{Name: string(data[open+1 : end]), State: f[0][0]}
	var errs [5]error
	m.PID, errs[0] = strconv.Atoi(strings.TrimSpace(string(data[:open])))
	m.PPID, errs[1] = strconv.Atoi(f[1])
	m.PGID, errs[2] = strconv.Atoi(f[2])
	m.SID, errs[3] = strconv.Atoi(f[3])
	m.Start, errs[4] = strconv.ParseUint(f[19], 10, 64)
	for _, err := range errs {
		if err != nil {
			return Member{}, false
		}
	}
	return m, true
}

// everything lists all processes that /proc shows.
func everything() []Member {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var all []Member
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if m, ok := readMember(pid); ok {
				all = append(all, m)
			}
		}
	}
	return all
}

// below lists the processes under the roots, parents before their children.
func (h host) below(roots ...int) []Member {
	if !h.childrenFile {
		byParent := map[int][]Member{}
		for _, m := range everything() {
			byParent[m.PPID] = append(byParent[m.PPID], m)
		}
		return walk(roots, func(pid int) []Member { return byParent[pid] })
	}
	found := walk(roots, children)
	if len(found) == 0 {
		return nil
	}
	// The kernel may leave children out of a list while some of them end: the second look finds those.
	for _, m := range walk(roots, children) {
		if !slices.ContainsFunc(found, m.same) {
			found = append(found, m)
		}
	}
	return found
}

func walk(roots []int, children func(pid int) []Member) []Member {
	seen := map[int]bool{}
	for _, root := range roots {
		seen[root] = true
	}
	var found []Member
	for queue := slices.Clone(roots); len(queue) > 0; queue = queue[1:] {
		for _, m := range children(queue[0]) {
			if !seen[m.PID] {
				seen[m.PID] = true
				found = append(found, m)
				queue = append(queue, m.PID)
			}
		}
	}
	return found
}

// children lists the children of all threads of pid. It costs a few system calls, where a look at all of /proc
// costs two for every process of the pod.
func children(pid int) []Member {
	task := "/proc/" + strconv.Itoa(pid) + "/task/"
	dir, err := os.Open(task)
	if err != nil {
		return nil
	}
	defer dir.Close()
	tids, _ := dir.Readdirnames(-1)
	var found []Member
	for _, tid := range tids {
		list, _ := os.ReadFile(task + tid + "/children")
		for f := range bytes.FieldsSeq(list) {
			child, err := strconv.Atoi(string(f))
			if err != nil {
				continue
			}
			if m, ok := readMember(child); ok && m.PPID == pid {
				found = append(found, m)
			}
		}
	}
	return found
}

// signal sends sig to m and to nobody else; a process that is gone is no error.
func (m Member) signal(sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(m.PID, 0)
	switch err {
	case nil:
		defer unix.Close(fd)
	case unix.ESRCH:
		return nil
	default:
		fd = -1 // before Linux 5.3, or a sandbox that knows no pidfd
	}
	// The descriptor was opened first: when the number still means m now, the descriptor means m for good.
	if now, ok := readMember(m.PID); !ok || !now.same(m) {
		return nil
	}
	if fd >= 0 {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	} else {
		err = syscall.Kill(m.PID, sig)
	}
	if err != nil && err != syscall.ESRCH {
		return fmt.Errorf("cannot signal process %v: %w", m, err)
	}
	return nil
}
