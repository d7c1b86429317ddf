package s3

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"

	"manna/fallbacklog/bucket"
)

func TestNameThatIsNotFound(t *testing.T) {
	b := &Bucket{address: Address{Endpoint: "s3.example:9000"}}
	for want, why := range map[string]*net.DNSError{
		"its name is not known":         {Err: "no such host", IsNotFound: true},
		"its name cannot be looked up:": {Err: "i/o timeout", IsTimeout: true},
	} {
		remedy, kind := b.diagnose(&url.Error{Op: "Get", URL: "http://s3.example:9000", Err: &net.OpError{Op: "dial", Err: why}})
		if !strings.Contains(remedy, want) || !errors.Is(kind, bucket.ErrUnreachable) {
			t.Errorf("%v: %q, %v; want %q", why, remedy, kind, want)
		}
	}
}
