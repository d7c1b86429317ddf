package config

import (
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"manna/internal/credential"
)

// algorithms are the signatures that a JWT may carry. "none" is not one.
var algorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
}

const (
	// maxKeyFile bounds the bytes of a key file.
	maxKeyFile = 1 << 20
	// defaultLeeway is for clocks that NTP keeps, with room to spare.
	defaultLeeway = 30 * time.Second
	maxLeeway     = 5 * time.Minute
)

func (c *Config) readAuth(o *object) {
	o.sub("auth", func(o *object) {
		o.sub("jwt", func(o *object) {
			c.Auth.JWT = &JWT{}
			c.Auth.JWT.read(o)
		})
		o.sub("callers", func(o *object) {
			o.named(func(name string, v value) {
				caller := Caller{Name: name}
				if o, ok := v.object(`write {secret: "${NAME_OF_A_VARIABLE}"}`); ok {
					o.needSecret(&caller.Secret)
					o.done()
				}
				c.Auth.Callers = append(c.Auth.Callers, caller)
			})
		})
	})
}

// needSecret reads the key secret, which must be there and strong: whoever has it
// may claim for everybody.
func (o *object) needSecret(into *Secret) {
	if _, ok := o.need("secret", `write secret: "${NAME_OF_A_VARIABLE}"`); !ok {
		return
	}
	if key, ok := o.signing(into); ok {
		o.place("secret").credential(credential.Strong(key))
	}
}

// signing reads the key secret, which signs requests, and gives its bytes.
func (o *object) signing(into *Secret) (key []byte, ok bool) {
	if !o.secret("secret", into) {
		return nil, false
	}
	v := o.place("secret")
	if _, variable := o.doc.written[v.key]; !variable {
		v.warn(`write secret: "${NAME_OF_A_VARIABLE}" and set the variable`, "stands in the file itself, where everyone who reads the file reads it")
	}
	key, err := credential.Secret(string(*into))
	return key, v.credential(err)
}

// credential reports what package credential says is wrong with a value.
func (v value) credential(err error) bool {
	if e, ok := errors.AsType[*credential.Error](err); ok {
		v.fail(e.Remedy, "%s", e.Problem)
	}
	return err == nil
}

func (j *JWT) read(o *object) {
	const want = "write the accepted ones in brackets: [RS256]"
	mixed := false
	if v, ok := o.need("algorithms", want); ok {
		values, ok := v.list(want)
		if ok && len(values) == 0 {
			v.fail(want, "is an empty list")
		}
		symmetric := 0
		for _, e := range values {
			var s string
			if e.word(&s, algorithms...) {
				j.Algorithms = append(j.Algorithms, s)
				if strings.HasPrefix(s, "HS") {
					symmetric++
				}
			}
		}
		if symmetric > 0 && symmetric < len(j.Algorithms) {
			v.fail("write HS… alone or none of them", "mixes shared secrets with public keys: who knows the public key could sign with it as a secret")
			mixed = true
		}
	}
	if v, ok := o.need("key_file", "write key_file: and the path of the public key in PEM (of HS…: of the secret)"); ok && v.existing(&j.KeyFile) && len(j.Algorithms) > 0 && !mixed {
		v.keys(j)
	}
	o.text("issuer", &j.Issuer)
	o.text("audience", &j.Audience)
	j.Leeway = defaultLeeway
	o.duration("leeway", &j.Leeway, 0, maxLeeway)
}

// keys looks whether the key file holds what the algorithms need.
func (v value) keys(j *JWT) {
	f, err := os.Open(j.KeyFile)
	if err != nil {
		v.unreadable(j.KeyFile, err)
		return
	}
	defer f.Close()
	file, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	switch {
	case err != nil:
		v.unreadable(j.KeyFile, err)
	case len(file) > maxKeyFile:
		v.fail("name the file with the key alone", "is larger than %s", Size(maxKeyFile))
	default:
		_, err := credential.Keys(file, j.Algorithms)
		v.credential(err)
	}
}
