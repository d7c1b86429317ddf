package engines

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The credentials of the S3 server, for AWS_ACCESS_KEY_ID and
// AWS_SECRET_ACCESS_KEY, its region and the bucket that it has from the start.
const (
	AccessKey = "manna"
	SecretKey = "manna-local"
	Region    = "us-east-1"
	Bucket    = "manna"
)

// BucketURL is the bucket's URL as gocloud.dev/blob opens it, with the credentials
// in the environment.
func (d *Dir) BucketURL() string {
	return fmt.Sprintf("s3://%s?endpoint=http://%s&region=%s&use_path_style=true", Bucket, d.Addr(S3), Region)
}

func s3() server {
	return server{
		name:    S3,
		install: installVersityGW,
		prepare: func(_ context.Context, d *Dir) (command, error) {
			// Each directory in it is a bucket.
			buckets := d.file("data", S3, "buckets")
			if err := os.MkdirAll(filepath.Join(buckets, Bucket), 0o755); err != nil {
				return command{}, err
			}
			return command{
				path: d.versitygw(),
				// Metadata is in extended attributes, which the file system has to have. Beside
				// the files (--sidecar) it is not replaced together with them: of two that write
				// on condition both can win.
				args: []string{"--quiet", "--port", d.Addr(S3), "--region", Region, "posix", buckets},
				env:  []string{"ROOT_ACCESS_KEY=" + AccessKey, "ROOT_SECRET_KEY=" + SecretKey},
			}, nil
		},
		probe: probeS3,
		quit:  syscall.SIGTERM,
	}
}

// probeS3 lists the bucket.
func probeS3(ctx context.Context, d *Dir) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.Addr(S3)+"/"+Bucket+"?list-type=2&max-keys=1", nil)
	if err != nil {
		return err
	}
	sign(req, time.Now())
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && (resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "<ListBucketResult")) {
		err = fmt.Errorf("it answers %s to a listing: %s", resp.Status, body)
	}
	return err
}

// sign signs a request without a body and with its query in order, by AWS
// signature version 4.
func sign(req *http.Request, now time.Time) {
	now = now.UTC()
	stamp, day := now.Format("20060102T150405Z"), now.Format("20060102")
	payload := hexSHA256("")
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", payload)

	const signed = "host;x-amz-content-sha256;x-amz-date"
	canonical := strings.Join([]string{
		req.Method, req.URL.EscapedPath(), req.URL.RawQuery,
		"host:" + req.URL.Host, "x-amz-content-sha256:" + payload, "x-amz-date:" + stamp, "",
		signed, payload,
	}, "\n")
	scope := day + "/" + Region + "/s3/aws4_request"
	toSign := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hexSHA256(canonical)

	key := []byte("AWS4" + SecretKey)
	for _, part := range []string{day, Region, "s3", "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", AccessKey, scope, signed, key))
}

func hexSHA256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
