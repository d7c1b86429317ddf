package delivery

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// The vector is the one that the Standard Webhooks specification's libraries
// test themselves with.
func TestSignVector(t *testing.T) {
	const secret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	s, err := newSigner("whsec_" + secret)
	if err != nil {
		t.Fatal(err)
	}
	h := make(http.Header)
	s.sign(h, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	for name, want := range map[string]string{
		"webhook-id":        "msg_p5jXN8AQM9LWM0D4loKWxJek",
		"webhook-timestamp": "1614265330",
		"webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestSignRawSecret(t *testing.T) {
	s, err := newSigner("plain key")
	if err != nil || string(s.key) != "plain key" {
		t.Errorf("got %q, %v; want the secret's own bytes", s.key, err)
	}
}

func TestSignRefusesSecret(t *testing.T) {
	for _, secret := range []string{"whsec_not-base64!topsecret", "whsec_"} {
		_, err := newSigner(secret)
		if err == nil {
			t.Errorf("%q: want an error", secret)
		} else if strings.Contains(err.Error(), "topsecret") {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}
