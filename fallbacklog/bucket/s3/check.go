package s3

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7"

	"manna/fallbacklog/bucket"
)

const (
	// probe is the object of Check, and probed its content. It always has the same name
	// and content: where removing is denied, one of it stays.
	probe, probed = ".probe", "manna"
	// checkWithin bounds Check, which somebody waits for.
	checkWithin = 5 * time.Second
)

// Check implements bucket.Bucket. It takes no longer than 5 seconds, and its error
// also says which step it is of.
func (b *Bucket) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, checkWithin, errSilent)
	defer cancel()
	name := b.address.Prefix + probe
	for _, step := range []struct {
		tried string
		try   func(ctx context.Context, name string) error
	}{
		// A listing first: its answer tells a missing bucket from one that may not be seen.
		{"list", b.listOne},
		{"put the object " + name, b.putProbe},
		{"read the object " + name, b.readProbe},
		{"remove the object " + name, b.removeProbe},
	} {
		err := step.try(ctx, name)
		if err != nil && context.Cause(ctx) == errSilent {
			err = errSilent // the client's own error may be that of a try before
		}
		if err := b.explainStep("cannot "+step.tried, "see the server's log, and that it has room and may write", strange(err)); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bucket) listOne(ctx context.Context, _ string) error {
	for o := range b.core.ListObjectsIter(ctx, b.address.Bucket, minio.ListObjectsOptions{Prefix: b.address.Prefix, MaxKeys: 1}) {
		return o.Err
	}
	return ctx.Err()
}

func (b *Bucket) putProbe(ctx context.Context, name string) error {
	_, err := b.put(ctx, name, bucket.Bytes([]byte(probed)), minio.PutObjectOptions{})
	return err
}

func (b *Bucket) readProbe(ctx context.Context, name string) error {
	r, _, _, err := b.core.GetObject(ctx, b.address.Bucket, name, minio.GetObjectOptions{})
	if err == nil {
		var sum bucket.Sum
		sum, _, err = bucket.ReadSum(r)
		err = cmp.Or(err, r.Close())
		if err == nil && sum != bucket.SumOf([]byte(probed)) {
			err = errors.New("it has another content than was put there")
		}
	}
	if _, kind := b.diagnose(err); errors.Is(kind, bucket.ErrNotFound) {
		return nil // another's Check may have taken it away
	}
	return err
}

// removeProbe lets the probe stay where that may not be done: an archive needs no
// removal.
func (b *Bucket) removeProbe(ctx context.Context, name string) error {
	err := b.core.RemoveObject(ctx, b.address.Bucket, name, minio.RemoveObjectOptions{})
	if _, kind := b.diagnose(err); errors.Is(kind, bucket.ErrDenied) || errors.Is(kind, bucket.ErrNotFound) {
		return nil
	}
	return err
}

// errSilent is the error of a server that lets the time of Check pass.
var errSilent error = silent{}

type silent struct{}

func (silent) Error() string   { return fmt.Sprintf("no answer within %v", checkWithin) }
func (silent) Timeout() bool   { return true }
func (silent) Temporary() bool { return true }

// strange makes a strangeError of an answer that S3 does not give. What S3 refuses
// comes as a document or with the request's number; minio-go makes up what is missing.
func strange(err error) error {
	e, answered := errors.AsType[minio.ErrorResponse](err)
	_, unreached := errors.AsType[*url.Error](err)
	_, syntax := errors.AsType[*xml.SyntaxError](err)
	_, document := errors.AsType[xml.UnmarshalError](err)
	ill := e.StatusCode >= http.StatusInternalServerError && e.StatusCode != http.StatusNotImplemented // as a proxy says before S3 is up
	switch {
	case answered && !ill && e.XMLName.Local == "" && e.RequestID == "" && e.HostID == "":
		return strangeError(fmt.Sprintf("it answers with status %d", e.StatusCode))
	case syntax, document, !answered && !unreached && errors.Is(err, io.EOF):
		return strangeError(err.Error())
	}
	return err
}

// strangeError is what something else than S3 answers.
type strangeError string

func (e strangeError) Error() string { return string(e) }
