package fallbacklog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"manna/fallbacklog/bucket"
)

// surveyors is how many archived segments are looked at at the same time.
const surveyors = 8

// survey looks whether the archive has what the manifest lists, each segment once in
// the archiver's life. A manifest that is made anew lists fewer than were looked at.
func (a *Archiver) survey(ctx context.Context, sealed []*segment) error {
	for {
		from, to := int(a.archived.Load()), len(a.manifest.Segments) // consecutive from 1 on
		if from >= to {
			return nil
		}
		part := sealed[from:min(to, from+surveyors)]
		errs := make([]error, len(part))
		var wg sync.WaitGroup
		for i, s := range part {
			wg.Go(func() { errs[i] = a.look(ctx, s, &a.manifest.Segments[from+i]) })
		}
		wg.Wait()
		for i, s := range part {
			if errs[i] != nil {
				return fmt.Errorf("archived segment %d: %w", s.number, errs[i])
			}
			a.moveTo(s.number)
		}
	}
}

// look looks at an archived segment's two ends. One that is gone is copied again.
func (a *Archiver) look(ctx context.Context, s *segment, entry *ArchivedSegment) error {
	there, err := a.holds(ctx, s)
	if errors.Is(err, bucket.ErrNotFound) {
		if s.hash != entry.Hash {
			return fmt.Errorf("it is gone, and this log's own has been repaired since: restore it in the bucket, or move %s%s away to have the repaired one archived: %w", a.folder, manifestName, err)
		}
		a.opts.Logger.Error("an archived segment is gone; archiving it again", "segment", segmentKey(s.node, s.number), "bucket", a.opts.Bucket.String())
		_, err = a.upload(ctx, s)
		return err
	}
	if err == nil && (there.size != entry.Size || there.hash != entry.Hash) {
		err = fmt.Errorf("%s is not what the manifest says: restore it in the bucket", segmentKey(s.node, s.number))
	}
	return err
}

// archive makes sure that the archive has a segment that the manifest does not list.
func (a *Archiver) archive(ctx context.Context, s *segment) (ArchivedSegment, error) {
	there, err := a.holds(ctx, s)
	if errors.Is(err, bucket.ErrNotFound) {
		return a.upload(ctx, s)
	}
	if err != nil {
		return ArchivedSegment{}, err
	}
	return a.adopt(ctx, there)
}

// holds reads the ends of the segment that the archive has. Where the log's own has
// been repaired since, what the archive has is the better one and stays.
func (a *Archiver) holds(ctx context.Context, s *segment) (*sealedSegment, error) {
	key := segmentKey(s.node, s.number)
	info, err := a.opts.Bucket.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	o := &object{ctx: ctx, bucket: a.opts.Bucket, key: key, size: info.Size}
	there, sealed, err := readSealed(o, key, s.number)
	switch {
	case err != nil:
		return nil, err
	case !sealed || there.hash != s.hash && there.hash != s.link || there.node != s.node:
		return nil, fmt.Errorf("%s in %s is another segment than %s: find out whose it is, and move it away", key, a.opts.Bucket, segmentPath(a.opts.Log.opts.Dir, s.number))
	}
	return &there, nil
}

// adopt reads an archived segment and its index through, which the manifest does not
// list: the archiver was killed before it could, or there was no manifest.
func (a *Archiver) adopt(ctx context.Context, s *sealedSegment) (ArchivedSegment, error) {
	var none ArchivedSegment
	key := segmentKey(s.node, s.number)
	sum, size, hash, err := sums(ctx, a.opts.Bucket, key, s.size-footerFrame)
	if err != nil {
		return none, err
	}
	if hash != s.hash || size != s.size {
		return none, &CorruptError{Path: key, Why: "the archived content is not what was sealed"}
	}
	index, err := a.adoptIndex(ctx, s)
	if err != nil {
		return none, err
	}
	return describe(s, size, sum, index), nil
}

// adoptIndex makes sure that an archived segment has its index.
func (a *Archiver) adoptIndex(ctx context.Context, s *sealedSegment) (ArchivedIndex, error) {
	key := indexKey(s.node, s.number)
	there, missing := bucket.ReadAll(ctx, a.opts.Bucket, key, maxIndex)
	if missing != nil && !errors.Is(missing, bucket.ErrNotFound) {
		return ArchivedIndex{}, missing
	}
	if missing == nil {
		if err := soundIndex(key, there, s.number, s.hash); err == nil {
			return ArchivedIndex{Size: int64(len(there)), SHA256: bucket.SumOf(there)}, nil
		}
	}
	content, err := bucket.ReadAll(ctx, a.opts.Bucket, segmentKey(s.node, s.number), s.size)
	if err != nil {
		return ArchivedIndex{}, err
	}
	b, err := indexOf(segmentKey(s.node, s.number), content, s)
	if err != nil {
		return ArchivedIndex{}, err
	}
	c := bucket.Bytes(b)
	if missing != nil {
		err = a.opts.Bucket.Put(ctx, key, c)
	} else {
		err = a.opts.Bucket.Replace(ctx, key, bucket.SumOf(there), c)
	}
	return ArchivedIndex{Size: c.Size, SHA256: c.Sum}, err
}

