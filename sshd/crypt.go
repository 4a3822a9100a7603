package sshd

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/go-crypt/x/yescrypt"
	"golang.org/x/crypto/bcrypt"
)

// ownRounds is the cost of the hashes that are made here: SHA-512 needs no memory, which is the workload's.
const ownRounds = 100_000

// maxRounds is what crypt(5) allows at most; more than that is a mistake that would stop every login.
const maxRounds = 10_000_000

// maxPassword is the longest password in bytes, as it is sshd's.
const maxPassword = 1024

const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var errNoHash = errors.New("is no hash of crypt(5) that is known here: want yescrypt, sha512, sha256 or bcrypt")

// isHash tells whether s is a hash that verify can compare with.
func isHash(s string) bool {
	for _, prefix := range []string{"$y$", "$6$", "$5$", "$2a$", "$2b$", "$2y$"} {
		if strings.HasPrefix(s, prefix) && strings.Count(s, "$") >= 3 {
			return true
		}
	}
	return false
}

// verify compares a password with a hash, in the time that the hash takes and not one that the password tells.
func verify(password []byte, want string) (bool, error) {
	var got string
	switch {
	case !isHash(want):
		return false, errNoHash
	case strings.HasPrefix(want, "$y$"):
		out, err := yescrypt.Hash(password, []byte(want))
		if err != nil {
			return false, fmt.Errorf("cannot compute yescrypt: %w", err)
		}
		got = string(out)
	case strings.HasPrefix(want, "$2"):
		if len(password) > 72 {
			password = password[:72] // as crypt(3) does
		}
		err := bcrypt.CompareHashAndPassword([]byte(want), password)
		if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			return false, err
		}
		return err == nil, nil
	default:
		out, err := shaCrypt(password, want)
		if err != nil {
			return false, err
		}
		got = out
	}
	return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1, nil
}

// newHash hashes a password.
func newHash(password []byte) (string, error) {
	if len(password) > maxPassword {
		return "", fmt.Errorf("the password has %d bytes; want %d at most", len(password), maxPassword)
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	for i := range salt {
		salt[i] = cryptAlphabet[salt[i]&63]
	}
	return shaCrypt(password, fmt.Sprintf("$6$rounds=%d$%s$", ownRounds, salt))
}

// shaCrypt is sha512-crypt and sha256-crypt (akkadia.org/drepper/SHA-crypt.txt).
func shaCrypt(password []byte, setting string) (string, error) {
	kind, rest := setting[:3], setting[3:]
	rounds, named := 5000, false
	if after, ok := strings.CutPrefix(rest, "rounds="); ok {
		number, tail, ok := strings.Cut(after, "$")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n > maxRounds {
			return "", errNoHash
		}
		rounds, rest, named = max(n, 1000), tail, true
	}
	salt, _, _ := strings.Cut(rest, "$")
	salt = salt[:min(len(salt), 16)]
	var sum []byte
	var text string
	if kind == "$6$" {
		sum = shaRounds(sha512.New, password, []byte(salt), rounds)
		for i, a, b, c := 0, 0, 21, 42; i < 21; i++ {
			text += encode24(sum[a], sum[b], sum[c], 4)
			a, b, c = b+1, c+1, a+1
		}
		text += encode24(0, 0, sum[63], 2)
	} else {
		sum = shaRounds(sha256.New, password, []byte(salt), rounds)
		for i, a, b, c := 0, 0, 10, 20; i < 10; i++ {
			text += encode24(sum[a], sum[b], sum[c], 4)
			a, b, c = c+1, a+1, b+1
		}
		text += encode24(0, sum[31], sum[30], 3)
	}
	if named {
		kind += "rounds=" + strconv.Itoa(rounds) + "$"
	}
	return kind + salt + "$" + text, nil
}

// encode24 writes 24 bits as n letters, the lowest bits first.
func encode24(a, b, c byte, n int) string {
	v := uint(a)<<16 | uint(b)<<8 | uint(c)
	var out [4]byte
	for i := range n {
		out[i] = cryptAlphabet[v&63]
		v >>= 6
	}
	return string(out[:n])
}

// shaRounds follows the steps of the specification by their numbers.
func shaRounds(algorithm func() hash.Hash, key, salt []byte, rounds int) []byte {
	h := algorithm()
	h.Write(key) // 4–8
	h.Write(salt)
	h.Write(key)
	b := h.Sum(nil)

	h.Reset() // 1–3
	h.Write(key)
	h.Write(salt)
	h.Write(repeat(b, len(key))) // 9–10
	for n := len(key); n > 0; n >>= 1 {
		if n&1 != 0 {
			h.Write(b)
		} else {
			h.Write(key)
		}
	}
	a := h.Sum(nil) // 12

	h.Reset() // 13–16
	for range len(key) {
		h.Write(key)
	}
	p := repeat(h.Sum(nil), len(key))

	h.Reset() // 17–20
	for range 16 + int(a[0]) {
		h.Write(salt)
	}
	s := repeat(h.Sum(nil), len(salt))

	for i := range rounds { // 21
		h.Reset()
		if i&1 != 0 {
			h.Write(p)
		} else {
			h.Write(a)
		}
		if i%3 != 0 {
			h.Write(s)
		}
		if i%7 != 0 {
			h.Write(p)
		}
		if i&1 != 0 {
			h.Write(a)
		} else {
			h.Write(p)
		}
		a = h.Sum(a[:0])
	}
	return a
}

// repeat makes n bytes of b.
func repeat(b []byte, n int) []byte { return bytes.Repeat(b, n/len(b)+1)[:n] }

// HashPassword makes a hash of crypt(5) that logins are compared with.
func HashPassword(password []byte) (string, error) { return newHash(password) }

// IsHash tells whether s is a hash that logins can be compared with, and no password.
func IsHash(s string) bool { return isHash(s) }

// VerifyPassword compares a password with a hash.
func VerifyPassword(password []byte, hash string) bool {
	ok, err := verify(password, hash)
	return err == nil && ok
}
