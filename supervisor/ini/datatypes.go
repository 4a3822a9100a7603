package ini

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
)

var errNumber = errors.New("not a number")

// pyInt is Python's int(s, base) for base 8 and 10: white space around, a sign, single
// underscores between digits, and for base 8 a 0o in front.
func pyInt(s string, base int) (int64, error) {
	s = strip(s)
	negative := false
	if s != "" && (s[0] == '+' || s[0] == '-') {
		negative = s[0] == '-'
		s = s[1:]
	}
	if base == 8 && len(s) > 2 && s[0] == '0' && (s[1] == 'o' || s[1] == 'O') {
		s = strings.TrimPrefix(s[2:], "_")
	}
	if s == "" || s[0] == '_' || s[len(s)-1] == '_' || strings.Contains(s, "__") || s[0] == '+' || s[0] == '-' {
		return 0, errNumber
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), base, 64)
	if err != nil {
		return 0, errNumber
	}
	if negative {
		n = -n
	}
	return n, nil
}

// integer is a number that fits the wire's <int>.
func integer(s string) (int, error) {
	n, err := pyInt(s, 10)
	if err != nil || n > math.MaxInt32 || n < math.MinInt32 {
		return 0, errNumber
	}
	return int(n), nil
}

func octal(s string) (int, error) {
	n, err := pyInt(s, 8)
	if err != nil || n > math.MaxInt32 || n < 0 {
		return 0, errNumber
	}
	return int(n), nil
}

func boolean(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "yes", "true", "on", "1":
		return true, true
	case "no", "false", "off", "0":
		return false, true
	}
	return false, false
}

// byteSize is Supervisor's: a number, or a number with KB, MB or GB.
func byteSize(s string) (int64, error) {
	s = strings.ToLower(s)
	factor := int64(1)
	for suffix, f := range map[string]int64{"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30} {
		if head, ok := strings.CutSuffix(s, suffix); ok {
			s, factor = head, f
			break
		}
	}
	n, err := pyInt(s, 10)
	if err != nil || n > math.MaxInt64/factor || n < math.MinInt64/factor {
		return 0, errNumber
	}
	return n * factor, nil
}

// quantity is a byteSize or a Kubernetes quantity such as 512Mi, for inpod's own keys.
func quantity(s string) (int64, error) {
	for suffix, f := range map[string]float64{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} {
		if head, ok := strings.CutSuffix(s, suffix); ok {
			x, err := strconv.ParseFloat(strip(head), 64)
			if err != nil || !(x > 0) || x*f > math.MaxInt64/2 {
				return 0, errNumber
			}
			return int64(x * f), nil
		}
	}
	n, err := byteSize(s)
	if err != nil || n <= 0 {
		return 0, errNumber
	}
	return n, nil
}

// cores is a CPU quantity: 0.5, 2 or 500m.
func cores(s string) (float64, error) {
	factor := 1.0
	if head, ok := strings.CutSuffix(s, "m"); ok {
		s, factor = head, 1000
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || !(x > 0) || x > 1e6 {
		return 0, errNumber
	}
	return x / factor, nil
}

// exitCodes is a list such as 0,2. An empty value is an empty list: every exit is unexpected.
func exitCodes(s string) ([]int, error) {
	codes := []int{}
	if s == "" {
		return codes, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		n, err := integer(part)
		if err != nil || n < 0 || n > 255 {
			return nil, errNumber
		}
		codes = append(codes, n)
	}
	return codes, nil
}

// signalNames are the signals that Python's signal module names on Linux.
var signalNames = map[string]syscall.Signal{
	"ABRT": 6, "ALRM": 14, "BUS": 7, "CHLD": 17, "CLD": 17, "CONT": 18, "FPE": 8, "HUP": 1, "ILL": 4,
	"INT": 2, "IO": 29, "IOT": 6, "KILL": 9, "PIPE": 13, "POLL": 29, "PROF": 27, "PWR": 30, "QUIT": 3,
	"RTMAX": 64, "RTMIN": 34, "SEGV": 11, "STKFLT": 16, "STOP": 19, "SYS": 31, "TERM": 15, "TRAP": 5,
	"TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "USR1": 10, "USR2": 12, "VTALRM": 26, "WINCH": 28,
	"XCPU": 24, "XFSZ": 25,
}

// ParseSignal reads a signal as stopsignal= does: TERM, SIGTERM, sigterm or 15.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := pyInt(s, 10); err == nil {
		if n >= 1 && n <= 31 || n == 34 || n == 64 {
			return syscall.Signal(n), nil
		}
		return 0, fmt.Errorf("%s is not a signal's number", quote(s))
	}
	name := strings.ToUpper(strip(s))
	if sig, ok := signalNames[strings.TrimPrefix(name, "SIG")]; ok {
		return sig, nil
	}
	return 0, fmt.Errorf("%s is not a signal's name", quote(s))
}

// inetAddress is Supervisor's host:port, or a port alone. The host is empty for every address.
func inetAddress(s string) (host string, port int, err error) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, s = strings.ToLower(s[:i]), s[i+1:]
	}
	port, err = integer(s)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, errNumber
	}
	if host == "*" {
		host = ""
	}
	return host, port, nil
}

// listOfStrings splits at commas; an empty value has no elements.
func listOfStrings(s string) []string {
	if s == "" {
		return nil
	}
	parts := strings.Split(s, ",")
	for i, p := range parts {
		parts[i] = strip(p)
	}
	return parts
}
