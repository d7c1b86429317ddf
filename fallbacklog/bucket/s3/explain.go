package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"manna/fallbacklog/bucket"
)

// status is that of the server's answer, or 0.
func status(err error) int {
	if e, ok := errors.AsType[minio.ErrorResponse](err); ok {
		return e.StatusCode
	}
	return 0
}

// explain names the bucket and the remedy.
func (b *Bucket) explain(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	remedy, kind := b.diagnose(err)
	switch {
	case kind != nil && remedy != "":
		return fmt.Errorf("%s: %w: %s: %w", b, kind, remedy, err)
	case kind != nil:
		return fmt.Errorf("%s: %w: %w", b, kind, err)
	case remedy != "":
		return fmt.Errorf("%s: %s: %w", b, remedy, err)
	}
	return fmt.Errorf("%s: %w", b, err)
}

// diagnose gives the remedy for an error, and what it is. Either may be nothing.
func (b *Bucket) diagnose(err error) (remedy string, kind error) {
	const keys = "give archive: {access_key, secret_key}, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN where they need one"
	if e, ok := errors.AsType[minio.ErrorResponse](err); ok {
		switch e.Code {
		case "NoSuchBucket":
			return fmt.Sprintf("make the bucket %q, or correct its name in the address", b.address.Bucket), bucket.ErrNoBucket
		case "NoSuchKey":
			return "", bucket.ErrNotFound
		case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidTokenId", "TokenRefreshRequired",
			"XAdminUserNotFound": // versitygw
			return keys, bucket.ErrCredentials
		case "RequestTimeTooSkewed":
			return "set this machine's clock", nil
		case "AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException":
			return "correct region and endpoint in the address", nil
		}
		switch e.StatusCode {
		case http.StatusNotFound:
			// Who does not know the code must not take one that is about us, or about the
			// bucket, for an object that is not there.
			if e.Code != "NotFound" {
				return "", nil
			}
			return "", bucket.ErrNotFound
		case http.StatusUnauthorized:
			return keys, bucket.ErrCredentials
		case http.StatusForbidden:
			if v, failed := b.core.GetCreds(); failed == nil && v.AccessKeyID == "" {
				return "there are none: " + keys, bucket.ErrCredentials
			}
			return "allow s3:ListBucket, s3:GetObject and s3:PutObject", bucket.ErrDenied
		}
		return "", nil
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "correct the endpoint in the address: its name is not known", bucket.ErrUnreachable
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Sprintf("nobody listens at %s: start the server, or correct the endpoint in the address", b.address.Endpoint), bucket.ErrUnreachable
	}
	if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return "the server speaks http: write endpoint=http://" + b.address.Endpoint, bucket.ErrUnreachable
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "", bucket.ErrUnreachable
	}
	return "", nil
}
