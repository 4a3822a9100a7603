package files

import (
	"os"
	"strconv"
	"strings"
)

// OwnUmask is the process's umask, which only /proc tells without changing it (Linux 4.7).
func OwnUmask() uint32 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(status), "\nUmask:\t")
	if !ok {
		return 0
	}
	digits, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(digits, 8, 12)
	if err != nil {
		return 0
	}
	return uint32(mask)
}
