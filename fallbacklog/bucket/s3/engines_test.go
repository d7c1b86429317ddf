//go:build engines

package s3_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/buckettest"
)

// TestConformanceOnVersityGW runs the suite on a real server, each test with a prefix
// of its own.
func TestConformanceOnVersityGW(t *testing.T) {
	server := buckettest.Start(t, "manna")
	var n atomic.Int32
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		return open(t, server.URL(fmt.Sprintf("manna/test/%d", n.Add(1)), server.Addr))
	})
}

// TestCheckOnVersityGW: each error as a real server gives it.
func TestCheckOnVersityGW(t *testing.T) {
	server := buckettest.Start(t, "manna")
	good := server.URL("manna/check", server.Addr)
	if err := open(t, good).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	fails := func(name, address, want string, is error) {
		t.Helper()
		err := open(t, address).Check(t.Context())
		if !errors.Is(err, is) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
	fails("no bucket", server.URL("other", server.Addr), `make the bucket "other"`, bucket.ErrNoBucket)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	fails("wrong secret", good, "AWS_SECRET_ACCESS_KEY", bucket.ErrCredentials)
	t.Setenv("AWS_ACCESS_KEY_ID", "nobody")
	fails("wrong key", good, "AWS_ACCESS_KEY_ID", bucket.ErrCredentials)
	t.Setenv("AWS_ACCESS_KEY_ID", buckettest.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", buckettest.SecretKey)
	server.Kill()
	server.Up("--readonly")
	fails("read only", good, "s3:PutObject", bucket.ErrDenied)
	server.Kill()
	_, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	fails("nobody listens", good, "nobody listens at 127.0.0.1:"+port, bucket.ErrUnreachable)
}
