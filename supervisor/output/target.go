package output

import (
	"cmp"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// A target takes a stream's bytes. Its write returns an error when something was lost; it is called again all the same.
type target interface {
	// write takes one block. The block is only valid during the call.
	write(s *Stream, block []byte) error
	// name is what messages call it.
	name() string
	release()
}

// kind says what a target's name means.
type kind int

const (
	kindFile kind = iota
	kindStdout
	kindStderr
	kindFD
	kindSyslog
	kindNone
)

// parseTarget tells what the value of a logfile key stands for. fd is set for kindFD.
func parseTarget(value string) (k kind, fd int) {
	switch strings.ToLower(value) {
	case "", "none", "off":
		return kindNone, 0
	case "syslog":
		return kindSyslog, 0
	}
	if strings.HasPrefix(strings.ToLower(value), "syslog ") {
		return kindSyslog, 0
	}
	clean := path.Clean(value)
	switch clean {
	case "/dev/stdout":
		return kindStdout, 0
	case "/dev/stderr":
		return kindStderr, 0
	}
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		rest, ok := strings.CutPrefix(clean, dir)
		if !ok {
			continue
		}
		switch n, err := strconv.Atoi(rest); {
		case err != nil:
			return kindFile, 0
		case n == 1:
			return kindStdout, 0
		case n == 2:
			return kindStderr, 0
		default:
			return kindFD, n
		}
	}
	return kindFile, 0
}

// openTarget opens one value of a logfile key.
func (h *Hub) openTarget(o *Options, value string) (target, error) {
	switch k, fd := parseTarget(value); k {
	case kindNone:
		return nil, nil
	case kindStdout:
		return h.stdout, nil
	case kindStderr:
		return h.stderr, nil
	case kindSyslog:
		return h.openSyslog(o, value, cmp.Or(o.SyslogTag, o.Program), "")
	case kindFD:
		return openFD(fd, value)
	default:
		return h.openFile(value, o.Maxbytes, o.Backups)
	}
}

// openTargets opens everything a stream writes to. byLine are the targets that must be given whole lines.
func (h *Hub) openTargets(o *Options) (whole, byLine []target, err error) {
	defer func() {
		if err != nil {
			releaseAll(whole)
			releaseAll(byLine)
			whole, byLine = nil, nil
		}
	}()
	for _, value := range o.Targets {
		value = strings.TrimSpace(value)
		t, err := h.openTarget(o, value)
		if err != nil {
			return whole, byLine, fmt.Errorf("cannot open %s_logfile: %w", o.Channel, err)
		}
		if t == nil {
			continue
		}
		if o.Format == "" && !needsLines(t) {
			whole = append(whole, t)
		} else {
			byLine = append(byLine, t)
		}
	}
	if o.Syslog {
		tag, prefix := h.ident, o.Program+" " // Supervisor's form
		if o.SyslogTag != "" {
			tag, prefix = o.SyslogTag, ""
		}
		t, err := h.openSyslog(o, "syslog", tag, prefix)
		if err != nil {
			return whole, byLine, fmt.Errorf("cannot open %s_syslog: %w", o.Channel, err)
		}
		byLine = append(byLine, t)
	}
	return whole, byLine, nil
}

// needsLines reports whether a target is shared in a way that a broken line would harm.
func needsLines(t target) bool {
	switch t.(type) {
	case *console, *syslogTarget:
		return true
	}
	return false
}

func releaseAll(ts []target) {
	for _, t := range ts {
		t.release()
	}
}
