package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"manna/fallbacklog/bucket"
)

// Bucket is a bucket behind S3.
type Bucket struct {
	address   Address
	core      minio.Core
	transport *http.Transport
	// unconditional: the server has said that it does not know conditional requests.
	unconditional atomic.Bool
}

var _ bucket.Bucket = (*Bucket)(nil)

// tries is how often a request is made that fails for a passing reason.
const tries = 5

// Keys are credentials. Where they are empty, the package comment says where others
// are looked for.
type Keys struct{ Access, Secret string }

// New makes a bucket at an address. It asks nobody: Check does.
func New(address string, keys Keys) (*Bucket, error) {
	a, err := Parse(address)
	if err != nil {
		return nil, err
	}
	region := a.Region
	if region == "" && a.Endpoint != amazon {
		region = "us-east-1" // what servers take that have no regions
	}
	b := &Bucket{address: a, transport: newTransport()}
	b.core.Client, err = minio.New(a.Endpoint, &minio.Options{
		Creds:  chain(keys, a.Profile),
		Secure: !a.Insecure, Region: region, BucketLookup: a.Lookup, Transport: b.transport, MaxRetries: tries,
	})
	if err != nil {
		return nil, b.explain(err)
	}
	return b, nil
}

// chain is where credentials are looked for, in this order.
func chain(keys Keys, profile string) *credentials.Credentials {
	if keys != (Keys{}) {
		return credentials.NewStaticV4(keys.Access, keys.Secret, "")
	}
	file := &credentials.FileAWSCredentials{Profile: profile}
	// It is on this machine, and Check has to have time for more.
	role := &credentials.IAM{Client: &http.Client{Timeout: time.Second}}
	if profile != "" { // asked for by name
		return credentials.New(file)
	}
	return credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, file, role})
}

func (b *Bucket) String() string { return b.address.String() }

// Close implements bucket.Bucket.
func (b *Bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// Get implements bucket.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := bucket.CheckKey(key); err != nil {
		return nil, err
	}
	r, _, err := b.get(ctx, key, offset, length)
	return r, err
}

func (b *Bucket) get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, minio.ObjectInfo, error) {
	var opts minio.GetObjectOptions
	switch {
	case length == 0:
		info, err := b.stat(ctx, key)
		return io.NopCloser(bytes.NewReader(nil)), info, err
	case length > 0:
		opts.Set("Range", byteRange(offset, offset+length-1))
	case offset > 0:
		opts.Set("Range", byteRange(offset, -1))
	}
	r, info, _, err := b.core.GetObject(ctx, b.address.Bucket, b.address.Prefix+key, opts)
	if e, ok := errors.AsType[minio.ErrorResponse](err); ok && e.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return io.NopCloser(bytes.NewReader(nil)), info, nil
	}
	if err != nil {
		return nil, info, b.explain(err)
	}
	return &body{ReadCloser: r, bucket: b}, info, nil
}

// body explains what goes wrong while an object is read.
type body struct {
	io.ReadCloser
	bucket *Bucket
}

func (r *body) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = r.bucket.explain(err)
	}
	return n, err
}

// Stat implements bucket.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (bucket.Info, error) {
	if err := bucket.CheckKey(key); err != nil {
		return bucket.Info{}, err
	}
	o, err := b.stat(ctx, key)
	return bucket.Info{Key: key, Size: o.Size, Changed: o.LastModified}, err
}

// stat asks for the checksum too.
func (b *Bucket) stat(ctx context.Context, key string) (minio.ObjectInfo, error) {
	o, err := b.core.StatObject(ctx, b.address.Bucket, b.address.Prefix+key, minio.StatObjectOptions{Checksum: true})
	return o, b.explain(err)
}

// List implements bucket.Bucket.
func (b *Bucket) List(ctx context.Context, folder string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		if err := bucket.CheckFolder(folder); err != nil {
			yield(bucket.Info{}, err)
			return
		}
		for o := range b.core.ListObjectsIter(ctx, b.address.Bucket, minio.ListObjectsOptions{Prefix: b.address.Prefix + folder}) {
			if o.Err != nil {
				yield(bucket.Info{}, b.explain(o.Err))
				return
			}
			key := strings.TrimPrefix(o.Key, b.address.Prefix)
			if key == folder || !bucket.Listed(path.Base(key)) {
				continue
			}
			info := bucket.Info{Key: key, Size: o.Size, Changed: o.LastModified}
			if strings.HasSuffix(key, "/") {
				info = bucket.Info{Key: key}
			}
			if !yield(info, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(bucket.Info{}, err)
		}
	}
}
