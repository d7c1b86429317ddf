package delivery

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"manna/internal/credential"
)

// signer signs calls by Standard Webhooks 1.0 with HMAC-SHA256. The message id
// is the order id: the same for every repeat of an order, as the specification
// wants it of a message that is sent again.
type signer struct{ key []byte }

// newSigner reads a secret. Its errors never hold the secret.
func newSigner(secret string) (*signer, error) {
	key, err := credential.Secret(secret)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	return &signer{key: key}, nil
}

// sign sets the three headers for a body sent at at.
func (s *signer) sign(h http.Header, id string, at time.Time, body []byte) {
	stamp := strconv.FormatInt(at.Unix(), 10)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", s.signature(id, stamp, body))
}

func (s *signer) signature(id, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
