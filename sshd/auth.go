package sshd

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/inpod/inpod/config"
	"golang.org/x/crypto/ssh"
)

// errDenied is what every login that fails ends with: who tries must not learn why.
var errDenied = errors.New("permission denied")

// minRSA is the least size of a user's RSA key.
const minRSA = 2048

// login is the state of one client that logs in.
type login struct {
	s    *Server
	wire *peer
	cfg  *config.SSH
	ctx  context.Context // ends with the time that a login may take
	log  *slog.Logger
}

// extra is the key of ssh.Permissions.ExtraData under which a login's result is.
type extra struct{}

// result is who has logged in, and with what rights.
type result struct {
	account *account
	grant   *grant
}

func permissions(u *account, g *grant) *ssh.Permissions {
	p := &ssh.Permissions{ExtraData: map[any]any{extra{}: result{u, g}}}
	if g.noTouch {
		p.Extensions = map[string]string{"no-touch-required": ""}
	}
	return p
}

// serverConfig says what is offered. Which methods there are depends on the settings and never on the user.
func (l *login) serverConfig(o offer) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config:                  ssh.Config{KeyExchanges: kexAlgorithms(), Ciphers: o.ciphers, MACs: o.macs},
		PublicKeyAuthAlgorithms: userKeyAlgorithms(),
		MaxAuthTries:            6,
		ServerVersion:           serverVersion,
		PublicKeyCallback:       l.publicKey,
		AuthLogCallback:         l.attempt,
	}
	if l.s.anyPassword(l.cfg) {
		c.PasswordCallback = l.password
	}
	if l.cfg.Banner != "" {
		if text, _, err := readBounded(l.cfg.Banner, 64<<10); err == nil {
			c.BannerCallback = func(ssh.ConnMetadata) string { return string(text) }
		} else {
			l.log.Warn("cannot read ssh.banner", "file", l.cfg.Banner, "error", err)
		}
	}
	for _, k := range l.s.host.signers() {
		c.AddHostKey(k)
	}
	return c
}

// attempt counts and logs what was tried, but for the method none, with which a client only asks what there is.
func (l *login) attempt(c ssh.ConnMetadata, method string, err error) {
	l.wire.stage.Store(stageKeys)
	if method == "none" || err == nil {
		return
	}
	l.s.counts.refused.add(knownMethod(method))
	l.log.Info("login refused", "user", clip(c.User()), "method", clip(method))
}

// knownMethod is a method's name for the metrics (RFC 4252). Clients may send anything, and a label that is no UTF-8 makes
// the whole page of metrics fail.
func knownMethod(method string) string {
	switch method {
	case "publickey", "password", "keyboard-interactive", "hostbased":
		return method
	}
	return "other"
}

// find returns the account of a name. For a name that there is none of it returns one that nobody can log in as, so that
// the same is done for it.
func (l *login) find(name string) (u *account, known bool) {
	for i := range l.cfg.Users {
		if v := &l.cfg.Users[i]; v.Name == name {
			own := l.s.accounts.own()
			return &account{
				name: v.Name, home: own.home, shell: own.shell, uid: own.uid, gid: own.gid, own: true, virtual: v,
			}, true
		}
	}
	if u, ok := l.s.accounts.lookup(name); ok {
		return u, true
	}
	if len(name) > longestUser || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		name = "?" // it may become a part of a path (ssh.authorized_keys)
	}
	u = &account{name: name, home: "/nonexistent", uid: l.s.accounts.uid, gid: l.s.accounts.gid, own: true}
	if l.s.accounts.mayBecome {
		u.uid, u.gid, u.own = overflowID, overflowID, false
	}
	return u, false
}

// overflowID is the kernel's number for nobody in particular.
const overflowID = 65534

// keyRefusalTime is when a key that is not accepted is answered at the earliest. To look into the files of a user who is
// there takes longer than to find out that one is not, by some tenths of a millisecond.
const keyRefusalTime = 5 * time.Millisecond

func (l *login) publicKey(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	refusal := time.Now().Add(keyRefusalTime)
	p, err := l.checkKey(c, key)
	if err != nil {
		l.until(refusal)
	}
	return p, err
}

// until waits until then, or until the time for the login is over.
func (l *login) until(then time.Time) {
	t := time.NewTimer(time.Until(then))
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.ctx.Done():
	}
}

func (l *login) checkKey(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	u, known := l.find(c.User())
	var g *grant
	if cert, ok := key.(*ssh.Certificate); ok {
		g = l.certificate(u, cert)
	} else if strong(key) {
		g = l.plainKey(u, key)
	}
	if !known || g == nil || l.expired(u) {
		return nil, errDenied
	}
	return permissions(u, g), nil
}

