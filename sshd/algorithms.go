package sshd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"
)

const serverVersion = "SSH-2.0-inpod"

// What is offered is what has no known weakness: no SHA-1, no CBC, no encrypt-and-MAC, no NIST curves for the key
// exchange. Strict key exchange (CVE-2023-48795) is the library's.

func kexAlgorithms() []string {
	return []string{
		ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, "curve25519-sha256@libssh.org", ssh.KeyExchangeDH16SHA512,
	}
}

func macAlgorithms() []string { return []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM} }

// macsFor are those for a client that identifies itself so. libssh2 before 1.11 (Debian 12's curl, PHP and libgit2) has no
// AES-GCM and no MAC of what is encrypted. To nobody else is encrypt-and-MAC offered.
func macsFor(client []byte) []string {
	if bytes.HasPrefix(client, []byte("SSH-2.0-libssh2_1.")) {
		return append(macAlgorithms(), ssh.HMACSHA256, ssh.HMACSHA512)
	}
	return macAlgorithms()
}

func userKeyAlgorithms() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
}

// allCiphers is for clients of which nothing better is known.
func allCiphers() []string {
	return []string{
		ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305,
		ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR,
	}
}

// ciphersFor picks the ciphers for a client that offers these. The client's order decides (RFC 4253, 7.1), and OpenSSH
// puts AES-GCM last, behind ChaCha20, which costs 2.3 times as much here, and AES-CTR with a MAC of its own. So a client
// that has AES-GCM is offered nothing else, where the processor knows AES.
func ciphersFor(offered []string) []string {
	gcm := []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}
	if fastAES() && slices.ContainsFunc(offered, func(c string) bool { return slices.Contains(gcm, c) }) {
		return gcm
	}
	return allCiphers()
}

func fastAES() bool { return cpu.X86.HasAES || cpu.ARM64.HasAES }

// offer is what a client may choose from, where that depends on the client.
type offer struct{ ciphers, macs []string }

// peekTime is how long the ciphers of a client are waited for.
const peekTime = 2 * time.Second

// greet exchanges identifications, and looks at what an OpenSSH client offers before anything is offered to it: it sends
// that without waiting for us. The connection that it returns replays what was read, and swallows the identification
// that the library would send again.
func greet(c net.Conn, deadline time.Time) (net.Conn, offer, error) {
	if _, err := c.Write([]byte(serverVersion + "\r\n")); err != nil {
		return nil, offer{}, err
	}
	r := bufio.NewReaderSize(c, 8<<10)
	g := &greeted{Conn: c, r: r, skip: len(serverVersion) + 2}
	line, err := peekLine(r)
	if err != nil {
		return nil, offer{}, err
	}
	if !bytes.HasPrefix(line, []byte("SSH-2.0-OpenSSH_")) {
		return g, offer{allCiphers(), macsFor(line)}, nil
	}
	if soon := time.Now().Add(peekTime); soon.Before(deadline) {
		_ = c.SetReadDeadline(soon)
		defer func() { _ = c.SetReadDeadline(deadline) }()
	}
	return g, offer{ciphersFor(peekCiphers(r, len(line))), macAlgorithms()}, nil
}

// peekLine returns the client's first line with its end, and leaves it in r.
func peekLine(r *bufio.Reader) ([]byte, error) {
	const most = 255 // RFC 4253, 4.2
	for n := 1; ; n = r.Buffered() + 1 {
		b, err := r.Peek(min(n, most))
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			return b[:i+1], nil
		}
		if err != nil || len(b) == most {
			return b, err // the library says what is wrong
		}
	}
}

// peekCiphers reads the ciphers from client to server in the KEXINIT behind the first skip bytes (RFC 4253, 6 and 7.1); nil
// when that does not come, or is something else.
func peekCiphers(r *bufio.Reader, skip int) []string {
	const head, cookie = 6, 16 // length, padding and message number; random bytes
	b, err := r.Peek(skip + head)
	if err != nil {
		return nil
	}
	length := int(binary.BigEndian.Uint32(b[skip:]))
	const kexInit = 20
	if b[skip+5] != kexInit || length < head-4 || length > 7<<10 {
		return nil
	}
	if b, err = r.Peek(skip + 4 + length); err != nil {
		return nil
	}
	b = b[skip+head:]
	if len(b) < cookie {
		return nil
	}
	b = b[cookie:]
	const before = 2 // lists: key exchange, host keys
	for i := 0; ; i++ {
		if len(b) < 4 {
			return nil
		}
		n := binary.BigEndian.Uint32(b)
		if b = b[4:]; uint64(n) > uint64(len(b)) {
			return nil
		}
		if i == before {
			return strings.Split(string(b[:n]), ",")
		}
		b = b[n:]
	}
}

// greeted is a connection whose identifications have been exchanged.
type greeted struct {
	net.Conn
	r    *bufio.Reader
	skip int // bytes of our identification that are still to be swallowed
}

// Read implements net.Conn.
func (g *greeted) Read(b []byte) (int, error) {
	if g.r == nil {
		return g.Conn.Read(b)
	}
	n, err := g.r.Read(b)
	if g.r.Buffered() == 0 {
		g.r = nil
	}
	return n, err
}

// Write implements net.Conn.
func (g *greeted) Write(b []byte) (int, error) {
	k := min(g.skip, len(b))
	g.skip -= k
	if k == len(b) {
		return k, nil
	}
	n, err := g.Conn.Write(b[k:])
	return k + n, err
}
