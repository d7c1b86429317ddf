// Package engine opens a bucket by its URL:
//
//	file:///var/lib/manna/archive   a directory of this machine
//	s3://bucket/prefix?endpoint=…   S3; see package s3 for its parameters
package engine

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/directory"
	"manna/fallbacklog/bucket/s3"
	"manna/internal/disk"
)

// New makes the bucket at a URL; keys are for S3. It asks nobody and touches nothing, so that it also
// tells whether a URL is one.
func New(address string, keys s3.Keys) (bucket.Bucket, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the address of the bucket does not read as a URL: want file:///a/directory or s3://a-bucket")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || u.User != nil || len(u.Path) < 2 || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("%s: want file:/// and an absolute path, like file:///var/lib/manna/archive", u.Redacted())
		}
		return directory.New(disk.OS{}, u.Path), nil
	case "s3":
		b, err := s3.New(address, keys)
		if err != nil {
			return nil, err
		}
		return b, nil
	case "gs":
		return nil, fmt.Errorf("%s: Google Cloud Storage is reached through its S3 interoperability: s3://%s?endpoint=https://storage.googleapis.com with an HMAC key", u.Redacted(), u.Host)
	case "azblob":
		return nil, fmt.Errorf("%s: this build has no Azure Blob Storage: use file:// or s3://", u.Redacted())
	}
	return nil, fmt.Errorf("%s: want file:///a/directory or s3://a-bucket", u.Redacted())
}

// Open makes the bucket at a URL and checks that it is there and can be written. The
// error names the remedy; see bucket.Bucket's Check.
func Open(ctx context.Context, address string, keys s3.Keys) (bucket.Bucket, error) {
	b, err := New(address, keys)
	if err != nil {
		return nil, err
	}
	if err := b.Check(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}
