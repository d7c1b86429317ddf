package producer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// minSecret is the shortest shared secret in bytes: RFC 7518 wants a key of the
// hash's size.
const minSecret = 32

// key verifies tokens.
type key struct {
	id     string // its kid; empty: any
	public crypto.PublicKey
}

// verifies reports whether the key is of the method's family. A public key must
// never be taken for a shared secret.
func (k key) verifies(m jwt.SigningMethod) bool {
	switch public := k.public.(type) {
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

// parseKeys reads a key file for the algorithms.
func parseKeys(file []byte, algorithms []string) ([]key, error) {
	if len(algorithms) == 0 {
		return nil, errors.New("jwt: no algorithm is configured")
	}
	shared := 0
	for _, name := range algorithms {
		if m := jwt.GetSigningMethod(name); m == nil || name == jwt.SigningMethodNone.Alg() {
			return nil, fmt.Errorf("jwt: %q is no algorithm that is accepted", name)
		}
		if strings.HasPrefix(name, "HS") {
			shared++
		}
	}
	switch shared {
	case 0:
		return parsePublic(file, algorithms)
	case len(algorithms):
		return parseShared(file)
	}
	return nil, errors.New("jwt: shared secrets and public keys are mixed: who knows the public key could sign with it as a secret")
}

func parseShared(file []byte) ([]key, error) {
	if block, _ := pem.Decode(file); block != nil {
		return nil, fmt.Errorf("jwt: the key file holds a %s, want the bytes of a shared secret", block.Type)
	}
	trimmed := bytes.TrimRight(file, "\r\n")
	if len(trimmed) < minSecret {
		return nil, fmt.Errorf("jwt: the secret has %d bytes, want at least %d: openssl rand -hex 32", len(trimmed), minSecret)
	}
	keys := []key{{public: trimmed}}
	if len(trimmed) < len(file) {
		// Whether the last line break belongs to the secret depends on who wrote
		// the file.
		keys = append(keys, key{public: bytes.Clone(file)})
	}
	return keys, nil
}

func parsePublic(file []byte, algorithms []string) ([]key, error) {
	var keys []key
	for {
		var block *pem.Block
		if block, file = pem.Decode(file); block == nil {
			break
		}
		public, err := publicOf(block)
		if err != nil {
			return nil, fmt.Errorf("jwt: key %d of the key file: %w", len(keys)+1, err)
		}
		k := key{id: block.Headers["kid"], public: public}
		if !slices.ContainsFunc(algorithms, func(name string) bool { return k.verifies(jwt.GetSigningMethod(name)) }) {
			return nil, fmt.Errorf("jwt: key %d of the key file, a %T, fits none of the algorithms %v", len(keys)+1, public, algorithms)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("jwt: the key file holds no public key in PEM")
	}
	return keys, nil
}

func publicOf(block *pem.Block) (crypto.PublicKey, error) {
	switch {
	case block.Type == "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, errors.New("is a private key, which does not belong on this machine: openssl pkey -pubout gives the public one")
	}
	return nil, fmt.Errorf("is a %s, want a PUBLIC KEY", block.Type)
}
