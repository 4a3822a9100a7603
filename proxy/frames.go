package proxy

import "encoding/binary"

// closeGoingAway is an unmasked Close frame with the code 1001 (RFC 6455 sections 5.5.1 and 7.4.1).
var closeGoingAway = []byte{0x88, 2, 1001 >> 8, 1001 & 0xff}

const opClose = 8

// frames follows the frames of one direction of a WebSocket (RFC 6455 section 5.2) without touching them, to know where
// one ends.
type frames struct {
	head     [14]byte
	have     int    // bytes of head
	payload  uint64 // bytes of the payload that are still to come
	sawClose bool
}

// boundary tells whether a frame has just ended, or none has begun.
func (f *frames) boundary() bool { return f.have == 0 && f.payload == 0 }

// advance takes data into account, all of it, or with stop only up to the next boundary; it returns how much that was.
func (f *frames) advance(data []byte, stop bool) int {
	at := 0
	for at < len(data) {
		if stop && f.boundary() {
			break
		}
		if f.payload > 0 {
			n := min(uint64(len(data)-at), f.payload)
			f.payload -= n
			at += int(n)
			continue
		}
		f.head[f.have] = data[at]
		f.have++
		at++
		if n, whole := f.length(); whole {
			f.sawClose = f.sawClose || f.head[0]&0x0f == opClose
			f.have, f.payload = 0, n
		}
	}
	return at
}

// length is the payload's length when the head is whole.
func (f *frames) length() (uint64, bool) {
	if f.have < 2 {
		return 0, false
	}
	need, n := 2, uint64(f.head[1]&0x7f)
	switch n {
	case 126:
		need = 4
	case 127:
		need = 10
	}
	whole := need
	if f.head[1]&0x80 != 0 {
		whole += 4 // the mask
	}
	if f.have < whole {
		return 0, false
	}
	switch need {
	case 4:
		n = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 10:
		n = binary.BigEndian.Uint64(f.head[2:])
	}
	return n, true
}
