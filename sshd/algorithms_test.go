package sshd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// What OpenSSH gets, with its own order and with one that a user forces.
func TestCipherOfTheClient(t *testing.T) {
	if !fastAES() {
		t.Log("this processor does not know AES: ChaCha20 is right")
		return
	}
	s := start(t, defaults(t))
	for _, tt := range []struct{ option, want string }{
		{"", ssh.CipherAES128GCM},
		{"chacha20-poly1305@openssh.com", ssh.CipherChaCha20Poly1305},
		{"aes256-ctr", ssh.CipherAES256CTR},
		{"chacha20-poly1305@openssh.com,aes256-gcm@openssh.com", ssh.CipherAES256GCM},
	} {
		args := []string{"-o", "LogLevel=DEBUG1"} // the first one counts
		if tt.option != "" {
			args = append(args, "-c", tt.option)
		}
		argv := append(append(args, s.options()...), "-p", s.port(), "-l", me(), "127.0.0.1", "true")
		var out []byte
		var err error
		// A client that says nothing for peekTime, as it may on a busy machine, is offered everything.
		for try := 0; try < 5 && !strings.Contains(string(out), "server->client cipher: "+tt.want); try++ {
			if out, err = exec.Command("ssh", argv...).CombinedOutput(); err != nil {
				break
			}
		}
		if err != nil || !strings.Contains(string(out), "server->client cipher: "+tt.want) {
			t.Errorf("%q: %v, want %s in\n%s", tt.option, err, tt.want, out)
		}
	}
}

// kexInit is a packet with these ciphers.
func kexInit(ciphers string) []byte {
	b := append([]byte{4, 20}, make([]byte, 16)...)
	for _, list := range []string{"kex", "keys", ciphers, ciphers} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		b = append(b, list...)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func TestPeekCiphers(t *testing.T) {
	const line = "SSH-2.0-OpenSSH_9\r\n"
	for _, tt := range []struct {
		name string
		data []byte
		want []string
	}{
		{"two", kexInit("a,b"), []string{"a", "b"}},
		{"cut off", kexInit("a,b")[:20], nil},
		{"another message", append([]byte{0, 0, 0, 8, 4, 21}, make([]byte, 10)...), nil},
		{"too long", []byte{0xff, 0xff, 0xff, 0xff, 4, 20}, nil},
		{"shorter than its head", []byte{0, 0, 0, 0, 4, 20, 0, 0}, nil},
		{"nothing", nil, nil},
		{"a list that is longer than the packet", append([]byte{0, 0, 0, 26, 4, 20}, bytes.Repeat([]byte{0xff}, 24)...), nil},
	} {
		r := bufio.NewReaderSize(bytes.NewReader(append([]byte(line), tt.data...)), 8<<10)
		first, err := peekLine(r)
		if err != nil || string(first) != line {
			t.Fatalf("%s: line %q, %v", tt.name, first, err)
		}
		if got := peekCiphers(r, len(first)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzPeekCiphers(f *testing.F) {
	f.Add(kexInit("aes128-gcm@openssh.com"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), 8<<10)
		line, _ := peekLine(r)
		peekCiphers(r, len(line))
	})
}

func FuzzParseKeys(f *testing.F) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGv0RxbJ3bLmvD0u7q1m6s1o0cB1qC1bqY8mJ3g5J2kz me"
	f.Add([]byte(key))
	f.Add([]byte(`restrict,command="echo \"a b\"",from="10.0.0.0/8,!10.1.*",expiry-time="20300101Z" ` + key))
	f.Add([]byte(`permitopen="a:1",permitlisten="1",environment="A=b",principals="x,y",cert-authority ` + key + "\n#\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parseKeys(data, func(int, error) {}, func(k ssh.PublicKey, g *grant) {
			if k == nil || g == nil {
				t.Error("a key without a grant")
			}
		})
	})
}

// Encrypt-and-MAC is for those who have nothing else, and for nobody else.
func TestMACsOfTheClient(t *testing.T) {
	for client, want := range map[string]int{
		"SSH-2.0-libssh2_1.10.0\r\n": 4, "SSH-2.0-OpenSSH_9.2p1\r\n": 2, "SSH-2.0-dropbear_2022.83\r\n": 2, "SSH-2.0-": 2, "": 2,
	} {
		if got := macsFor([]byte(client)); len(got) != want {
			t.Errorf("%q: got %q, want %d", client, got, want)
		}
	}
}