// expired tells whether an account of the container has ended (shadow(5)), which closes it to whatever credential.
func (l *login) expired(u *account) bool {
	if u.virtual != nil || !accountExpired(l.s.accounts.shadow, u.name, time.Now()) {
		return false
	}
	l.log.Info("the account has expired", "user", clip(u.name))
	return true
}

// plainKey looks for a key among those of u; nil when it is not there, or not for now and here.
func (l *login) plainKey(u *account, key ssh.PublicKey) *grant {
	want := key.Marshal()
	var found *grant
	l.eachKey(u, func(k ssh.PublicKey, g *grant) {
		if found == nil && !g.authority && bytes.Equal(k.Marshal(), want) && l.usable(g) {
			found = g
		}
	})
	return found
}

// usable applies from= and expiry-time=.
func (l *login) usable(g *grant) bool {
	if !g.expires.IsZero() && !time.Now().Before(g.expires) {
		l.log.Info("a key has expired", "key", g.key, "expired", g.expires)
		return false
	}
	if !allowsFrom(g.from, l.wire.addr) {
		l.log.Info("a key may not be used from here", "key", g.key, "allowed", g.from)
		return false
	}
	return true
}

// eachKey goes through the keys that may log in as u.
func (l *login) eachKey(u *account, each func(ssh.PublicKey, *grant)) {
	read := func(file string, strict bool) {
		data, err := l.s.readKeys(file, u, strict)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			l.log.Warn("cannot use a file of public keys", "file", file, "user", clip(u.name), "error", err)
			return
		}
		parseKeys(data, func(line int, err error) {
			l.log.Warn("cannot use a line of a file of public keys", "file", file, "line", line, "error", err)
		}, each)
	}
	if u.virtual != nil {
		for _, file := range u.virtual.AuthorizedKeys {
			read(file, false)
		}
		return
	}
	for _, file := range l.cfg.AuthorizedKeys {
		read(expandKeyPath(file, u), strings.HasPrefix(file, "%h"))
	}
	if u.own {
		parseKeys([]byte(l.cfg.EnvKeys), func(line int, err error) {
			l.log.Warn("cannot use a line of $INPOD_AUTHORIZED_KEYS", "line", line, "error", err)
		}, each)
	}
}

// certificate checks a user certificate (PROTOCOL.certkeys of OpenSSH): its authority must be in ssh.trusted_user_ca, or
// be a key of u with the option cert-authority. An authority may have several lines, for other principals each.
func (l *login) certificate(u *account, cert *ssh.Certificate) *grant {
	if cert.CertType != ssh.UserCert || !strong(cert.Key) || !strong(cert.SignatureKey) {
		return nil
	}
	if cert.Signature == nil || cert.Signature.Format == ssh.KeyAlgoRSA {
		l.log.Info("a certificate is signed with SHA-1", "user", clip(u.name), "certificate", clip(cert.KeyId))
		return nil
	}
	authority := cert.SignatureKey.Marshal()
	var found *grant
	if l.cfg.TrustedUserCA != "" && u.virtual == nil && l.trusts(authority) {
		found = l.signed(u, cert, &grant{noTouch: true}) // there the certificate alone says what it allows
	}
	if found != nil {
		return found
	}
	l.eachKey(u, func(k ssh.PublicKey, line *grant) {
		if found == nil && line.authority && bytes.Equal(k.Marshal(), authority) && l.usable(line) {
			found = l.signed(u, cert, line)
		}
	})
	return found
}

// signed checks a certificate whose authority has the line; nil when it is not good there.
func (l *login) signed(u *account, cert *ssh.Certificate, line *grant) *grant {
	principals := line.principals
	if principals == nil {
		principals = []string{u.name}
	}
	checker := ssh.CertChecker{
		SupportedCriticalOptions: []string{"force-command", "source-address"},
		IsUserAuthority:          func(ssh.PublicKey) bool { return true },
	}
	log := l.log.With("user", clip(u.name), "certificate", clip(cert.KeyId))
	i := slices.IndexFunc(principals, func(p string) bool { return slices.Contains(cert.ValidPrincipals, p) })
	if i < 0 {
		log.Info("a certificate is not for this user")
		return nil
	}
	if err := checker.CheckCert(principals[i], cert); err != nil {
		log.Info("cannot accept a certificate", "error", err)
		return nil
	}
	if from, limited := cert.CriticalOptions["source-address"]; limited && !allowsFrom(strings.Split(from, ","), l.wire.addr) {
		log.Info("a certificate may not be used from here")
		return nil
	}
	g, err := line.narrowed(cert)
	if err != nil {
		log.Info("cannot accept a certificate", "error", err)
		return nil
	}
	return g
}

