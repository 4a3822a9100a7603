package proc

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// What can be wrong with a command. Supervisor tells them apart too (NotFound, NotExecutable, NoPermission).
var (
	ErrNotFound      = errors.New("not found")
	ErrIsDirectory   = errors.New("is a directory")
	ErrNotExecutable = errors.New("not executable")
	ErrNoPermission  = errors.New("no permission")
)

// LookError is what LookPath returns; errors.Is finds the sentinel it holds. Its text is Supervisor's, which
// users see in `supervisorctl status`.
type LookError struct {
	File string
	Err  error // ErrNotFound, ErrIsDirectory, ErrNotExecutable or ErrNoPermission
}

func (e *LookError) Error() string {
	switch e.Err {
	case ErrIsDirectory:
		return "command at " + quote(e.File) + " is a directory"
	case ErrNotExecutable:
		return "command at " + quote(e.File) + " is not executable"
	case ErrNoPermission:
		return "no permission to run command " + quote(e.File)
	}
	return "can't find command " + quote(e.File)
}

func (e *LookError) Unwrap() error { return e.Err }

// LookPath finds the file that the command name means, as Supervisor does: a name with a slash is taken as it is,
// any other is the first that exists in the colon-separated directories of path, which must then be executable.
func LookPath(name, path string) (string, error) {
	if name == "" {
		return "", &LookError{name, ErrNotFound}
	}
	if strings.Contains(name, "/") {
		return name, checkFile(name)
	}
	for dir := range strings.SplitSeq(path, ":") {
		file := name
		if dir != "" {
			file = strings.TrimSuffix(dir, "/") + "/" + name
		}
		if _, err := os.Stat(file); err == nil {
			return file, checkFile(file)
		}
	}
	return "", &LookError{name, ErrNotFound}
}

// PathOf is the last PATH of an environment, "" where there is none.
func PathOf(env []string) string {
	path := ""
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = value
		}
	}
	return path
}

func checkFile(file string) error {
	st, err := os.Stat(file)
	switch {
	case err != nil:
		return &LookError{file, ErrNotFound}
	case st.IsDir():
		return &LookError{file, ErrIsDirectory}
	case st.Mode()&0o111 == 0:
		return &LookError{file, ErrNotExecutable}
	case unix.Access(file, unix.X_OK) != nil:
		return &LookError{file, ErrNoPermission}
	}
	return nil
}

// quote writes s as Python's repr does for ordinary text.
func quote(s string) string {
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		return `"` + s + `"`
	}
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`) + "'"
}
