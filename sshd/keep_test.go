package sshd

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func fingerprints(h *hostKeys) (list []string) {
	for _, k := range h.signers() {
		list = append(list, k.PublicKey().Type()+" "+ssh.FingerprintSHA256(k.PublicKey()))
	}
	return list
}

func TestHostKeysStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	made := func() []string {
		h := newHostKeys(slog.New(slog.DiscardHandler))
		h.use(dir)
		if !within(5*patience, func() bool { return len(h.signers()) == 2 }) {
			t.Fatal("there is no RSA key")
		}
		h.wait()
		return fingerprints(h)
	}
	first, second := made(), made()
	if strings.Join(first, "\n") != strings.Join(second, "\n") || !strings.HasPrefix(first[0], "ssh-ed25519") || !strings.HasPrefix(first[1], "ssh-rsa") {
		t.Errorf("first %q, then %q", first, second)
	}
	for _, name := range []string{ed25519Key, rsaKey} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}

// A key that cannot be used is left alone, and another is used meanwhile; so it is where nothing can be kept.
func TestHostKeysThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, dir string
		prepare   func()
		says      string
	}{
		{"no key", dir, func() { write(t, filepath.Join(dir, ed25519Key), "scrambled") }, "cannot use a host key"},
		{"empty", dir, func() { write(t, filepath.Join(dir, ed25519Key), "") }, "cannot use a host key"},
		{"others can write", dir, func() {
			if err := os.Chmod(filepath.Join(dir, ed25519Key), 0o666); err != nil {
				t.Fatal(err)
			}
		}, "others can replace it"},
		{"no directory", "/dev/null/x", func() {}, "cannot"},
	} {
		tt.prepare()
		before, _ := os.ReadFile(filepath.Join(tt.dir, ed25519Key))
		log := &lockedBuffer{}
		h := newHostKeys(slog.New(slog.NewTextHandler(log, nil)))
		h.use(tt.dir)
		h.mu.Lock()
		h.rsaDone = true // this one alone
		h.mu.Unlock()
		if got := fingerprints(h); len(got) != 1 {
			t.Errorf("%s: keys %q", tt.name, got)
		}
		after, _ := os.ReadFile(filepath.Join(tt.dir, ed25519Key))
		if string(before) != string(after) || !strings.Contains(log.String(), tt.says) {
			t.Errorf("%s: the file went from %q to %q; log %s", tt.name, before, after, log)
		}
	}
}

// A password that cannot be kept stays in its file, and works.
func TestPasswordThatCannotBeKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pw")
	write(t, file, "the password alone\n")
	log := &lockedBuffer{}
	p := newPasswords(slog.New(slog.NewTextHandler(log, nil)))
	p.use("/dev/null/x", file, "me")
	p.wait()
	if ok, err := verify([]byte("the password alone"), p.hash("me")); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if _, err := os.Stat(file); err != nil || !strings.Contains(log.String(), "the file stays where it is") {
		t.Errorf("%v; log %s", err, log)
	}
}

func TestPasswordsReplaceThose(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pw")
	write(t, file, "a:one\nb:two\n")
	p := newPasswords(slog.New(slog.DiscardHandler))
	p.use(dir, file, "me")
	p.wait()
	write(t, file, "b:three\r\n")
	p.use(dir, file, "me")
	p.wait()
	again := newPasswords(slog.New(slog.DiscardHandler))
	again.use(dir, file, "me")
	for user, password := range map[string]string{"a": "one", "b": "three"} {
		if ok, err := verify([]byte(password), again.hash(user)); !ok || err != nil {
			t.Errorf("%s: %v, %v", user, ok, err)
		}
	}
	if h := again.hash("me"); h != "" {
		t.Errorf("somebody else: %q", h)
	}
}
