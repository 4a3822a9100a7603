package sshd

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ssh"
)

// A certificate allows nothing that the line of its authority does not, and an option that is there but empty is there.
func TestCertificateUnderItsLine(t *testing.T) {
	conf := defaults(t)
	dir := conf.Etc
	ca := keygen(t, dir, "ca")
	pub := strings.TrimSpace(read(t, ca+".pub"))
	s := start(t, conf)
	for _, tt := range []struct {
		name  string
		lines []string // the options of each line of the authority
		args  []string // of ssh-keygen
		out   string
		code  int
	}{
		{"nothing said", []string{"cert-authority"}, nil, "in\n", 0},
		{"forced by the line", []string{`cert-authority,command="echo line"`}, nil, "line\n", 0},
		{"forced by both alike", []string{`cert-authority,command="echo both"`}, []string{"-O", "force-command=echo both"}, "both\n", 0},
		{"forced by both", []string{`cert-authority,command="echo line"`}, []string{"-O", "force-command=echo cert"}, "", 255},
		{"forced by the line to nothing", []string{`cert-authority,command=""`}, []string{"-O", "force-command=echo cert"}, "", 255},
		{"forced to nothing", []string{`cert-authority,command=""`}, nil, "", 0},
		{"from nowhere", []string{`cert-authority,from=""`}, nil, "", 255},
		{"the second line", []string{`cert-authority,principals="x"`, `cert-authority,principals="` + me() + `",command="echo 2"`}, nil, "2\n", 0},
		{"no line", []string{`cert-authority,principals="x"`, `cert-authority,principals="y"`}, nil, "", 255},
	} {
		text := ""
		for _, options := range tt.lines {
			text += options + " " + pub + "\n"
		}
		write(t, dir+"/keys", text)
		args := append([]string{"-q", "-s", ca, "-I", "the key", "-n", me()}, tt.args...)
		if out, err := exec.Command("ssh-keygen", append(args, s.key+".pub")...).CombinedOutput(); err != nil {
			t.Fatalf("%s: ssh-keygen: %v\n%s", tt.name, err, out)
		}
		out, errs, code := s.run("", "-o", "CertificateFile="+s.key+"-cert.pub", "--", "echo in")
		if out != tt.out || code != tt.code {
			t.Errorf("%s: output %q, status %d; want %q, %d (%s)", tt.name, out, code, tt.out, tt.code, errs)
		}
	}
}

// The same of source-address, of force-command, which ssh-keygen does not make empty, and of the touch of a hardware key.
func TestNarrowed(t *testing.T) {
	ca, key := newSigner(t), newSigner(t)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(ca.PublicKey())))
	l, kinds := everybody(t)
	for _, tt := range []struct {
		name, options   string
		critical, extra map[string]string
		ok, noTouch     bool
	}{
		{"nothing said", "cert-authority", nil, nil, true, false},
		{"from nowhere", "cert-authority", map[string]string{"source-address": ""}, nil, false, false},
		{"forced to nothing", "cert-authority", map[string]string{"force-command": ""}, nil, true, false},
		{"no touch, of the certificate alone", "cert-authority", nil, map[string]string{"no-touch-required": ""}, true, false},
		{"no touch, of the line alone", "cert-authority,no-touch-required", nil, nil, true, false},
		{"no touch, of both", "cert-authority,no-touch-required", nil, map[string]string{"no-touch-required": ""}, true, true},
	} {
		write(t, l.cfg.AuthorizedKeys[0], tt.options+" "+line+"\n")
		cert := &ssh.Certificate{
			CertType: ssh.UserCert, Key: key.PublicKey(), ValidPrincipals: kinds[:1], ValidBefore: ssh.CertTimeInfinity,
			Permissions: ssh.Permissions{CriticalOptions: tt.critical, Extensions: tt.extra},
		}
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			t.Fatal(err)
		}
		p, err := l.checkKey(named{user: kinds[0]}, cert)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.ok)
			continue
		}
		if p == nil {
			continue
		}
		_, want := tt.critical["force-command"]
		if r, _ := p.ExtraData[extra{}].(result); r.grant.forced != want {
			t.Errorf("%s: forced %v, want %v", tt.name, r.grant.forced, want)
		}
		if _, noTouch := p.Extensions["no-touch-required"]; noTouch != tt.noTouch {
			t.Errorf("%s: no touch %v, want %v", tt.name, noTouch, tt.noTouch)
		}
	}
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What a client calls its method is not what /metrics says.
func TestMethodsOfClients(t *testing.T) {
	l, _ := everybody(t)
	for _, method := range []string{"password", "\xff\xfe", strings.Repeat("x", 1<<10)} {
		l.attempt(named{user: "u"}, method, errors.New("no"))
	}
	r := prometheus.NewRegistry()
	r.MustRegister(l.s)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "inpod_ssh_login_attempts_refused_total" {
			for _, m := range f.GetMetric() {
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if len(got) != 2 || got["password"] != 1 || got["other"] != 2 {
		t.Errorf("counts %v", got)
	}
}

// A password that is too long costs no more than another: the hash's cost grows with its length.
func TestLongPassword(t *testing.T) {
	l, kinds := everybody(t)
	began := cpuTime()
	if _, err := l.check(named{user: kinds[0]}, make([]byte, 200<<10)); err == nil {
		t.Error("it got in")
	}
	if took := cpuTime() - began; took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if _, err := newHash(make([]byte, maxPassword+1)); err == nil {
		t.Error("a password is hashed that nobody can log in with")
	}
	if _, err := l.check(named{user: kinds[0]}, []byte("the password")); err != nil {
		t.Error(err)
	}
}
