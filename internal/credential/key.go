package credential

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// leastRSA is the size in bits of the shortest RSA key that is taken.
const leastRSA = 2048

// Key verifies tokens.
type Key struct {
	ID     string // its kid; empty: any
	Public crypto.PublicKey
}

// Verifies reports whether the key is of the method's family. A public key must
// never be taken for a shared secret.
func (k Key) Verifies(m jwt.SigningMethod) bool {
	switch public := k.Public.(type) {
	case []byte:
		_, ok := m.(*jwt.SigningMethodHMAC)
		return ok
	case *rsa.PublicKey:
		// SigningMethodRSAPSS embeds SigningMethodRSA and is a type of its own.
		_, ok := m.(*jwt.SigningMethodRSA)
		_, pss := m.(*jwt.SigningMethodRSAPSS)
		return ok || pss
	case *ecdsa.PublicKey:
		ec, ok := m.(*jwt.SigningMethodECDSA)
		return ok && ec.CurveBits == public.Curve.Params().BitSize
	case ed25519.PublicKey:
		_, ok := m.(*jwt.SigningMethodEd25519)
		return ok
	}
	return false
}

// Keys reads a key file for the algorithms of tokens: for HS… the bytes of a
// shared secret, else public keys or certificates in PEM, of which one with the
// header "kid: NAME" has that name.
func Keys(file []byte, algorithms []string) ([]Key, error) {
	if len(algorithms) == 0 {
		return nil, wrong("name the accepted ones, like RS256", "no algorithm of tokens is named")
	}
	var methods []jwt.SigningMethod
	least := 0 // bytes of a shared secret
	shared := 0
	for _, name := range algorithms {
		m := jwt.GetSigningMethod(name)
		if m == nil || name == jwt.SigningMethodNone.Alg() {
			return nil, wrong("name one like RS256, ES256, EdDSA or HS256", "%q is no algorithm that is accepted", name)
		}
		if h, ok := m.(*jwt.SigningMethodHMAC); ok {
			shared++
			least = max(least, h.Hash.Size())
		}
		methods = append(methods, m)
	}
	switch shared {
	case 0:
		return publicKeys(file, methods)
	case len(algorithms):
		return sharedSecret(file, least)
	}
	return nil, wrong("name HS… alone or none of them", "shared secrets and public keys are mixed: who knows the public key could sign with it as a secret")
}

func sharedSecret(file []byte, least int) ([]Key, error) {
	if block, _ := pem.Decode(file); block != nil {
		return nil, wrong("name the algorithm of that key, like RS256, or write the bytes of a secret into the file", "holds a %s, and HS… is verified with a shared secret", block.Type)
	}
	secret := bytes.TrimRight(file, "\r\n")
	if len(secret) < least {
		return nil, wrong(makeSecret, "its secret has %d bytes, and the algorithm wants at least %d", len(secret), least)
	}
	keys := []Key{{Public: secret}}
	if len(secret) < len(file) {
		// Whether the last line break belongs to the secret depends on who wrote
		// the file.
		keys = append(keys, Key{Public: bytes.Clone(file)})
	}
	return keys, nil
}

func publicKeys(file []byte, methods []jwt.SigningMethod) ([]Key, error) {
	const want = "write each public key as -----BEGIN PUBLIC KEY----- and its lines; openssl pkey -pubout makes them of a private one"
	var keys []Key
	rest := file
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		public, err := publicKey(block)
		if err != nil {
			return nil, wrong(err.Remedy, "its key %d %s", len(keys)+1, err.Problem)
		}
		k := Key{ID: block.Headers["kid"], Public: public}
		if !slices.ContainsFunc(methods, k.Verifies) {
			return nil, wrong("name the key's algorithm too, or take the key out", "its key %d, a %T, fits none of the algorithms", len(keys)+1, public)
		}
		keys = append(keys, k)
	}
	// A damaged block is passed over by its decoder.
	switch begun := bytes.Count(file, []byte("-----BEGIN ")); {
	case begun == 0:
		return nil, wrong(want, "holds no public key in PEM")
	case begun != len(keys):
		return nil, wrong(want, "can be read only in part: %d keys in PEM of %d", len(keys), begun)
	}
	return keys, nil
}

func publicKey(block *pem.Block) (crypto.PublicKey, *Error) {
	const pubout = "openssl pkey -pubout gives the public one"
	var public crypto.PublicKey
	var err error
	switch {
	case block.Type == "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = cert.PublicKey
		}
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, wrong(pubout, "is a private key, which does not belong on this machine")
	default:
		return nil, wrong(pubout, "is a %s, want a PUBLIC KEY", block.Type)
	}
	if err != nil {
		return nil, wrong(pubout, "cannot be read: %v", err)
	}
	if k, ok := public.(*rsa.PublicKey); ok && k.N.BitLen() < leastRSA {
		return nil, wrong("make one of 3072 bits", "has %d bits, and one of RSA below %d can be broken", k.N.BitLen(), leastRSA)
	}
	return public, nil
}
