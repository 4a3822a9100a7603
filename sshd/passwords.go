package sshd

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inpod/inpod/config"
)

const (
	keptFile     = "passwords" // in ssh.host_key_dir
	maxPasswords = 1 << 20
)

// passwords holds the hashes of ssh.password_file. The file is read once: its hashes are kept in the directory of the
// host keys, so that they are there when the agent is started again, and the file itself is removed. A new file
// replaces the passwords of those that it names.
type passwords struct {
	log  *slog.Logger
	work sync.WaitGroup

	mu     sync.Mutex
	dir    string
	loaded bool
	hashes map[string]string // by user
	plain  map[string]string // read and not hashed yet; a login hashes it itself

	salt [32]byte            // of the keys of made
	made map[[32]byte]string // hashes of what is in files of ssh.users
}

func newPasswords(log *slog.Logger) *passwords {
	p := &passwords{log: log, hashes: map[string]string{}, plain: map[string]string{}, made: map[[32]byte]string{}}
	_, _ = rand.Read(p.salt[:]) // never fails
	return p
}

// use reads what is kept and what is new. Hashing goes on in the background: it takes a tenth of a second a password.
// own is whom a password without a name belongs to.
func (p *passwords) use(dir, file, own string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.loaded || dir != p.dir {
		p.dir, p.loaded = dir, true
		p.load()
	}
	if file == "" {
		return
	}
	fresh, err := readPasswords(file, own)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		p.log.Error("cannot read ssh.password_file; the passwords that were read before stay in force", "file", file, "error", err)
		return
	case len(fresh) == 0:
		p.log.Warn("ssh.password_file is empty; the passwords that were read before stay in force", "file", file)
		return
	}
	maps.Copy(p.plain, fresh)
	p.work.Add(1)
	go func() {
		defer p.work.Done()
		p.take(file, fresh)
	}()
}

func (p *passwords) wait() { p.work.Wait() }

// load reads the hashes that were kept; the caller holds mu.
func (p *passwords) load() {
	path := filepath.Join(p.dir, keptFile)
	data, st, err := readBounded(path, maxPasswords)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil && st.Mode().Perm()&0o022 != 0 {
		err = fmt.Errorf("its mode is %04o: others can write to it", st.Mode().Perm())
	}
	if err != nil {
		p.log.Error("cannot use the passwords that were kept", "file", path, "error", err)
		return
	}
	for line := range strings.Lines(string(data)) {
		if user, hash, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok && isHash(hash) {
			p.hashes[user] = hash
		}
	}
}

// take hashes what was read, keeps it and removes the file, in this order: a password is never lost.
func (p *passwords) take(file string, fresh map[string]string) {
	p.mu.Lock()
	kept := maps.Clone(p.hashes)
	dir := p.dir
	p.mu.Unlock()
	made := map[string]string{}
	for user, password := range fresh {
		if same, _ := verify([]byte(password), kept[user]); same {
			continue // the file could not be removed the last time
		}
		if isHash(password) {
			made[user] = password
			continue
		}
		h, err := newHash([]byte(password))
		if err != nil {
			p.log.Error("cannot hash a password of ssh.password_file", "user", user, "error", err)
			continue
		}
		made[user] = h
	}
	p.mu.Lock()
	maps.Copy(p.hashes, made)
	for user, password := range fresh {
		if p.plain[user] == password {
			delete(p.plain, user)
		}
	}
	all := maps.Clone(p.hashes)
	p.mu.Unlock()
	if len(made) > 0 {
		if err := keepPasswords(filepath.Join(dir, keptFile), all); err != nil {
			p.log.Warn("cannot keep the passwords of ssh.password_file; the file stays where it is", "file", file, "error", err)
			return
		}
	}
	p.log.Info("took passwords from ssh.password_file", "file", file, "users", strings.Join(slices.Sorted(maps.Keys(fresh)), " "))
	// Somebody may have written another one meanwhile.
	if now, err := readPasswords(file, ""); err != nil || !sameValues(now, fresh) {
		return
	}
	if err := os.Remove(file); err != nil {
		p.log.Info("ssh.password_file cannot be removed; it is read again when the agent is started again", "file", file, "error", err)
	}
}

