package agent

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// trimCode gives the pages of the program's own file back that the start has touched: initialisation runs once, and the
// kernel maps 64 KiB and more around each page that is used. What is needed again comes from the page cache with a minor
// fault. It saves some 8 MB of resident memory.
func trimCode() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return // no /proc: nothing is lost
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for s := bufio.NewScanner(maps); s.Scan(); {
		var from, to uintptr
		var perms string
		line := s.Text()
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms); err != nil || perms[1] == 'w' || !strings.HasSuffix(line, " "+exe) {
			continue
		}
		// Read-only pages of a file: they are the same when they are read again (madvise(2)).
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
	}
}
