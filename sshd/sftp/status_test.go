package sftp

import (
	"io"
	"io/fs"
	"syscall"
	"testing"
)

// What a file system cannot do is told as that: object stores cannot rename, or remove, or write in the middle.
func TestStatus(t *testing.T) {
	at := func(op string, err error) error { return &fs.PathError{Op: op, Path: "/data/x", Err: err} }
	for _, test := range []struct {
		err  error
		code uint32
		text string
	}{
		{nil, statusOK, "Success"},
		{io.EOF, statusEOF, "End of file"},
		{at("open", syscall.ENOENT), statusNoFile, "cannot open /data/x: no such file or directory"},
		{at("remove", syscall.EACCES), statusDenied, "cannot remove /data/x: permission denied"},
		{at("remove", syscall.EROFS), statusDenied, "cannot remove /data/x: read-only file system"},
		{at("rename", syscall.ENOSYS), statusUnsupported, "cannot rename /data/x: the file system does not support it"},
		{at("remove", syscall.EOPNOTSUPP), statusUnsupported, "cannot remove /data/x: the file system does not support it"},
		{at("rename", syscall.EXDEV), statusFailure, "cannot rename /data/x: the two are on different file systems"},
		{at("write", syscall.ENOSPC), statusFailure, "cannot write /data/x: no space left on device"},
		{at("write", syscall.EDQUOT), statusFailure, "cannot write /data/x: the quota is used up"},
		{at("write", syscall.EIO), statusFailure, "cannot write /data/x: input/output error"},
		{at("rename", syscall.EEXIST), statusFailure, "cannot rename /data/x: file exists"},
		{errHandle, statusFailure, "there is no such handle"},
		{errUnsupported, statusUnsupported, "this request is not supported"},
	} {
		if code, text := status(test.err); code != test.code || text != test.text {
			t.Errorf("status(%v) = %d %q, want %d %q", test.err, code, text, test.code, test.text)
		}
	}
}