func sameValues(a, b map[string]string) bool {
	return slices.Equal(slices.Sorted(maps.Values(a)), slices.Sorted(maps.Values(b)))
}

func keepPasswords(path string, hashes map[string]string) error {
	var b strings.Builder
	for _, user := range slices.Sorted(maps.Keys(hashes)) {
		fmt.Fprintf(&b, "%s:%s\n", user, hashes[user])
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return writeDurably(path, []byte(b.String()), 0o600)
}

// readPasswords reads lines as chpasswd(8) does. A single line without a name is own's password.
func readPasswords(file, own string) (map[string]string, error) {
	data, _, err := readBounded(file, maxPasswords)
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	lines := strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' || r == '\r' })
	for _, line := range lines {
		user, password, ok := strings.Cut(line, ":")
		if !ok && len(lines) == 1 {
			user, password = own, strings.TrimSpace(line)
		}
		if user = strings.TrimSpace(user); password != "" {
			m[user] = password
		}
	}
	return m, nil
}

// hash returns what a user's password is compared with; "" when this file never named the user.
func (p *passwords) hash(user string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if plain, ok := p.plain[user]; ok {
		h := plain
		if !isHash(plain) {
			var err error
			if h, err = newHash([]byte(plain)); err != nil {
				return ""
			}
		}
		return h
	}
	return p.hashes[user]
}

// any tells whether there is a password.
func (p *passwords) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.hashes)+len(p.plain) > 0
}

// shadowHash reads a user's hash from shadow(5); "" when there is none that can log in.
func shadowHash(file, user string, now time.Time) string {
	data, _, err := readBounded(file, maxUsers)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) < 2 || f[0] != user || !isHash(f[1]) {
			continue
		}
		if len(f) > 7 && f[7] != "" && expired(f[7], now) {
			return ""
		}
		return f[1]
	}
	return ""
}

// accountExpired tells whether shadow(5) has a day for a user on which the account ended, whatever the password is.
func accountExpired(file, user string, now time.Time) bool {
	data, _, err := readBounded(file, maxUsers)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if f[0] == user {
			return len(f) > 7 && f[7] != "" && expired(f[7], now)
		}
	}
	return false
}

// expired reads a day of shadow(5), counted from 1970.
func expired(day string, now time.Time) bool {
	var n int64
	if _, err := fmt.Sscanf(day, "%d", &n); err != nil || n < 0 {
		return false
	}
	return now.Unix() >= n*86400
}

// sample is the hash of one of the passwords, "" when there is none.
func (p *passwords) sample() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.hashes {
		return h
	}
	for _, plain := range p.plain {
		if h, err := newHash([]byte(plain)); err == nil {
			return h
		}
	}
	return ""
}

// virtual reads ssh.users[].password_file. The hash is made once for a text.
func (p *passwords) virtual(v *config.SSHUser) (string, error) {
	if v.PasswordFile == "" {
		return "", nil
	}
	data, _, err := readBounded(v.PasswordFile, 1<<16)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(data), "\r\n")
	switch {
	case text == "":
		return "", fmt.Errorf("%s is empty", v.PasswordFile)
	case strings.ContainsAny(text, "\r\n"):
		return "", fmt.Errorf("%s has several lines; want the password alone", v.PasswordFile)
	case isHash(text):
		return text, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := sha256.Sum256(append(p.salt[:], data...))
	if h := p.made[key]; h != "" {
		return h, nil
	}
	h, err := newHash([]byte(text))
	if err == nil {
		if len(p.made) > 1000 {
			clear(p.made)
		}
		p.made[key] = h
	}
	return h, err
}
