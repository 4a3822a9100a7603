package output

import "bytes"

// maxLine is where a line is cut when its newline does not come.
const maxLine = 64 << 10

// lineCutter turns pieces into whole lines and holds back, within bounds, what has no newline yet.
type lineCutter struct {
	held []byte
}

func (c *lineCutter) pending() bool { return len(c.held) > 0 }

// feed calls emit with blocks of whole lines, and with a line that is too long in parts.
func (c *lineCutter) feed(data []byte, emit func(block []byte, partial bool)) {
	if len(c.held) > 0 {
		nl := bytes.IndexByte(data, '\n')
		end := nl + 1
		if nl < 0 {
			end = len(data)
		}
		for len(c.held)+end > maxLine {
			n := maxLine - len(c.held)
			c.held = append(c.held, data[:n]...)
			data, end = data[n:], end-n
			emit(c.held, true)
			c.held = c.held[:0]
		}
		if end > 0 && (nl >= 0 || len(c.held) > 0) {
			c.held = append(c.held, data[:end]...)
			data = data[end:]
			if nl < 0 {
				return
			}
			emit(c.held, false)
			c.held = nil
		}
	}
	if last := bytes.LastIndexByte(data, '\n'); last >= 0 {
		emit(data[:last+1], false)
		data = data[last+1:]
	}
	for len(data) > maxLine {
		emit(data[:maxLine], true)
		data = data[maxLine:]
	}
	if len(data) > 0 {
		c.held = append(c.held[:0], data...)
	} else {
		c.held = nil
	}
}

// flush lets the unfinished line out.
func (c *lineCutter) flush(emit func(block []byte, partial bool), partial bool) {
	if len(c.held) > 0 {
		emit(c.held, partial)
		c.held = nil
	}
}
