package config

import "strings"

// algorithms are the signatures that a JWT may carry. "none" is not one.
var algorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
}

// shortSecret is the length in bytes below which a secret can be guessed.
const shortSecret = 16

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

// needSecret reads the key secret, which must be there.
func (o *object) needSecret(into *Secret) {
	if _, ok := o.need("secret", `write secret: "${NAME_OF_A_VARIABLE}"`); !ok {
		return
	}
	if o.secret("secret", into) {
		o.secretWarnings(*into)
	}
}

func (o *object) secretWarnings(s Secret) {
	v := o.place("secret")
	if len(s) < shortSecret {
		v.warn("make a longer one: openssl rand -hex 32", "is shorter than %d characters and can be guessed", shortSecret)
	}
	if _, variable := o.doc.written[v.key]; !variable {
		v.warn(`write secret: "${NAME_OF_A_VARIABLE}" and set the variable`, "stands in the file itself, where everyone who reads the file reads it")
	}
}

func (j *JWT) read(o *object) {
	const want = "write the accepted ones in brackets: [RS256]"
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
		}
	}
	if v, ok := o.need("key_file", "write key_file: and the path of the public key in PEM (of HS…: of the secret)"); ok {
		v.existing(&j.KeyFile)
	}
	o.text("issuer", &j.Issuer)
	o.text("audience", &j.Audience)
}
