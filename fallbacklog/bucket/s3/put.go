package s3

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/minio/minio-go/v7"

	"manna/fallbacklog/bucket"
)

// maxObject is the most that one PUT may carry.
const maxObject = 5 << 30

// Put implements bucket.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, c bucket.Content) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	there, err := b.has(ctx, key, c)
	if !errors.Is(err, bucket.ErrNotFound) {
		return b.conflict(key, there, err)
	}
	var free minio.PutObjectOptions
	free.SetMatchETagExcept("*")
	return b.store(ctx, key, c, free)
}

// Replace implements bucket.Bucket.
func (b *Bucket) Replace(ctx context.Context, key string, old bucket.Sum, c bucket.Content) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	// Read, and not asked for: what was read and its tag belong together.
	r, info, err := b.get(ctx, key, 0, -1)
	if errors.Is(err, bucket.ErrNotFound) {
		return fmt.Errorf("%s: %s: %w: what is to be replaced is gone", b, key, bucket.ErrConflict)
	}
	if err != nil {
		return err
	}
	sum, _, err := bucket.ReadSum(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	if sum == c.Sum || sum != old {
		return b.conflict(key, sum == c.Sum, nil)
	}
	var same minio.PutObjectOptions
	same.SetMatchETag(info.ETag)
	return b.store(ctx, key, c, same)
}

// conflict is what the caller is told of what a key has: nothing where that is the
// content.
func (b *Bucket) conflict(key string, there bool, err error) error {
	if err == nil && !there {
		return fmt.Errorf("%s: %s: %w", b, key, bucket.ErrConflict)
	}
	return err
}

// store sends a content under a condition, and looks at what the server has then.
func (b *Bucket) store(ctx context.Context, key string, c bucket.Content, opts minio.PutObjectOptions) error {
	if b.unconditional.Load() {
		opts = minio.PutObjectOptions{}
	}
	_, err := b.put(ctx, b.address.Prefix+key, c, opts)
	if status(err) == http.StatusNotImplemented && !b.unconditional.Swap(true) {
		_, err = b.put(ctx, b.address.Prefix+key, c, minio.PutObjectOptions{})
	}
	switch status(err) {
	case http.StatusPreconditionFailed, http.StatusConflict:
		// Also where an earlier try has stored it, and its answer was lost.
		there, err := b.has(ctx, key, c)
		return b.conflict(key, there, err)
	}
	if err != nil {
		return b.explain(err)
	}
	there, err := b.has(ctx, key, c)
	if err == nil && !there {
		err = fmt.Errorf("%s: %s: %w: the server took an object and has another one", b, key, bucket.ErrConflict)
	}
	return err
}

// put is one PUT. Commit point: the server has the object once it has answered.
func (b *Bucket) put(ctx context.Context, name string, c bucket.Content, opts minio.PutObjectOptions) (minio.UploadInfo, error) {
	if c.Size > maxObject {
		return minio.UploadInfo{}, fmt.Errorf("%s: an object of %d bytes is larger than one request may be", name, c.Size)
	}
	opts.DisableContentSha256 = true // not another one of each chunk: that of all is known
	opts.UserMetadata = map[string]string{"x-amz-checksum-sha256": checksum(c.Sum)}
	return b.core.PutObject(ctx, b.address.Bucket, name, c.Reader(), c.Size, "", c.Sum.String(), opts)
}

// has tells whether an object is this content: by the checksum that the server keeps,
// else by reading it. It fails with ErrNotFound.
func (b *Bucket) has(ctx context.Context, key string, c bucket.Content) (bool, error) {
	o, err := b.stat(ctx, key)
	if err != nil || o.Size != c.Size {
		return false, err
	}
	if o.ChecksumSHA256 != "" {
		return o.ChecksumSHA256 == checksum(c.Sum), nil
	}
	r, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return false, err
	}
	defer r.Close()
	sum, _, err := bucket.ReadSum(r)
	return sum == c.Sum, err
}

func checksum(s bucket.Sum) string { return base64.StdEncoding.EncodeToString(s[:]) }

func byteRange(from, to int64) string {
	if to < 0 {
		return "bytes=" + strconv.FormatInt(from, 10) + "-"
	}
	return "bytes=" + strconv.FormatInt(from, 10) + "-" + strconv.FormatInt(to, 10)
}
