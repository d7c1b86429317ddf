package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/minio/minio-go/v7"

	"manna/fallbacklog/bucket"
)

// hungUp is how minio-go begins what it puts in the place of EOF.
const hungUp = "Connection closed by foreign host"

// status is that of the server's answer, or 0.
func status(err error) int {
	if e, ok := errors.AsType[minio.ErrorResponse](err); ok {
		return e.StatusCode
	}
	return 0
}

// explain names the bucket and the remedy.
func (b *Bucket) explain(err error) error { return b.explainStep("", "", err) }

// explainStep also names what was tried, where that is given, and has a remedy for
// an error that is no other's.
func (b *Bucket) explainStep(tried, otherwise string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	remedy, kind := b.diagnose(err)
	if remedy == "" && kind == nil {
		remedy = otherwise
	}
	if request, ok := errors.AsType[*url.Error](err); ok {
		err = request.Err // without the request's address, which tells nobody anything
		if strings.Contains(err.Error(), hungUp) {
			err = io.ErrUnexpectedEOF
		}
	}
	where := b.String()
	if tried != "" {
		where += ": " + tried
	}
	switch {
	case kind != nil && remedy != "":
		return fmt.Errorf("%s: %w: %s: %w", where, kind, remedy, err)
	case kind != nil:
		return fmt.Errorf("%s: %w: %w", where, kind, err)
	case remedy != "":
		return fmt.Errorf("%s: %s: %w", where, remedy, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// diagnose gives the remedy for an error, and what it is. Either may be nothing.
func (b *Bucket) diagnose(err error) (remedy string, kind error) {
	const keys = "give archive: {access_key, secret_key}, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN where they need one"
	if _, ok := errors.AsType[strangeError](err); ok {
		return fmt.Sprintf("what answers at %s is no S3: correct the endpoint in archive: {url}", b.address.Endpoint), nil
	}
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
	return b.diagnoseWay(err)
}

// diagnoseWay does so for an error of the way to the server.
func (b *Bucket) diagnoseWay(err error) (remedy string, kind error) {
	const correct = "correct the endpoint in archive: {url}"
	at := b.address.Endpoint
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		if lookup.IsNotFound {
			return correct + ": its name is not known", bucket.ErrUnreachable
		}
		return "its name cannot be looked up: see this machine's resolver and the network, or " + correct, bucket.ErrUnreachable
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return fmt.Sprintf("%s does not answer in time: start it again, or %s", at, correct), bucket.ErrUnreachable
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Sprintf("nobody listens at %s: start the server, or %s", at, correct), bucket.ErrUnreachable
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Sprintf("this machine does not trust the certificate of %s: give it the authority's, or %s", at, correct), bucket.ErrUnreachable
	}
	if _, ok := errors.AsType[*url.Error](err); !ok {
		return "", nil
	}
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	switch text := err.Error(); {
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return "the server speaks http: write endpoint=http://" + at, bucket.ErrUnreachable
	case noTLS, strings.Contains(text, "malformed HTTP"):
		return fmt.Sprintf("what listens at %s is no S3: %s", at, correct), bucket.ErrUnreachable
	case strings.Contains(text, hungUp), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Sprintf("what listens at %s hangs up: see that it is S3 and well, or %s", at, correct), bucket.ErrUnreachable
	}
	return "", nil
}
