//go:build images

package images

import (
	"bufio"
	"crypto/des"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"io"
	"math/bits"
	"net"
)

// vnc is a connection to a VNC server, RFC 6143.
type vnc struct {
	net.Conn
	r             *bufio.Reader
	name          string
	width, height int
}

// openVNC shakes hands and logs in with the password, by VNC Authentication.
func openVNC(c net.Conn, password string) (*vnc, error) {
	v := &vnc{Conn: c, r: bufio.NewReaderSize(c, 1<<20)}
	version := make([]byte, 12)
	if _, err := io.ReadFull(v.r, version); err != nil || string(version) != "RFB 003.008\n" {
		return nil, fmt.Errorf("got %q as the version: %w", version, err)
	}
	if _, err := c.Write(version); err != nil {
		return nil, err
	}
	n, err := v.r.ReadByte()
	if err != nil {
		return nil, err
	}
	kinds := make([]byte, n)
	if _, err := io.ReadFull(v.r, kinds); err != nil {
		return nil, err
	}
	if len(kinds) != 1 || kinds[0] != 2 {
		return nil, fmt.Errorf("the server offers the security types %v, want VNC Authentication (2) alone", kinds)
	}
	challenge := make([]byte, 16)
	if _, err := c.Write([]byte{2}); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(v.r, challenge); err != nil {
		return nil, err
	}
	// The key is the password, 8 bytes of it, each with its bits turned round.
	var key [8]byte
	for i := range min(len(password), len(key)) {
		key[i] = bits.Reverse8(password[i])
	}
	block, err := des.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	block.Encrypt(challenge[:8], challenge[:8])
	block.Encrypt(challenge[8:], challenge[8:])
	if _, err := c.Write(challenge); err != nil {
		return nil, err
	}
	var result uint32
	if err := binary.Read(v.r, binary.BigEndian, &result); err != nil {
		return nil, err
	}
	if result != 0 {
		reason := make([]byte, 4)
		_, _ = io.ReadFull(v.r, reason)
		text := make([]byte, min(binary.BigEndian.Uint32(reason), 1000))
		_, _ = io.ReadFull(v.r, text)
		return nil, fmt.Errorf("refused: %s", text)
	}
	return v, v.begin()
}

// begin shares the display and asks for pixels as they are: 32 bits, blue first.
func (v *vnc) begin() error {
	if _, err := v.Write([]byte{1}); err != nil {
		return err
	}
	var head struct {
		Width, Height uint16
		Format        [16]byte
		Name          uint32
	}
	if err := binary.Read(v.r, binary.BigEndian, &head); err != nil {
		return err
	}
	name := make([]byte, min(head.Name, 1000))
	if _, err := io.ReadFull(v.r, name); err != nil {
		return err
	}
	v.name, v.width, v.height = string(name), int(head.Width), int(head.Height)
	format := []byte{0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0}
	encodings := []byte{2, 0, 0, 1, 0, 0, 0, 0} // raw alone
	_, err := v.Write(append(format, encodings...))
	return err
}

// picture reads the whole display.
func (v *vnc) picture() (image.Image, error) {
	request := []byte{3, 0, 0, 0, 0, 0}
	request = binary.BigEndian.AppendUint16(request, uint16(v.width))
	request = binary.BigEndian.AppendUint16(request, uint16(v.height))
	if _, err := v.Write(request); err != nil {
		return nil, err
	}
	screen := image.NewRGBA(image.Rect(0, 0, v.width, v.height))
	for missing := v.width * v.height; missing > 0; {
		var update struct {
			Kind, Padding uint8
			Rectangles    uint16
		}
		if err := binary.Read(v.r, binary.BigEndian, &update); err != nil {
			return nil, err
		}
		if update.Kind != 0 {
			return nil, fmt.Errorf("the server sent a message of kind %d", update.Kind)
		}
		for range update.Rectangles {
			var at struct {
				X, Y, Width, Height uint16
				Encoding            int32
			}
			if err := binary.Read(v.r, binary.BigEndian, &at); err != nil {
				return nil, err
			}
			row := make([]byte, 4*int(at.Width))
			for y := range int(at.Height) {
				if _, err := io.ReadFull(v.r, row); err != nil {
					return nil, err
				}
				for x := range int(at.Width) {
					p := row[4*x:]
					screen.SetRGBA(int(at.X)+x, int(at.Y)+y, color.RGBA{R: p[2], G: p[1], B: p[0], A: 255})
				}
			}
			missing -= int(at.Width) * int(at.Height)
		}
	}
	return screen, nil
}