// narrowed is what a certificate allows of what its authority may: neither can allow what the other does not.
func (g *grant) narrowed(cert *ssh.Certificate) (*grant, error) {
	n := *g
	n.method = "certificate"
	n.key = fmt.Sprintf("%s (serial %d, %s)", clip(cert.KeyId), cert.Serial, ssh.FingerprintSHA256(cert.Key))
	lacks := func(name string) bool { _, ok := cert.Extensions[name]; return !ok }
	n.noPTY = n.noPTY || lacks("permit-pty")
	n.noForward = n.noForward || lacks("permit-port-forwarding")
	n.noAgent = n.noAgent || lacks("permit-agent-forwarding")
	n.noX11 = n.noX11 || lacks("permit-X11-forwarding")
	n.noTouch = n.noTouch && !lacks("no-touch-required")
	if c, forced := cert.CriticalOptions["force-command"]; forced {
		if g.forced && g.command != c {
			return nil, errors.New("its force-command is not the command= of its authority")
		}
		n.forced, n.command = true, c
	}
	return &n, nil
}

// trusts looks for a key in ssh.trusted_user_ca.
func (l *login) trusts(authority []byte) bool {
	data, _, err := readBounded(l.cfg.TrustedUserCA, maxKeys)
	if err != nil {
		l.log.Error("cannot read ssh.trusted_user_ca", "file", l.cfg.TrustedUserCA, "error", err)
		return false
	}
	found := false
	parseKeys(data, func(line int, err error) {
		l.log.Warn("cannot use a line of ssh.trusted_user_ca", "line", line, "error", err)
	}, func(k ssh.PublicKey, _ *grant) {
		found = found || bytes.Equal(k.Marshal(), authority)
	})
	return found
}

// strong refuses what can be broken.
func strong(key ssh.PublicKey) bool {
	if key.Type() == "ssh-dss" {
		return false
	}
	ck, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return true
	}
	r, ok := ck.CryptoPublicKey().(*rsa.PublicKey)
	return !ok || r.N.BitLen() >= minRSA
}

// refusalTime is when a wrong password is answered at the earliest: hashes differ in their cost, and the time must not
// tell whose there are.
const refusalTime = 500 * time.Millisecond

// password compares a password with the user's hash, or with somebody else's where there is none.
func (l *login) password(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
	if !l.turn() {
		return nil, errDenied
	}
	refusal := time.Now().Add(refusalTime)
	p, err := l.check(c, password)
	<-l.s.hashing
	if err != nil {
		l.until(refusal)
	}
	return p, err
}

// turn waits until the password may be looked at, and takes one of the places for that. Of many that came at once none is
// known to be wrong at first: once some are, those that have not waited for that do.
func (l *login) turn() bool {
	for waited := false; ; {
		waited = waited || l.s.door.guessing(l.wire.addr)
		if l.s.door.await(l.ctx, l.wire.addr) != nil {
			return false
		}
		select {
		case l.s.hashing <- struct{}{}:
		case <-l.ctx.Done():
			return false
		}
		if waited || !l.s.door.guessing(l.wire.addr) {
			return true
		}
		<-l.s.hashing
	}
}

func (l *login) check(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
	// What a hash costs grows with the password: one that is too long is refused for no more than another.
	long := len(password) > maxPassword
	if long {
		password = password[:8]
	}
	u, known := l.find(c.User())
	hash := ""
	if known {
		hash = l.hashOf(u)
	}
	real := hash != ""
	if !real {
		hash = l.s.anyHash(l.cfg)
	}
	ok, err := verify(password, hash)
	if err != nil && real {
		l.log.Error("cannot check a password", "user", clip(u.name), "error", err)
	}
	if !ok || err != nil || !real || !known || long || len(password) == 0 || l.expired(u) {
		l.s.door.failed(l.wire.addr, c.User())
		return nil, errDenied
	}
	l.s.door.right(l.wire.addr, c.User())
	return permissions(u, &grant{method: "password"}), nil
}

// hashOf is what the user's password is compared with: that of ssh.password_file wins over /etc/shadow, so that a
// password which is baked into an image ends with the first that its owner sets.
func (l *login) hashOf(u *account) string {
	if u.virtual != nil {
		h, err := l.s.passwords.virtual(u.virtual)
		if err != nil {
			l.log.Error("cannot read the password of a user", "user", u.name, "file", u.virtual.PasswordFile, "error", err)
		}
		return h
	}
	if h := l.s.passwords.hash(u.name); h != "" {
		return h
	}
	if l.cfg.Shadow {
		return shadowHash(l.s.accounts.shadow, u.name, time.Now())
	}
	return ""
}

// clip bounds what a client sent before it gets into the log.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
