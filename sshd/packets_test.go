package sshd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inpod/inpod/config"
	"golang.org/x/crypto/ssh"
)

// packets is a client of SFTP that sends whatever it likes.
type packets struct {
	t  *testing.T
	ch ssh.Channel
	id uint32
}

func str(s string) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...) }

func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// sftpAs begins as a virtual user, and returns the extensions that the server names.
func sftpAs(t *testing.T, s *server, user string) (*packets, []string) {
	t.Helper()
	key, err := ssh.ParsePrivateKey([]byte(read(t, s.key)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ssh.Dial("tcp", s.addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	if ok, err := ch.SendRequest("subsystem", true, str("sftp")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	p := &packets{t: t, ch: ch}
	_, _ = ch.Write(append(u32(5), 1, 0, 0, 0, 3))
	hello := p.receive()
	var names []string
	for b := hello[5:]; len(b) > 8; {
		n := binary.BigEndian.Uint32(b)
		names = append(names, string(b[4:4+n]))
		b = b[4+n:]
		b = b[4+binary.BigEndian.Uint32(b):]
	}
	return p, names
}

func (p *packets) receive() []byte {
	p.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(p.ch, size[:]); err != nil {
		p.t.Fatalf("the server has gone: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(p.ch, b); err != nil {
		p.t.Fatal(err)
	}
	return b
}

// ask sends a request and returns the answer.
func (p *packets) ask(kind byte, body ...[]byte) []byte {
	p.t.Helper()
	p.id++
	all := append([]byte{kind}, u32(p.id)...)
	for _, b := range body {
		all = append(all, b...)
	}
	if _, err := p.ch.Write(append(u32(uint32(len(all))), all...)); err != nil {
		p.t.Fatal(err)
	}
	answer := p.receive()
	if len(answer) < 5 || binary.BigEndian.Uint32(answer[1:]) != p.id {
		p.t.Fatalf("request of type %d: answer % x", kind, answer)
	}
	return answer
}

// snapshot is everything below dir: names, modes, owners, times and contents.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v %d %v", strings.TrimPrefix(path, dir), st.Mode(), st.Size(), st.ModTime().UnixNano())
		if st.Mode().IsRegular() {
			b.WriteString(" " + read(t, path))
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			target, _ := os.Readlink(path)
			b.WriteString(" -> " + target)
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// SFTP_VERSION's requests (draft-ietf-secsh-filexfer-02) go from 3 to 20, and 200 is an extension.
const (
	fxpOpen     = 3
	fxpOpendir  = 11
	fxpExtended = 200
	fxpHandle   = 102
)

// bodies are what any request could have after its number: names, handles, offsets, attributes of each kind.
func bodies(handles []string) [][]byte {
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	attrs := [][]byte{
		u32(0), join(u32(1), u64(1)), join(u32(2), u32(1), u32(1)), join(u32(4), u32(0o777)), join(u32(8), u32(1), u32(1)),
		join(u32(0xf), u64(0), u32(1), u32(1), u32(0o777), u32(1), u32(1)),
	}
	var list [][]byte
	for _, name := range []string{"f", "d", "d/g", "new", "link", ".", "empty", "../outside/secret", "/f", "out"} {
		list = append(list, str(name), join(str(name), str("other")), join(str("f"), str(name)), join(str(name), u32(1)))
		for _, a := range attrs {
			list = append(list, join(str(name), a))
		}
	}
	for _, h := range handles {
		list = append(list, str(h), join(str(h), u64(0), str("WRITTEN")), join(str(h), u64(0), u32(100)))
		for _, a := range attrs {
			list = append(list, join(str(h), a))
		}
		for _, to := range handles {
			list = append(list, join(str(h), u64(0), u64(0), str(to), u64(0)), join(str(h), u64(0), u64(3), str(to), u64(1)))
		}
	}
	return append(list, nil, []byte{0, 0}, u32(0xffffffff))
}

// Whatever is sent, read-only changes nothing: every type of packet, known or not, every extension that the server names
// and those that OpenSSH knows, each with every body, and every combination of flags of an open. Write-only tells nothing
// that is in a file, and no name that it was not told.
func TestEveryPacketHeedsTheAccess(t *testing.T) {
	conf := defaults(t)
	jail, outside := filepath.Join(conf.Etc, "jail"), filepath.Join(conf.Etc, "outside")
	for _, dir := range []string{jail, outside, jail + "/d", jail + "/empty"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{jail + "/f": "CONTENTS f", jail + "/d/g": "CONTENTS g", jail + "/d/unnamed": "x", outside + "/secret": "CONTENTS secret"} {
		write(t, path, text)
	}
	for link, target := range map[string]string{"link": "f", "out": outside} {
		if err := os.Symlink(target, filepath.Join(jail, link)); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{"read-only", "write-only", "read-write"} // the last one shows that the others are tried what can be done
	for _, access := range all {
		conf.SSH.Users = append(conf.SSH.Users, config.SSHUser{Name: access, Root: jail, Access: access, AuthorizedKeys: []string{conf.Etc + "/keys"}})
	}
	s := start(t, conf)
	for _, access := range all {
		t.Run(access, func(t *testing.T) {
			before := snapshot(t, jail) + snapshot(t, outside)
			p, extensions := sftpAs(t, s, access)
			n := everyPacket(t, p, extensions, access == "write-only")
			if after := snapshot(t, jail) + snapshot(t, outside); (access == "read-only") != (after == before) {
				t.Errorf("what has changed: before\n%s\nafter\n%s", before, after)
			}
			if read(t, outside+"/secret") != "CONTENTS secret" {
				t.Error("something outside has changed")
			}
			t.Logf("%d packets", n)
		})
	}
}

func everyPacket(t *testing.T, p *packets, extensions []string, blind bool) (n int) {
	t.Helper()
	ask := func(kind byte, body ...[]byte) []byte {
		n++
		answer := p.ask(kind, body...)
		for _, word := range []string{"CONTENTS", "unnamed"} {
			if blind && bytes.Contains(answer, []byte(word)) {
				t.Errorf("type %d with %q tells %q", kind, bytes.Join(body, nil), answer)
			}
		}
		if bytes.Contains(answer, []byte("CONTENTS secret")) {
			t.Errorf("type %d with %q tells what is outside", kind, bytes.Join(body, nil))
		}
		return answer
	}
	// What an open lets through is used below.
	var handles []string
	for _, name := range []string{"f", "d/g", "new", "link"} {
		for flags := range uint32(64) {
			answer := ask(fxpOpen, str(name), u32(flags), u32(4), u32(0o600))
			if answer[0] == fxpHandle && len(handles) < 4 {
				handles = append(handles, string(answer[9:]))
			} else if answer[0] == fxpHandle {
				ask(4, answer[5:]) // closed again
			}
		}
	}
	if answer := ask(fxpOpendir, str("d")); answer[0] == fxpHandle {
		handles = append(handles, string(answer[9:]))
	}
	all := bodies(handles)
	for kind := 3; kind < 256; kind++ {
		if kind == fxpExtended || kind == 4 || kind > 30 && kind%16 != 0 {
			continue // 4 closes what the others need; beyond those that there are, some will do
		}
		for _, body := range all {
			ask(byte(kind), body)
		}
	}
	known := []string{
		"posix-rename@openssh.com", "hardlink@openssh.com", "fsync@openssh.com", "lsetstat@openssh.com", "copy-data", "expand-path@openssh.com",
		"statvfs@openssh.com", "fstatvfs@openssh.com", "limits@openssh.com", "home-directory", "users-groups-by-id@openssh.com", "no-such-extension",
	}
	for _, name := range append(known, extensions...) {
		for _, body := range all {
			ask(fxpExtended, str(name), body)
		}
	}
	for _, body := range all {
		ask(4, body)
	}
	return n
}
