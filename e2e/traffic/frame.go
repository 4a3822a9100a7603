package traffic

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

// Opcodes of RFC 6455 section 5.2.
const (
	Continued = 0x0
	Text      = 0x1
	Binary    = 0x2
	Close     = 0x8
	Ping      = 0x9
	Pong      = 0xA
)

// Frame is one WebSocket frame. Bits is what stands in the first byte: FIN, the reserved bits and the opcode.
type Frame struct {
	Bits    byte
	Payload []byte
}

// Fin is the bit of a message's last frame.
const Fin = 0x80

// Opcode is the frame's opcode.
func (f Frame) Opcode() byte { return f.Bits & 0x0f }

// Append makes the bytes of the frame, masked as a client's must be.
func (f Frame) Append(to []byte, masked bool) []byte {
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	n := len(f.Payload)
	switch {
	case n < 126:
		to = append(to, f.Bits, bit|byte(n))
	case n < 1<<16:
		to = append(to, f.Bits, bit|126, byte(n>>8), byte(n))
	default:
		to = binary.BigEndian.AppendUint64(append(to, f.Bits, bit|127), uint64(n))
	}
	if !masked {
		return append(to, f.Payload...)
	}
	var key [4]byte
	binary.BigEndian.PutUint32(key[:], rand.Uint32())
	to = append(to, key[:]...)
	start := len(to)
	to = append(to, f.Payload...)
	for i := range f.Payload {
		to[start+i] ^= key[i%4]
	}
	return to
}

// ReadFrame reads a frame of either side. The error is io.EOF only between two frames.
func ReadFrame(r *bufio.Reader) (Frame, error) {
	var head [14]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return Frame{}, err
	}
	f := Frame{Bits: head[0]}
	n := uint64(head[1] & 0x7f)
	extra := map[uint64]int{126: 2, 127: 8}[n]
	masked := head[1]&0x80 != 0
	if masked {
		extra += 4
	}
	if _, err := io.ReadFull(r, head[2:2+extra]); err != nil {
		return f, inside(err)
	}
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		n = binary.BigEndian.Uint64(head[2:])
	}
	if n > 64<<20 {
		return f, fmt.Errorf("a frame of %d bytes", n)
	}
	f.Payload = make([]byte, n)
	if _, err := io.ReadFull(r, f.Payload); err != nil {
		return f, inside(err)
	}
	if masked {
		key := head[2+extra-4 : 2+extra]
		for i := range f.Payload {
			f.Payload[i] ^= key[i%4]
		}
	}
	return f, nil
}

func inside(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// CloseFrame is a close frame with a status code.
func CloseFrame(code int, reason string) Frame {
	return Frame{Fin | Close, append([]byte{byte(code >> 8), byte(code)}, reason...)}
}

// CloseCode is the code of a close frame; 1005 when there is none.
func (f Frame) CloseCode() int {
	if len(f.Payload) < 2 {
		return 1005
	}
	return int(f.Payload[0])<<8 | int(f.Payload[1])
}

// WebSocket is one side of an open connection.
type WebSocket struct {
	*net.TCPConn
	R      *bufio.Reader
	Resp   *http.Response // what the handshake brought; a client's only
	client bool
}

// Send writes frames with one write.
func (s *WebSocket) Send(frames ...Frame) error {
	var b []byte
	for _, f := range frames {
		b = f.Append(b, s.client)
	}
	_, err := s.Write(b)
	return err
}

// Dial opens a WebSocket. Where the server refuses, Resp is its answer, and the error says so. With early, what
// follows the handshake is sent together with it.
func Dial(addr, target, header string, early ...Frame) (*WebSocket, error) {
	nc, err := net.DialTimeout("tcp", addr, 30*time.Second)
	if err != nil {
		return nil, err
	}
	s := &WebSocket{TCPConn: nc.(*net.TCPConn), R: bufio.NewReaderSize(nc, 64<<10), client: true}
	_ = s.SetDeadline(time.Now().Add(30 * time.Second))
	key := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%016x", rand.Uint64()))
	b := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n", target, addr, key, header)
	for _, f := range early {
		b = f.Append(b, true)
	}
	if _, err := s.Write(b); err != nil {
		s.Close()
		return nil, err
	}
	s.Resp, err = http.ReadResponse(s.R, nil)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("no answer to the handshake: %w", err)
	}
	if s.Resp.StatusCode != http.StatusSwitchingProtocols {
		return s, fmt.Errorf("status %d (%s)", s.Resp.StatusCode, s.Resp.Header.Get("X-Inpod-Error"))
	}
	if got := s.Resp.Header.Get("Sec-WebSocket-Accept"); got != accept(key) {
		s.Close()
		return nil, fmt.Errorf("Sec-WebSocket-Accept is %q, want %q", got, accept(key))
	}
	_ = s.SetDeadline(time.Time{})
	return s, nil
}

// accept answers a handshake's key (RFC 6455 section 4.2.2).
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Accept answers the handshake of a request; the frames are sent together with the answer.
func Accept(c *net.TCPConn, br *bufio.Reader, req *http.Request, header string, first ...Frame) (*WebSocket, error) {
	b := fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Accept: %s\r\n%s\r\n", accept(req.Header.Get("Sec-WebSocket-Key")), header)
	for _, f := range first {
		b = f.Append(b, false)
	}
	_, err := c.Write(b)
	return &WebSocket{TCPConn: c, R: br}, err
}

// Upgrades tells whether a request asks for a WebSocket.
func Upgrades(req *http.Request) bool { return req.Header.Get("Sec-WebSocket-Key") != "" }
