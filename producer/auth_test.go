package producer

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const sharedSecret = "0123456789abcdef0123456789abcdef"

func publicPEM(t *testing.T, public any, kid string) []byte {
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

// token signs claims, with sub u1 and an hour to live unless they say otherwise.
func token(t *testing.T, now time.Time, method jwt.SigningMethod, key any, change ...func(*jwt.Token, jwt.MapClaims)) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "u1", "exp": now.Add(time.Hour).Unix()}
	tok := jwt.NewWithClaims(method, claims)
	for _, c := range change {
		c(tok, claims)
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func with(name string, value any) func(*jwt.Token, jwt.MapClaims) {
	return func(_ *jwt.Token, c jwt.MapClaims) {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
}

func header(name string, value any) func(*jwt.Token, jwt.MapClaims) {
	return func(tok *jwt.Token, _ jwt.MapClaims) { tok.Header[name] = value }
}

func kid(id string) func(*jwt.Token, jwt.MapClaims) { return header("kid", id) }

func openAuthenticated(t *testing.T, opts AuthOptions) *fixture {
	t.Helper()
	return openFixture(t, func(o *Options) {
		opts.Now = o.Now
		var err error
		if o.Auth, err = NewAuth(opts); err != nil {
			t.Fatal(err)
		}
		o.Dev = false
	})
}

func TestTokens(t *testing.T) {
	f := openAuthenticated(t, AuthOptions{JWT: &JWTOptions{Algorithms: []string{"HS256"}, Keys: []byte(sharedSecret + "\n"), Issuer: "accounts", Audience: "gifts", Leeway: 30 * time.Second}})
	now := f.clock.now()
	good := []func(*jwt.Token, jwt.MapClaims){with("iss", "accounts"), with("aud", []string{"x", "gifts"})}
	sign := func(change ...func(*jwt.Token, jwt.MapClaims)) string {
		return token(t, now, jwt.SigningMethodHS256, []byte(sharedSecret), append(good, change...)...)
	}
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"sub": "u1", "exp": now.Add(time.Hour).Unix()}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, header string
		status       int
	}{
		{"good", "Bearer " + sign(), 202},
		{"scheme in lower case", "bearer " + sign(), 200},
		{"within the leeway", "Bearer " + sign(with("exp", now.Add(-29*time.Second).Unix())), 200},
		{"secret with its line break", "Bearer " + token(t, now, jwt.SigningMethodHS256, []byte(sharedSecret+"\n"), good...), 200},
		{"none", "", 401},
		{"another scheme", "Basic dTpw", 401},
		{"no token", "Bearer ", 401},
		{"garbage", "Bearer a.b.c", 401},
		{"expired", "Bearer " + sign(with("exp", now.Add(-31*time.Second).Unix())), 401},
		{"without exp", "Bearer " + sign(with("exp", nil)), 401},
		{"not yet valid", "Bearer " + sign(with("nbf", now.Add(time.Minute).Unix())), 401},
		{"another issuer", "Bearer " + sign(with("iss", "evil")), 401},
		{"another audience", "Bearer " + sign(with("aud", "x")), 401},
		{"without audience", "Bearer " + sign(with("aud", nil)), 401},
		{"without sub", "Bearer " + sign(with("sub", nil)), 401},
		{"sub with a NUL", "Bearer " + sign(with("sub", "a\x00")), 401},
		{"another key", "Bearer " + token(t, now, jwt.SigningMethodHS256, []byte("x"+sharedSecret), good...), 401},
		{"another algorithm", "Bearer " + token(t, now, jwt.SigningMethodHS512, []byte(sharedSecret), good...), 401},
		{"algorithm none", "Bearer " + none, 401},
		{"an extension that is critical", "Bearer " + sign(header("crit", []string{"exp"})), 401},
		{"an extension of RFC 7797", "Bearer " + sign(header("crit", []string{"b64"}), header("b64", true)), 401},
		{"a crit that is empty", "Bearer " + sign(header("crit", []string{})), 401},
		{"a crit that is null", "Bearer " + sign(header("crit", nil)), 401},
		{"another header that nobody knows", "Bearer " + sign(header("x-trace", "1")), 200},
		{"sub that turns the writing", "Bearer " + sign(with("sub", "a\u202eb")), 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := f.call("POST", "/v1/claims", `{"campaign":"spring"}`, "Authorization", c.header)
			if r.status != c.status {
				t.Errorf("got %d %s, want %d", r.status, r.text, c.status)
			}
			if strings.Contains(r.text, sharedSecret) {
				t.Error("the answer holds the secret")
			}
		})
	}
}

func TestPublicKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
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
	rsaPEM := publicPEM(t, rsaKey.Public(), "")
	file := append(append(append([]byte{}, rsaPEM...), publicPEM(t, ecKey.Public(), "ec-1")...), publicPEM(t, edPublic, "ed-1")...)
	f := openAuthenticated(t, AuthOptions{JWT: &JWTOptions{Algorithms: []string{"RS256", "PS256", "ES256", "EdDSA"}, Keys: file}})
	now := f.clock.now()
	for _, c := range []struct {
		name, token string
		status      int
	}{
		{"RS256", token(t, now, jwt.SigningMethodRS256, rsaKey), 202},
		{"RS256 with a kid of nobody", token(t, now, jwt.SigningMethodRS256, rsaKey, kid("x")), 200},
		{"PS256", token(t, now, jwt.SigningMethodPS256, rsaKey), 200},
		{"ES256 by kid", token(t, now, jwt.SigningMethodES256, ecKey, kid("ec-1")), 200},
		{"ES256 without kid", token(t, now, jwt.SigningMethodES256, ecKey), 200},
		{"ES256 with another kid", token(t, now, jwt.SigningMethodES256, ecKey, kid("ed-1")), 401},
		{"EdDSA", token(t, now, jwt.SigningMethodEdDSA, edKey, kid("ed-1")), 200},
		{"RS512, which is not pinned", token(t, now, jwt.SigningMethodRS512, rsaKey), 401},
		{"the public key as a shared secret", token(t, now, jwt.SigningMethodHS256, rsaPEM), 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := f.call("POST", "/v1/claims", `{"campaign":"spring"}`, "Authorization", "Bearer "+c.token)
			if r.status != c.status {
				t.Errorf("got %d %s, want %d", r.status, r.text, c.status)
			}
		})
	}
}

