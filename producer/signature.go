package producer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"manna/gift"
)

// signedWithin is how old, or how far ahead, a signed request may be.
const signedWithin = 5 * time.Minute

// signature is that of a registered caller's request, as Standard Webhooks 1.0
// has it: webhook-signature is a list of "v1," and the base64 of
// HMAC-SHA256(secret, "webhook-id.webhook-timestamp.body"). Manna-Caller names
// the caller. It says nothing of the path: it is meant for connections that
// nobody listens to, and a repeat of what it signs is harmless.
type signature struct {
	secret     []byte
	prefix     string // what is signed before the body
	signatures string
}

// signatureOf reads the headers of a signed request.
func (a *Auth) signatureOf(name string, h http.Header) (*signature, error) {
	secret, ok := a.callers[name]
	if !ok {
		return nil, gift.Errorf(gift.Unauthenticated, "no caller is registered as %s", quoted(name))
	}
	id, stamp, signatures := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature")
	if id == "" || stamp == "" || signatures == "" {
		return nil, gift.Errorf(gift.Unauthenticated, "a signed request has the headers webhook-id, webhook-timestamp and webhook-signature")
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return nil, gift.Errorf(gift.Unauthenticated, "webhook-timestamp %s is no time in Unix seconds", quoted(stamp))
	}
	if age := a.now().Sub(time.Unix(seconds, 0)).Abs(); age > signedWithin {
		return nil, gift.Errorf(gift.Unauthenticated, "webhook-timestamp is more than %v away from this machine's time", signedWithin)
	}
	return &signature{secret: secret, prefix: id + "." + stamp + ".", signatures: signatures}, nil
}

// verify checks the signature of a body.
func (s *signature) verify(body string) error {
	mac := hmac.New(sha256.New, s.secret)
	// Writing to a hash does not fail.
	_, _ = io.WriteString(mac, s.prefix)
	_, _ = io.WriteString(mac, body)
	want := mac.Sum(nil)
	for one := range strings.FieldsSeq(s.signatures) {
		encoded, ok := strings.CutPrefix(one, "v1,")
		if !ok {
			continue
		}
		if got, err := base64.StdEncoding.DecodeString(encoded); err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return gift.Errorf(gift.Unauthenticated, "webhook-signature does not fit the request")
}
