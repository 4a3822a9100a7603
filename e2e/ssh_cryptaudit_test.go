package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

// auditReport is what ssh-audit -j writes of a server.
type auditReport struct {
	Enc, MAC    []string
	Compression []string
	Kex, Key    []struct{ Algorithm string }
}

// TestSSHCryptography has Debian's ssh-audit look at the server: as it is, and in the name of a client of another make, which is offered
// more. Nothing is bad and nothing is doubtful, but for what is newer than the tool.
func TestSSHCryptography(t *testing.T) {
	t.Parallel()
	s := prepareSSH(t, "")
	s.write("keys", s.read(t, s.key+".pub"))
	// The host keys are the agent's own here.
	for _, suffix := range []string{"", ".pub"} {
		if err := os.Remove(s.path("host/ssh_host_rsa_key" + suffix)); err != nil {
			t.Fatal(err)
		}
	}
	s.bin = bins.Inpod // the race detector is slow to find primes
	s.begin(t)
	if !s.says(`"made a host key"`, "ed25519") || !s.says(`"made a host key"`, "rsa") {
		t.Fatal("the agent does not serve ssh")
	}
	gcm := []string{"aes128-gcm@openssh.com", "aes256-gcm@openssh.com"}
	all := append(slices.Clone(gcm), "chacha20-poly1305@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
	if cpu, err := os.ReadFile("/proc/cpuinfo"); err == nil && !strings.Contains(string(cpu), " aes ") {
		gcm = all // nobody is kept from ChaCha20
	}
	t.Run("OpenSSH", func(t *testing.T) { t.Parallel(); cryptAudit(t, s, "127.0.0.1:"+s.port, gcm) })
	t.Run("another client", func(t *testing.T) {
		t.Parallel()
		cryptAudit(t, s, renamed(t, "SSH-2.0-another_1.0", "127.0.0.1:"+s.port), all)
	})
}

func cryptAudit(t *testing.T, s *sshSide, address string, ciphers []string) {
	report := func() (r auditReport) {
		t.Helper()
		e := s.run(t, "", "ssh-audit", "-j", "-t", "60", address)
		if err := json.Unmarshal([]byte(e.out), &r); err != nil {
			t.Fatalf("%v: %+v", err, e)
		}
		slices.Sort(r.Enc)
		return r
	}
	r := report()
	// A client that says nothing for two seconds, as it may on a busy machine, is offered every cipher.
	for try := 0; try < 4 && !slices.Equal(r.Enc, slices.Sorted(slices.Values(ciphers))); try++ {
		r = report()
	}
	names := func(list []struct{ Algorithm string }) (out []string) {
		for _, a := range list {
			out = append(out, a.Algorithm)
		}
		return out
	}
	for _, list := range []struct {
		name      string
		got, want []string
	}{
		{"key exchange", names(r.Kex), []string{
			"mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org", "diffie-hellman-group16-sha512",
			"kex-strict-s-v00@openssh.com",
		}},
		{"host keys", names(r.Key), []string{"ssh-ed25519", "rsa-sha2-256", "rsa-sha2-512"}},
		{"ciphers", r.Enc, ciphers},
		{"MACs", r.MAC, []string{"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"}},
		{"compression", r.Compression, []string{"none"}},
	} {
		if slices.Sort(list.got); !slices.Equal(list.got, slices.Sorted(slices.Values(list.want))) {
			t.Errorf("%s: got %q, want %q", list.name, list.got, list.want)
		}
	}
	text := s.run(t, "", "ssh-audit", "-n", "-t", "60", "-l", "warn", address)
	seen := 0
	for line := range strings.Lines(text.out) {
		if !strings.Contains(line, "[fail]") && !strings.Contains(line, "[warn]") {
			continue
		}
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && (f[1] == "mlkem768x25519-sha256" || f[1] == "kex-strict-s-v00@openssh.com") && strings.Contains(line, "unknown algorithm"):
			seen++ // newer than Debian 12's ssh-audit
		case strings.Contains(line, "post-quantum"):
			// From 3.3 on it warns of whatever else than ML-KEM is offered; clients of Debian 12 have nothing newer.
		default:
			t.Errorf("ssh-audit says: %s", line)
		}
	}
	if text.code != 0 && seen == 0 && !strings.Contains(text.out, "post-quantum") {
		t.Errorf("%+v", text)
	}
}

// renamed is an address that leads to another, on the way to which each client gets another identification.
func renamed(t *testing.T, name, address string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				to, err := net.Dial("tcp", address)
				if err != nil {
					return
				}
				defer to.Close()
				go func() { _, _ = io.Copy(c, to); c.Close() }()
				r := bufio.NewReader(c)
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				if _, err := io.WriteString(to, name+"\r\n"); err == nil {
					_, _ = io.Copy(to, r)
				}
			}()
		}
	}()
	return ln.Addr().String()
}
