package credential

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
)

// leak is what no error may hold.
const leak = "tops3cret"

// refused wants an error with a problem that says word, and with a remedy.
func refused(t *testing.T, name string, err error, word string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Remedy == "" || !strings.Contains(e.Problem, word) {
		t.Errorf("%s: got %v, want an Error that says %q", name, err, word)
	}
	if err != nil && strings.Contains(err.Error(), leak) {
		t.Errorf("%s: the error shows the secret: %v", name, err)
	}
}

func TestSecret(t *testing.T) {
	encode := func(key string) string { return "whsec_" + base64.StdEncoding.EncodeToString([]byte(key)) }
	long := strings.Repeat("k", leastSecret)
	for text, want := range map[string]string{encode(long): long, encode("k"): "k", long: long, "a plain one": "a plain one"} {
		got, err := Secret(text)
		if err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	for text, word := range map[string]string{
		"": "is empty", "whsec_": "not base64", "whsec_" + leak + "*": "not base64", strings.TrimSuffix(encode(leak+"k"), "="): "not base64",
	} {
		_, err := Secret(text)
		refused(t, text, err, word)
	}
	if err := Strong([]byte(long)); err != nil {
		t.Error(err)
	}
	refused(t, "a short key", Strong([]byte(leak)), "has 9 bytes")
}

// inPEM encodes a public key, with a name where it has one.
func inPEM(t *testing.T, public any, kid string) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "PUBLIC KEY", Bytes: der}
	if kid != "" {
		block.Headers = map[string]string{"kid": kid}
	}
	return pem.EncodeToMemory(block)
}

func TestKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, leastRSA)
	if err != nil {
		t.Fatal(err)
	}
	// Its modulus is all that is looked at.
	weakRSA := inPEM(t, &rsa.PublicKey{N: rsaKey.N.Rsh(rsaKey.N, 1024), E: 65537}, "")
	if rsaKey, err = rsa.GenerateKey(rand.Reader, leastRSA); err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(edKey)
	if err != nil {
		t.Fatal(err)
	}
	ec, ed := inPEM(t, ecKey.Public(), "ec-1"), inPEM(t, edPublic, "")
	three := bytes.Join([][]byte{inPEM(t, rsaKey.Public(), ""), ec, ed}, []byte("between them\n"))
	secret := func(n int) []byte { return bytes.Repeat([]byte("k"), n) }

	for _, c := range []struct {
		name       string
		file       []byte
		algorithms string
		keys       int
		refused    string
	}{
		{"three keys", three, "RS256 ES256 EdDSA", 3, ""},
		{"a secret", secret(32), "HS256", 1, ""},
		{"a secret and its line break", append(secret(32), '\n'), "HS256", 2, ""},
		{"a secret for the largest hash", secret(64), "HS256 HS512", 1, ""},
		{"no algorithm", three, "", 0, "no algorithm"},
		{"algorithm none", three, "none", 0, "none"},
		{"unknown algorithm", three, "XX1", 0, "XX1"},
		{"families mixed", secret(64), "HS256 RS256", 0, "mixed"},
		{"short secret", []byte(leak), "HS256", 0, "9 bytes"},
		{"short by one", append(secret(31), '\n'), "HS256", 0, "31 bytes"},
		{"secret of another hash", secret(63), "HS512", 0, "at least 64"},
		{"no secret at all", nil, "HS256", 0, "0 bytes"},
		{"PEM as a secret", ed, "HS256", 0, "PUBLIC KEY"},
		{"secret as PEM", secret(64), "RS256", 0, "no public key"},
		{"key of no algorithm", three, "RS256 EdDSA", 0, "key 2"},
		{"a curve of another algorithm", ec, "ES512", 0, "key 1"},
		{"private key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "EdDSA", 0, "private"},
		{"another block", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: private}), "EdDSA", 0, "X509 CRL"},
		{"a cut key", ed[:len(ed)/2], "EdDSA", 0, "0 keys in PEM of 1"},
		{"a damaged key behind a good one", append(bytes.Clone(ed), bytes.Replace(ec, []byte("M"), []byte("*"), 1)...), "ES256 EdDSA", 0, "1 keys in PEM of 2"},
		{"a key that is none", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte(leak)}), "EdDSA", 0, "cannot be read"},
		{"a weak key", weakRSA, "RS256", 0, "1024 bits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys, err := Keys(c.file, strings.Fields(c.algorithms))
			if c.refused != "" {
				refused(t, c.name, err, c.refused)
			} else if err != nil || len(keys) != c.keys {
				t.Errorf("got %d keys, %v; want %d", len(keys), err, c.keys)
			}
		})
	}
	keys, err := Keys(three, []string{"RS256", "ES256", "EdDSA"})
	if err != nil || keys[1].ID != "ec-1" || keys[0].ID != "" {
		t.Errorf("got %+v, %v", keys, err)
	}
}
