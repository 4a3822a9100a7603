package sftp

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// The status codes of version 3.
const (
	statusOK          = 0
	statusEOF         = 1
	statusNoFile      = 2
	statusDenied      = 3
	statusFailure     = 4
	statusBadMessage  = 5
	statusUnsupported = 8
)

var (
	errHandle      = errors.New("there is no such handle")
	errTooMany     = errors.New("too many open handles")
	errUnsupported = errors.New("this request is not supported")
)

// status says what an error is to the client: a code, and a sentence for who reads it. The codes are OpenSSH's; the
// sentence is ours, because most failures have no code.
func status(err error) (code uint32, text string) {
	if err == nil {
		return statusOK, "Success"
	}
	if err == io.EOF { //nolint:errorlint // a file's end is returned bare; a wrapped one is a fault
		return statusEOF, "End of file"
	}
	code = statusFailure
	var no syscall.Errno
	switch {
	case errors.Is(err, errShort):
		code = statusBadMessage
	case errors.Is(err, errUnsupported):
		code = statusUnsupported
	case errors.As(err, &no):
		switch no {
		case syscall.ENOENT, syscall.ENOTDIR, syscall.EBADF, syscall.ELOOP:
			code = statusNoFile
		case syscall.EPERM, syscall.EACCES, syscall.EFAULT, syscall.EROFS: // the last is a mere failure to OpenSSH, and says nothing to its users
			code = statusDenied
		case syscall.ENAMETOOLONG, syscall.EINVAL:
			code = statusBadMessage
		case syscall.ENOSYS, syscall.EOPNOTSUPP:
			code = statusUnsupported
		}
	}
	return code, sentence(err, no)
}

// sentence is the error as people read it; the names in it are the session's.
func sentence(err error, no syscall.Errno) string {
	var pe *fs.PathError
	if !errors.As(err, &pe) {
		return err.Error()
	}
	why := pe.Err.Error()
	switch no {
	case syscall.EDQUOT:
		why = "the quota is used up"
	case syscall.ENOSYS, syscall.EOPNOTSUPP:
		why = "the file system does not support it"
	case syscall.EXDEV:
		why = "the two are on different file systems"
	}
	return "cannot " + pe.Op + " " + pe.Path + ": " + why
}
