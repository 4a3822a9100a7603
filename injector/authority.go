package injector

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The Secret's keys beside tls.crt and tls.key: the authorities that are trusted, the newest first, and the key of
// the newest.
const (
	bundleKey    = "ca.crt"
	authorityKey = "ca.key"
)

// settleTime is how long a new authority is in the webhook configuration before anything is signed with it. Each API
// server learns of a changed one within seconds.
const settleTime = time.Minute

// skew forgives clocks that are behind ours.
const skew = time.Hour

// authority makes certificates.
type authority struct {
	authorityLife, servingLife time.Duration // 0: five years, ninety days
}

func (a authority) lives() (ca, serving time.Duration) {
	ca, serving = a.authorityLife, a.servingLife
	if ca == 0 {
		ca = 5 * 365 * 24 * time.Hour
	}
	if serving == 0 {
		serving = 90 * 24 * time.Hour
	}
	return ca, serving
}

// next is the Secret after this one, and why it has to change; "" when it does not. One step a call:
//
//  1. nothing there, or nothing of use: an authority and a certificate of it; where only the certificate's key is another
//     one, a new certificate
//  2. the authority has lived for two thirds of its time: a new one joins the bundle, and signs nothing yet
//  3. the newest authority is not the certificate's and has settled since it was registered, or the certificate has lived for two thirds of
//     its time, or has other names: a new certificate
//  4. authorities that have expired leave the bundle
//
// known is the bundle that the API server has, and trusted since when it is this Secret's; zero when it is not. What
// it has stays in a new bundle, for the replicas that serve with it yet.
func (a authority) next(data map[string][]byte, names []string, now time.Time, known []byte, trusted time.Time) (map[string][]byte, string, error) {
	s, err := readSigned(data)
	if err != nil || now.After(s.cas[0].NotAfter) {
		fresh, err := a.fresh(names, now)
		if err != nil {
			return nil, "", err
		}
		old, _ := readBundle(known) // what cannot be read is of no use to anybody
		fresh[bundleKey] = append(fresh[bundleKey], unexpired(old[:min(len(old), 2)], now)...)
		return fresh, "there was none of use", nil
	}
	caLife, _ := a.lives()
	newest := s.cas[0]
	switch {
	case s.unpaired:
		next, err := a.issue(data, s, names, now)
		return next, "the key was not the certificate's", err
	case old(newest, now):
		ca, key, err := newAuthority(caLife, now)
		if err != nil {
			return nil, "", err
		}
		bundle := append(pemOf("CERTIFICATE", ca.Raw), data[bundleKey]...)
		return with(data, bundleKey, bundle, authorityKey, key), "the authority gets a successor", nil
	case s.leaf.CheckSignatureFrom(newest) != nil && (!trusted.IsZero() && now.Sub(trusted) > settleTime || now.After(s.leaf.NotAfter)):
		next, err := a.issue(data, s, names, now)
		return next, "the new authority signs", err
	case s.leaf.CheckSignatureFrom(newest) == nil && (old(s.leaf, now) || !slices.Equal(s.leaf.DNSNames, names)):
		next, err := a.issue(data, s, names, now)
		return next, "the certificate gets a successor", err
	}
	if bundle := unexpired(s.cas, now); !bytes.Equal(bundle, data[bundleKey]) {
		return with(data, bundleKey, bundle), "an authority has expired", nil
	}
	return nil, "", nil
}

func unexpired(cas []*x509.Certificate, now time.Time) (bundle []byte) {
	for _, ca := range cas {
		if now.Before(ca.NotAfter) {
			bundle = append(bundle, pemOf("CERTIFICATE", ca.Raw)...)
		}
	}
	return bundle
}

// old tells whether two thirds of a certificate's time are over.
func old(cert *x509.Certificate, now time.Time) bool {
	return now.After(cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3))
}

// signed is what the Secret holds.
type signed struct {
	cas  []*x509.Certificate
	key  *ecdsa.PrivateKey
	leaf *x509.Certificate
	// unpaired is a certificate whose key is another one, as in a Secret that was restored by halves.
	unpaired bool
}

func readBundle(text []byte) (cas []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return cas, nil
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		cas = append(cas, ca)
	}
}

func readSigned(data map[string][]byte) (s signed, err error) {
	if s.cas, err = readBundle(data[bundleKey]); err != nil {
		return s, err
	}
	key, _ := pem.Decode(data[authorityKey])
	cert, _ := pem.Decode(data[corev1.TLSCertKey])
	if key == nil || cert == nil || len(s.cas) == 0 || len(data[corev1.TLSPrivateKeyKey]) == 0 {
		return s, errors.New("the Secret is not complete")
	}
	if s.key, err = x509.ParseECPrivateKey(key.Bytes); err != nil {
		return s, err
	}
	if !s.key.PublicKey.Equal(s.cas[0].PublicKey) {
		return s, errors.New("the key is not that of the newest authority")
	}
	_, unpaired := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	s.unpaired = unpaired != nil
	s.leaf, err = x509.ParseCertificate(cert.Bytes)
	return s, err
}

func (a authority) fresh(names []string, now time.Time) (map[string][]byte, error) {
	caLife, _ := a.lives()
	ca, keyPEM, err := newAuthority(caLife, now)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(keyPEM)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{bundleKey: pemOf("CERTIFICATE", ca.Raw), authorityKey: keyPEM}
	return a.issue(data, signed{cas: []*x509.Certificate{ca}, key: key}, names, now)
}

// issue signs a serving certificate with the newest authority.
func (a authority) issue(data map[string][]byte, s signed, names []string, now time.Time) (map[string][]byte, error) {
	_, life := a.lives()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	template, err := template(names[0], life, now)
	if err != nil {
		return nil, err
	}
	template.DNSNames = names
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if template.NotAfter.After(s.cas[0].NotAfter) {
		template.NotAfter = s.cas[0].NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.cas[0], &key.PublicKey, s.key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign a certificate: %w", err)
	}
	text, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot write the key: %w", err)
	}
	return with(data, corev1.TLSCertKey, pemOf("CERTIFICATE", der), corev1.TLSPrivateKeyKey, pemOf("EC PRIVATE KEY", text)), nil
}

func newAuthority(life time.Duration, now time.Time) (*x509.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a key: %w", err)
	}
	template, err := template("inpod-injector", life, now)
	if err != nil {
		return nil, nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make an authority: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the authority back: %w", err)
	}
	text, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot write the key: %w", err)
	}
	return ca, pemOf("EC PRIVATE KEY", text), nil
}

func template(name string, life time.Duration, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("cannot make a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial, NotBefore: now.Add(-skew), NotAfter: now.Add(life),
		// The serial number is in the name, so that two authorities are told apart by it.
		Subject: pkix.Name{CommonName: name, SerialNumber: serial.Text(16)},
	}, nil
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// with is a copy of data with other values.
func with(data map[string][]byte, pairs ...any) map[string][]byte {
	out := map[string][]byte{}
	for k, v := range data {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1].([]byte)
	}
	return out
}
