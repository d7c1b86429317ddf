package delivery

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// secretPrefix marks a Standard Webhooks secret: base64 follows. Anything else
// is taken as the key's own bytes.
const secretPrefix = "whsec_"

// signer signs calls by Standard Webhooks 1.0 with HMAC-SHA256. The message id
// is the order id: the same for every repeat of an order, as the specification
// wants it of a message that is sent again.
type signer struct{ key []byte }

// newSigner reads a secret. Its errors never hold the secret.
func newSigner(secret string) (*signer, error) {
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok {
		return &signer{key: []byte(secret)}, nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("secret: what follows %q is not base64", secretPrefix)
	}
	if len(key) == 0 {
		return nil, errors.New("secret: nothing follows " + secretPrefix)
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
