package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"time"
)

// Bucket keeps objects. All methods are safe for concurrent use and end soon after
// their context does.
type Bucket interface {
	// Check tells whether the bucket is there, and can be written to and read: it
	// stores a probe and takes it away again. Its error names the remedy, and is
	// ErrNoBucket, ErrDenied, ErrCredentials or ErrUnreachable where it is one of
	// these.
	Check(ctx context.Context) error
	// Put stores an object under a key that is free. It is done where the key has
	// this very content already, and fails with ErrConflict where it has another.
	// After any other error the object may be there or not.
	Put(ctx context.Context, key string, c Content) error
	// Replace stores an object in the place of one whose content has the sum old. It
	// is done where the key has the new content already, and fails with ErrConflict
	// where it has a third one, or none. After any other error it may have been done.
	Replace(ctx context.Context, key string, old Sum, c Content) error
	// Get reads an object from offset on, length bytes of it, or up to its end where
	// length is negative. What lies past the end is left out. It fails with
	// ErrNotFound. A read that is cut short fails; it never looks like the end.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Stat describes an object, or fails with ErrNotFound.
	Stat(ctx context.Context, key string) (Info, error)
	// List gives the objects right below a folder and the folders in it, in no
	// order: a folder has a key that ends with a slash, and nothing else. The folder
	// to list is "", or ends with a slash. One that does not exist is empty. It ends
	// after the first error.
	List(ctx context.Context, folder string) iter.Seq2[Info, error]
	// Close lets go of connections. Objects stay.
	Close() error
	// String is the bucket's address, without secrets.
	String() string
}

// Info describes an object.
type Info struct {
	Key     string
	Size    int64
	Changed time.Time // when it was stored, by the bucket's clock
}

// Content is what is to be stored. It is read more than once, also at the same
// time.
type Content struct {
	io.ReaderAt
	Size int64
	Sum  Sum
}

// Bytes makes a content of what is in memory.
func Bytes(b []byte) Content {
	return Content{ReaderAt: bytes.NewReader(b), Size: int64(len(b)), Sum: SumOf(b)}
}

// Reader reads the content through.
func (c Content) Reader() *io.SectionReader { return io.NewSectionReader(c, 0, c.Size) }

// Sum is a SHA-256.
type Sum [sha256.Size]byte

// SumOf is the sum of what is in memory.
func SumOf(b []byte) Sum { return sha256.Sum256(b) }

// ReadSum reads a stream to its end and gives its sum and its size.
func ReadSum(r io.Reader) (s Sum, size int64, err error) {
	h := sha256.New()
	size, err = io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 256<<10))
	h.Sum(s[:0])
	return s, size, err
}

func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// MarshalText gives the sum in hexadecimal.
func (s Sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText gives.
func (s *Sum) UnmarshalText(text []byte) error {
	if len(text) != 2*len(s) {
		return fmt.Errorf("%q is no SHA-256 in hexadecimal", text)
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// ReadAll reads a whole object of at most most bytes.
func ReadAll(ctx context.Context, b Bucket, key string, most int64) ([]byte, error) {
	r, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s in %s has more than %d bytes", key, b, most)
	}
	return content, err
}
