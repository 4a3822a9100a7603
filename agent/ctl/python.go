package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"syscall"
	"unicode"
)

// errorText words an unforeseen error as supervisorctl does, class first: scripts look for
// "error: <class 'xmlrpc.client.Fault'>, <Fault 6: 'SHUTDOWN_STATE'>". The place in Python's own
// source that follows there has no meaning here and is left out.
func errorText(err error) string {
	class, text := pyError(err)
	return fmt.Sprintf("error: <class '%s'>, %s", class, text)
}

func pyError(err error) (class, text string) {
	var (
		fault *Fault
		proto *HTTPError
		url   *URLError
		value *valueError
		dns   *net.DNSError
		errno syscall.Errno
	)
	switch {
	case errors.As(err, &fault):
		return "xmlrpc.client.Fault", fault.Error()
	case errors.As(err, &proto):
		return "xmlrpc.client.ProtocolError", proto.Error()
	case errors.As(err, &url):
		return "ValueError", url.Error()
	case errors.As(err, &value):
		return value.class, value.text
	case errors.As(err, &dns):
		return "socket.gaierror", "[Errno -2] Name or service not known"
	case errors.As(err, &errno):
		return errnoClass(errno), fmt.Sprintf("[Errno %d] %s", int(errno), capital(errno.Error()))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "http.client.RemoteDisconnected", "Remote end closed connection without response"
	case errors.Is(err, context.DeadlineExceeded):
		return "TimeoutError", "timed out"
	}
	return "OSError", err.Error()
}

// valueError is a mistake that Python finds while it builds the call.
type valueError struct{ class, text string }

func (e *valueError) Error() string { return e.text }

func errnoClass(errno syscall.Errno) string {
	switch errno {
	case syscall.ENOENT:
		return "FileNotFoundError"
	case syscall.ECONNREFUSED:
		return "ConnectionRefusedError"
	case syscall.ECONNRESET:
		return "ConnectionResetError"
	case syscall.EPIPE:
		return "BrokenPipeError"
	case syscall.EACCES, syscall.EPERM:
		return "PermissionError"
	case syscall.ETIMEDOUT:
		return "TimeoutError"
	}
	return "OSError"
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// pyRepr quotes s as Python's repr does: single quotes unless only they occur inside.
func pyRepr(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteByte(quote)
	for _, r := range s {
		switch {
		case r == rune(quote), r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte(quote)
	return b.String()
}

// parseBytes reads the N of tail -N as Python's int() does, underscores and sign included. ok is
// false for what is no number; a number that XML-RPC cannot carry is an error of its own.
func parseBytes(s string) (n int, ok bool, err error) {
	if s == "" || strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
		return 0, false, nil
	}
	v, perr := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 10, 64)
	if perr != nil && !errors.Is(perr, strconv.ErrRange) {
		return 0, false, nil
	}
	if perr != nil || v > math.MaxInt32+1 || v < -math.MaxInt32 {
		return 0, true, &valueError{"OverflowError", "int exceeds XML-RPC limits"}
	}
	return int(v), true, nil
}
