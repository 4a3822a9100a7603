package output

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// The errors of ReadFile; Supervisor's faults of the same names.
var (
	ErrBadArguments = errors.New("bad arguments")
	ErrFailed       = errors.New("failed")
)

// maxAnswer bounds one answer of ReadFile: a log of gigabytes must not be held in memory to be read.
const maxAnswer = 64 << 20

// ReadFile reads length bytes at offset, to the end when length is 0. A negative offset with length 0 reads that many
// bytes at the end. It is Supervisor's readFile: a negative length, or a length with a negative offset, is
// ErrBadArguments, and a file that cannot be read is ErrFailed. One answer holds 64 MiB at most.
func ReadFile(path string, offset, length int64) ([]byte, error) {
	if (offset < 0 && length != 0) || length < 0 || offset == math.MinInt64 {
		return nil, ErrBadArguments
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	defer f.Close()
	if offset < 0 {
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFailed, err)
		}
		length = -offset
		offset = max(0, size+offset)
	}
	if length == 0 || length > maxAnswer {
		length = maxAnswer
	}
	data, err := io.ReadAll(io.NewSectionReader(f, offset, length))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return data, nil
}

// TailFile reads at most length bytes from offset on, as Supervisor's tailFile does: when the file has more than that,
// overflow is set and only the end is read. next is the size of the file. A file that cannot be read is as an empty one.
func TailFile(path string, offset, length int64) (data []byte, next int64, overflow bool) {
	f, err := os.Open(path)
	if err != nil {
		return nil, offset, false
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, offset, false
	}
	// Big numbers must not wrap around.
	offset, length = clamp(offset), clamp(length)
	if size > offset+length {
		overflow, offset = true, size-1
	}
	if offset+length > size {
		if offset > size-1 {
			length = 0
		}
		offset = size - length
	}
	offset, length = max(0, offset), max(0, length)
	if length == 0 {
		return nil, size, overflow
	}
	data, err = io.ReadAll(io.NewSectionReader(f, offset, min(length, maxAnswer)))
	if err != nil {
		return nil, offset, false
	}
	return data, size, overflow
}

func clamp(n int64) int64 { return max(-math.MaxInt64/4, min(n, math.MaxInt64/4)) }
