package sshd

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	rsaBits    = 3072
	rsaDelay   = time.Second // the first programs get the CPU first
	ed25519Key = "ssh_host_ed25519_key"
	rsaKey     = "ssh_host_rsa_key"
)

// hostKeys are the keys by which clients know this container. They are read, or made, when they are first needed.
type hostKeys struct {
	log  *slog.Logger
	made func() // called when the large work is over; may be nil
	work sync.WaitGroup

	mu      sync.Mutex
	dir     string
	ed, rsa ssh.Signer
	rsaDone bool // rsa is there, or cannot be had, or is being made
	timer   *time.Timer
	closed  bool
}

func newHostKeys(log *slog.Logger) *hostKeys { return &hostKeys{log: log} }

// use names the directory. Another one than before has other keys.
func (h *hostKeys) use(dir string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if dir != h.dir {
		h.dir, h.ed, h.rsa, h.rsaDone = dir, nil, nil, false
	}
}

// soon makes what is missing in a moment, in the background.
func (h *hostKeys) soon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer == nil && !h.closed {
		h.timer = time.AfterFunc(rsaDelay, func() { _ = h.signers() })
	}
}

// wait returns when nothing is being made any more.
func (h *hostKeys) wait() {
	h.mu.Lock()
	h.closed = true
	if h.timer != nil {
		h.timer.Stop()
	}
	h.mu.Unlock()
	h.work.Wait()
}

// first makes sure that there is a key: one that is made is on the disk when this returns.
func (h *hostKeys) first() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.haveFirst()
}

// haveFirst reads the ed25519 key or makes it; the caller holds mu.
func (h *hostKeys) haveFirst() {
	if h.ed == nil {
		h.ed = h.have(h.dir, ed25519Key, func() (crypto.Signer, error) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			return key, err
		})
	}
}

// signers returns the keys that there are. An RSA key takes a second to make: until then clients get ed25519 alone.
func (h *hostKeys) signers() []ssh.Signer {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.haveFirst()
	if !h.rsaDone && !h.closed {
		h.rsaDone = true
		dir := h.dir
		h.work.Add(1)
		go func() {
			defer h.work.Done()
			if h.made != nil {
				defer h.made() // it was a large part of the agent's heap, and is not needed again
			}
			key := h.have(dir, rsaKey, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, rsaBits) })
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.dir == dir {
				h.rsa = key
			}
		}()
	}
	var list []ssh.Signer
	for _, k := range []ssh.Signer{h.ed, h.rsa} {
		if k != nil {
			list = append(list, k)
		}
	}
	return list
}

// have reads a key or makes it. What cannot be kept is used all the same, until the agent ends; a key that is there
// and cannot be read is never replaced.
func (h *hostKeys) have(dir, name string, make func() (crypto.Signer, error)) ssh.Signer {
	path := filepath.Join(dir, name)
	key, err := h.read(path)
	if err == nil {
		return key
	}
	missing := errors.Is(err, fs.ErrNotExist)
	if !missing {
		h.log.Error("cannot use a host key; one is made that lasts until the agent ends", "file", path, "error", err)
	}
	raw, err := make()
	if err == nil {
		key, err = signer(raw)
	}
	if err != nil {
		h.log.Error("cannot make a host key", "file", path, "error", err)
		return nil
	}
	if missing {
		if err := keep(path, raw); err != nil {
			h.log.Warn("cannot keep a host key; clients will see another one when the agent is started again", "file", path, "error", err)
		} else {
			h.log.Info("made a host key", "file", path, "fingerprint", ssh.FingerprintSHA256(key.PublicKey()))
		}
	}
	return key
}

func (h *hostKeys) read(path string) (ssh.Signer, error) {
	data, st, err := readBounded(path, 1<<16)
	if err != nil {
		return nil, err
	}
	if mode := st.Mode().Perm(); mode&0o022 != 0 {
		return nil, fmt.Errorf("its mode is %04o: others can replace it", mode)
	} else if mode&0o004 != 0 {
		// A mounted Secret has 0644 unless told otherwise.
		h.log.Warn("a host key can be read by everybody", "file", path, "mode", fmt.Sprintf("%04o", mode))
	}
	raw, err := ssh.ParseRawPrivateKey(data)
	if err != nil {
		return nil, err
	}
	key, ok := raw.(crypto.Signer)
	if p, is := raw.(*ed25519.PrivateKey); is {
		key, ok = *p, true
	}
	if !ok {
		return nil, fmt.Errorf("holds a %T", raw)
	}
	return signer(key)
}

// signer keeps SHA-1 out of what an RSA key signs (RFC 8332).
func signer(key crypto.Signer) (ssh.Signer, error) {
	s, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		return nil, err
	}
	as, ok := s.(ssh.AlgorithmSigner)
	if !ok || s.PublicKey().Type() != ssh.KeyAlgoRSA {
		return s, nil
	}
	return ssh.NewSignerWithAlgorithms(as, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
}

// keep writes a key, and its public half beside it, so that it is there after a crash or not at all.
func keep(path string, key crypto.Signer) error {
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := writeDurably(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writeDurably(path+".pub", ssh.MarshalAuthorizedKey(pub), 0o644)
}