// sums reads an object through: its sum, and that of its first bytes.
func sums(ctx context.Context, b bucket.Bucket, key string, first int64) (sum bucket.Sum, size int64, head [32]byte, err error) {
	r, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return sum, 0, head, err
	}
	defer r.Close()
	h := sha256.New()
	both := io.TeeReader(r, &firstOf{Writer: h, left: first})
	sum, size, err = bucket.ReadSum(both)
	h.Sum(head[:0])
	return sum, size, head, err
}

// firstOf passes the first bytes on and takes the rest.
type firstOf struct {
	io.Writer
	left int64
}

func (w *firstOf) Write(p []byte) (int, error) {
	n := min(int64(len(p)), w.left)
	w.left -= n
	if _, err := w.Writer.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// upload copies a segment and its index.
func (a *Archiver) upload(ctx context.Context, s *segment) (ArchivedSegment, error) {
	var none ArchivedSegment
	log := a.opts.Log
	if err := s.index.check(); err != nil {
		return none, err
	}
	// The index goes first: a segment in the archive has its index.
	index, err := a.copy(ctx, indexPath(log.opts.Dir, s.number), indexKey(s.node, s.number), nil)
	if err != nil {
		return none, err
	}
	seg, err := a.copy(ctx, segmentPath(log.opts.Dir, s.number), segmentKey(s.node, s.number), &s.sealedSegment)
	if err != nil {
		return none, err
	}
	a.segments.Inc()
	return describe(&s.sealedSegment, seg.Size, seg.Sum, ArchivedIndex{Size: index.Size, SHA256: index.Sum}), nil
}

// copy copies a file. Of a segment, it checks first that it is what was sealed.
func (a *Archiver) copy(ctx context.Context, from, key string, seg *sealedSegment) (bucket.Content, error) {
	src, err := a.opts.Log.disk.OpenRead(from)
	if err != nil {
		return bucket.Content{}, err
	}
	defer src.Close()
	c, err := contentOf(src, from, seg)
	if err != nil {
		return c, err
	}
	err = a.opts.Bucket.Put(ctx, key, c)
	if errors.Is(err, bucket.ErrConflict) && seg == nil {
		err = a.putIndex(ctx, key, c, err)
	}
	if err == nil {
		a.bytes.Add(float64(c.Size))
	}
	return c, err
}

// putIndex puts an index in the place of another one. Its segment is not in the
// archive, so that one counts for nothing: it is of a content that the log had before
// it was repaired.
func (a *Archiver) putIndex(ctx context.Context, key string, c bucket.Content, conflict error) error {
	old, _, _, err := sums(ctx, a.opts.Bucket, key, 0)
	if err != nil {
		return errors.Join(conflict, err)
	}
	return a.opts.Bucket.Replace(ctx, key, old, c)
}

// contentOf reads a file through. Of a segment, it has to be what was sealed.
func contentOf(f sized, path string, seg *sealedSegment) (bucket.Content, error) {
	size, err := f.Size()
	if err != nil {
		return bucket.Content{}, err
	}
	c := bucket.Content{ReaderAt: f, Size: size}
	sum, content := sha256.New(), sha256.New()
	err = eachChunk(f, size, func(at int64, chunk []byte) error {
		sum.Write(chunk)
		if seg != nil {
			content.Write(chunk[:max(0, min(int64(len(chunk)), seg.size-footerFrame-at))])
		}
		return nil
	})
	sum.Sum(c.Sum[:0])
	if err == nil && seg != nil && (size != seg.size || !bytes.Equal(content.Sum(nil), seg.hash[:])) {
		err = &CorruptError{Path: path, Why: "the content is not what was sealed"}
	}
	return c, err
}

// eachChunk reads a file through, a bounded part at a time.
func eachChunk(f io.ReaderAt, size int64, do func(at int64, chunk []byte) error) error {
	chunk := make([]byte, min(size, 1<<20))
	for at := int64(0); at < size; at += int64(len(chunk)) {
		chunk = chunk[:min(int64(len(chunk)), size-at)]
		n, err := readFull(f, chunk, at)
		if err == nil && n < len(chunk) {
			err = fmt.Errorf("the file ends at %d, not at %d", at+int64(n), size)
		}
		if err == nil {
			err = do(at, chunk)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// object reads parts of an object of a bucket.
type object struct {
	ctx    context.Context
	bucket bucket.Bucket
	key    string
	size   int64
}

func (o *object) Size() (int64, error) { return o.size, nil }
func (o *object) Close() error         { return nil }

func (o *object) ReadAt(p []byte, off int64) (int, error) {
	want := max(0, min(int64(len(p)), o.size-off))
	if want == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	r, err := o.bucket.Get(o.ctx, o.key, off, want)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := io.ReadFull(r, p[:want])
	if err != nil {
		return n, fmt.Errorf("%s: read %d of %d bytes from %d: %w", o.key, n, want, off, noEnd(err))
	}
	if int(want) < len(p) {
		err = io.EOF
	}
	return n, err
}

// noEnd hides an end that came too early from those who take one for the end.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