func TestWeakOrMalformedCredentialsAreRefused(t *testing.T) {
	for name, o := range map[string]AuthOptions{
		"a short secret of tokens":   {JWT: &JWTOptions{Algorithms: []string{"HS256"}, Keys: []byte("tops3cret")}},
		"a key that is none":         {JWT: &JWTOptions{Algorithms: []string{"RS256"}, Keys: []byte("tops3cret")}},
		"a secret that is no base64": {Callers: map[string]string{"x": "whsec_tops3cret*"}},
		"a short secret of a caller": {Callers: map[string]string{"x": "tops3cret"}},
	} {
		if _, err := NewAuth(o); err == nil || strings.Contains(err.Error(), "tops3cret") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestUsersSeeOnlyTheirOwn(t *testing.T) {
	f := openAuthenticated(t, AuthOptions{JWT: &JWTOptions{Algorithms: []string{"HS256"}, Keys: []byte(sharedSecret)}})
	as := func(user string) []string {
		return []string{"Authorization", "Bearer " + token(t, f.clock.now(), jwt.SigningMethodHS256, []byte(sharedSecret), with("sub", user))}
	}
	r := f.call("POST", "/v1/claims", `{"campaign":"spring","user":"u1"}`, as("u1")...)
	want(t, "own claim", r.status, 202)
	claim := r.body["claim_id"].(string)
	order := r.body["orders"].([]any)[0].(map[string]any)["order_id"].(string)
	for _, c := range []struct {
		method, path, body string
		own, other         int
	}{
		{"POST", "/v1/claims", `{"campaign":"spring","user":"u1"}`, 200, 403},
		{"POST", "/v1/claims/batch", `{"claims":[{"campaign":"spring","user":"u1"}]}`, 403, 403},
		{"GET", "/v1/claims/" + claim, "", 200, 404},
		{"GET", "/v1/orders/" + order, "", 200, 404},
		{"GET", "/v1/users/u1/claims", "", 200, 403},
		{"POST", "/v1/claims/" + claim + "/settle", "", 202, 404},
	} {
		want(t, c.method+" "+c.path+" by its user", f.call(c.method, c.path, c.body, as("u1")...).status, c.own)
		want(t, c.method+" "+c.path+" by another", f.call(c.method, c.path, c.body, as("u2")...).status, c.other)
		r := f.call(c.method, c.path, c.body)
		want(t, c.method+" "+c.path+" by nobody", r.status, 401)
		if r.header.Get("WWW-Authenticate") == "" {
			t.Error("no WWW-Authenticate")
		}
	}
	// New keys take effect at once.
	next, err := NewAuth(AuthOptions{JWT: &JWTOptions{Algorithms: []string{"HS256"}, Keys: []byte("y" + sharedSecret)}, Now: f.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	f.ReloadAuth(next)
	want(t, "after new keys", f.call("GET", "/v1/claims/"+claim, "", as("u1")...).status, 401)
}

func TestSignedCallers(t *testing.T) {
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte(sharedSecret))
	f := openAuthenticated(t, AuthOptions{Callers: map[string]string{"shop": secret, "raw": "a plain secret of 24 bytes"}})
	const body = `{"campaign":"spring","user":"u1"}`
	sign := func(name, key string, at time.Time, body string) []string {
		stamp := fmt.Sprint(at.Unix())
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte("msg_1." + stamp + "." + body))
		return []string{"Manna-Caller", name, "webhook-id", "msg_1", "webhook-timestamp", stamp,
			"webhook-signature", "v1a,x v1,bm9uZQ== v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}
	}
	now := f.clock.now()
	for _, c := range []struct {
		name, path, body string
		headers          []string
		status           int
	}{
		{"good", "/v1/claims", body, sign("shop", sharedSecret, now, body), 202},
		{"plain secret", "/v1/claims", body, sign("raw", "a plain secret of 24 bytes", now, body), 200},
		{"batch", "/v1/claims/batch", `{"claims":[` + body + `]}`, sign("shop", sharedSecret, now, `{"claims":[`+body+`]}`), 200},
		{"no user", "/v1/claims", `{"campaign":"spring"}`, sign("shop", sharedSecret, now, `{"campaign":"spring"}`), 400},
		{"another body", "/v1/claims", strings.Replace(body, "u1", "u2", 1), sign("shop", sharedSecret, now, body), 401},
		{"another key", "/v1/claims", body, sign("shop", "x", now, body), 401},
		{"another caller", "/v1/claims", body, sign("evil", sharedSecret, now, body), 401},
		{"old", "/v1/claims", body, sign("shop", sharedSecret, now.Add(-301*time.Second), body), 401},
		{"from the future", "/v1/claims", body, sign("shop", sharedSecret, now.Add(301*time.Second), body), 401},
		{"at the edge", "/v1/claims", body, sign("shop", sharedSecret, now.Add(-300*time.Second), body), 200},
		{"no signature", "/v1/claims", body, []string{"Manna-Caller", "shop"}, 401},
		{"no time", "/v1/claims", body, []string{"Manna-Caller", "shop", "webhook-id", "a", "webhook-timestamp", "now", "webhook-signature", "v1,x"}, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := f.call("POST", c.path, c.body, c.headers...)
			if r.status != c.status {
				t.Errorf("got %d %s, want %d", r.status, r.text, c.status)
			}
		})
	}
	r := f.call("GET", "/v1/users/u1/claims", "", sign("shop", sharedSecret, now, "")...)
	want(t, "reads everything", r.status, 200)
	want(t, "claims", len(r.body["claims"].([]any)), 1)
}
