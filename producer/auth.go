package producer

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"manna/gift"
	"manna/internal/credential"
)

// AuthOptions say who may call.
type AuthOptions struct {
	JWT *JWTOptions // nil: no tokens are taken
	// Callers are servers that name the user in the body, with their secrets as
	// credential.Secret reads them.
	Callers map[string]string
	Now     func() time.Time // default time.Now
}

// JWTOptions say which tokens are taken; the package comment says what else a
// token needs.
type JWTOptions struct {
	Algorithms []string // HS…, or any of RS…, PS…, ES… and EdDSA; never both
	// Keys is the content of the key file, which credential.Keys reads. A key with
	// a name is used for tokens with that kid; the others are tried in turn.
	Keys     []byte
	Issuer   string // required in tokens where it is set
	Audience string // likewise
	// Leeway is how far the clocks of issuers may be off: so long a token is taken
	// after its exp and before its nbf.
	Leeway time.Duration
}

// Auth tells who calls. It is immutable and safe for concurrent use.
type Auth struct {
	keys    []credential.Key
	parser  *jwt.Parser
	callers map[string][]byte
	now     func() time.Time
}

// NewAuth checks keys and secrets. Its errors never hold one.
func NewAuth(opts AuthOptions) (*Auth, error) {
	a := &Auth{callers: make(map[string][]byte, len(opts.Callers)), now: opts.Now}
	if a.now == nil {
		a.now = time.Now
	}
	for name, secret := range opts.Callers {
		key, err := credential.Secret(secret)
		if err == nil {
			err = credential.Strong(key)
		}
		if err != nil {
			return nil, fmt.Errorf("secret of caller %s: %w", name, err)
		}
		a.callers[name] = key
	}
	if opts.JWT == nil {
		return a, nil
	}
	var err error
	if a.keys, err = credential.Keys(opts.JWT.Keys, opts.JWT.Algorithms); err != nil {
		return nil, fmt.Errorf("key file of tokens: %w", err)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(opts.JWT.Algorithms), jwt.WithExpirationRequired(), jwt.WithLeeway(opts.JWT.Leeway), jwt.WithTimeFunc(a.now),
	}
	if opts.JWT.Issuer != "" {
		options = append(options, jwt.WithIssuer(opts.JWT.Issuer))
	}
	if opts.JWT.Audience != "" {
		options = append(options, jwt.WithAudience(opts.JWT.Audience))
	}
	a.parser = jwt.NewParser(options...)
	return a, nil
}

// caller is who sent a request.
type caller struct {
	// user is whose claims alone may be made and read; empty where the caller
	// speaks for all users.
	user string
}

// may reports whether the caller speaks for the user.
func (c caller) may(user string) bool { return c.user == "" || c.user == user }

// identify tells who calls. Where the request is signed, the caller counts only
// once the signature has been checked against the body.
func (a *Auth) identify(h http.Header) (caller, *signature, error) {
	if name := h.Get("Manna-Caller"); name != "" {
		s, err := a.signatureOf(name, h)
		return caller{}, s, err
	}
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if a.parser == nil || !strings.EqualFold(scheme, "Bearer") {
		return caller{}, nil, gift.Errorf(gift.Unauthenticated, "send a token in the header Authorization: Bearer TOKEN, or sign the request as a registered caller")
	}
	user, err := a.userOf(strings.TrimSpace(token))
	return caller{user: user}, nil, err
}

// userOf verifies a token and gives its user.
func (a *Auth) userOf(token string) (string, error) {
	var claims jwt.RegisteredClaims
	if _, err := a.parser.ParseWithClaims(token, &claims, a.keysFor); err != nil {
		return "", gift.Errorf(gift.Unauthenticated, "%s", tokenProblem(err))
	}
	if err := gift.CheckUser(claims.Subject); err != nil {
		return "", gift.Errorf(gift.Unauthenticated, "the token's sub %v", err)
	}
	return claims.Subject, nil
}

// errCritical: RFC 7515, 4.1.11: a token says by its crit header that who does not
// understand certain other headers must not take it. Here none is understood, and
// a crit that is malformed makes the token as invalid.
var errCritical = errors.New("the token has a crit header, and no extension is understood here")

// keysFor picks the keys that may have signed the token: those of its algorithm,
// and of its kid where one has that name.
func (a *Auth) keysFor(token *jwt.Token) (any, error) {
	if _, ok := token.Header["crit"]; ok {
		return nil, errCritical
	}
	kid, _ := token.Header["kid"].(string)
	var set, named jwt.VerificationKeySet
	for _, k := range a.keys {
		if !k.Verifies(token.Method) {
			continue
		}
		if k.ID != "" && k.ID == kid {
			named.Keys = append(named.Keys, k.Public)
		}
		if k.ID == "" || kid == "" {
			set.Keys = append(set.Keys, k.Public)
		}
	}
	if len(named.Keys) > 0 {
		return named, nil
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("no key has this kid")
	}
	return set, nil
}

// tokenProblem says what is wrong with a token.
func tokenProblem(err error) string {
	for _, known := range []struct {
		err  error
		says string
	}{
		{errCritical, errCritical.Error()},
		{jwt.ErrTokenMalformed, "this is no JSON Web Token"},
		{jwt.ErrTokenUnverifiable, "no key is known that could have signed the token"},
		{jwt.ErrTokenSignatureInvalid, "the token's signature or its algorithm is not one that is accepted here"},
		{jwt.ErrTokenExpired, "the token has expired"},
		{jwt.ErrTokenNotValidYet, "the token is not valid yet"},
		{jwt.ErrTokenRequiredClaimMissing, "the token lacks a claim: sub and exp are needed, iss and aud where they are configured"},
		{jwt.ErrTokenInvalidIssuer, "the token's iss is not the one accepted here"},
		{jwt.ErrTokenInvalidAudience, "the token's aud is not the one accepted here"},
	} {
		if errors.Is(err, known.err) {
			return known.says
		}
	}
	return "the token is not valid"
}
