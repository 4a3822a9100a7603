package output

import "bytes"

// ansiStripper removes ANSI escape sequences as Supervisor's stripEscapes does (ESC [ up to a terminating letter).
// Unlike there, a sequence may lie across two reads.
type ansiStripper struct {
	esc    bool // the last piece ended with ESC
	inside bool // the last piece ended inside a sequence
	out    []byte
}

const ansiTerminators = "HfABCDRsuJKhlpm"

// strip returns data without sequences, valid until the next call.
func (a *ansiStripper) strip(data []byte) []byte {
	if !a.esc && !a.inside && bytes.IndexByte(data, 0x1b) < 0 {
		return data
	}
	out := a.out[:0]
	if a.esc && len(data) > 0 {
		a.esc = false
		if data[0] == '[' {
			a.inside, data = true, data[1:]
		} else {
			out = append(out, 0x1b)
		}
	}
	for len(data) > 0 {
		if a.inside {
			end := bytes.IndexAny(data, ansiTerminators)
			if end < 0 {
				break
			}
			a.inside, data = false, data[end+1:]
			continue
		}
		i := bytes.IndexByte(data, 0x1b)
		switch {
		case i < 0:
			out, data = append(out, data...), nil
		case i == len(data)-1:
			out, data, a.esc = append(out, data[:i]...), nil, true
		case data[i+1] == '[':
			out, data, a.inside = append(out, data[:i]...), data[i+2:], true
		default:
			out, data = append(out, data[:i+1]...), data[i+1:]
		}
	}
	if cap(out) > largePiece/4 {
		a.out = nil
	} else {
		a.out = out
	}
	return out
}
