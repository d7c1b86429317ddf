package fallbacklog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"manna/fallbacklog/bucket"
	"manna/internal/disk"
)

// Restored says what Restore did to one segment.
type Restored struct {
	Segment uint32 `json:"segment"`
	Bytes   int64  `json:"bytes"`           // brought back; 0 where the log's own was sound
	Aside   string `json:"aside,omitempty"` // the file that was in its place; empty where there was none
}

// Restore brings sealed segments of a node, with their indexes, from an archive back
// into its log's directory dir, where they are missing or damaged, or were repaired
// with a loss. What was there is set aside as *.damaged, never deleted. A segment that
// is as it was archived is left alone. Without numbers it is all that the archive has.
// A log that is an older copy of the archived one, and has been opened as such, ends
// with a segment that was sealed too early and one in which nothing was written: the
// first is set aside, the second removed.
//
// It fails, before it changes anything of a segment, where that is not archived, where
// the archived one is damaged, and where it does not belong there: the one in its
// place, or one beside it, is sound and of another chain. Segments before are restored
// by then. Nobody else may use the directory meanwhile: it takes the lock.
func Restore(ctx context.Context, b bucket.Bucket, node string, d disk.Disk, dir string, numbers ...uint32) (done []Restored, err error) {
	m, _, err := readManifest(ctx, b, node)
	if err != nil {
		return nil, err
	}
	if err := d.MkdirAll(dir); err != nil {
		return nil, err
	}
	lock, err := d.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	defer lock.Close()
	if err := clean(d, dir); err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		for i := range m.Segments {
			numbers = append(numbers, m.Segments[i].Number)
		}
	}
	numbers = slices.Clone(numbers)
	slices.Sort(numbers) // a segment is compared with the one before it
	r := restore{ctx: ctx, bucket: b, node: node, disk: d, dir: dir}
	for _, n := range slices.Compact(numbers) {
		if n < firstSegment || n-firstSegment >= uint32(len(m.Segments)) {
			return done, fmt.Errorf("segment %d of node %q is not in the archive, which has 1 to %d", n, node, len(m.Segments))
		}
		restored, err := r.segment(&m.Segments[n-firstSegment])
		if err != nil {
			return done, fmt.Errorf("restore segment %d: %w", n, err)
		}
		done = append(done, restored)
	}
	return done, nil
}

type restore struct {
	ctx    context.Context
	bucket bucket.Bucket
	node   string
	disk   disk.Disk
	dir    string
}

func (r *restore) segment(e *ArchivedSegment) (Restored, error) {
	done := Restored{Segment: e.Number}
	sound, there, err := r.own(e)
	if err == nil && !sound {
		err = r.neighbours(e)
	}
	if err != nil || sound {
		return done, err
	}
	path := segmentPath(r.dir, e.Number)
	fresh := path + ".recover"
	if err := r.fetch(segmentKey(r.node, e.Number), fresh, e.Size, e.SHA256); err != nil {
		return done, err
	}
	if err := r.check(fresh, e); err != nil {
		return done, errors.Join(err, r.disk.Remove(fresh))
	}
	// A segment that was begun behind one sealed too early follows that one.
	if unwritten, err := r.unwritten(e.Number + 1); err != nil {
		return done, err
	} else if unwritten {
		if err := errors.Join(r.disk.Remove(segmentPath(r.dir, e.Number+1)), r.disk.SyncDir(r.dir)); err != nil {
			return done, err
		}
	}
	if there {
		if done.Aside, err = r.setAside(path); err != nil {
			return done, err
		}
	}
	// Commit point: from here on the segment is the archived one.
	if err := errors.Join(r.disk.Rename(fresh, path), r.disk.SyncDir(r.dir)); err != nil {
		return done, err
	}
	done.Bytes = e.Size
	// An index of what was there before is not of this one; until it is replaced the
	// log would rebuild it.
	index := indexPath(r.dir, e.Number)
	if err := r.fetch(indexKey(r.node, e.Number), index+".tmp", e.Index.Size, e.Index.SHA256); err != nil {
		return done, err
	}
	return done, errors.Join(r.disk.Rename(index+".tmp", index), r.disk.SyncDir(r.dir))
}

// unwritten tells whether a segment of the log was begun and nothing was ever written
// into it: the next Open would remove it.
func (r *restore) unwritten(n uint32) (bool, error) {
	s, sealed, err := r.ends(n)
	if err != nil || sealed || s.version == 0 || indexed(r.disk, r.dir, n) {
		return false, err
	}
	b, err := readWhole(r.disk, segmentPath(r.dir, n))
	return err == nil && len(trimZeros(b)) <= headerSize, err
}

// own looks at the segment that the log has: whether it is there, and is what was
// archived. It fails where it is sound and another.
func (r *restore) own(e *ArchivedSegment) (sound, there bool, err error) {
	if unwritten, err := r.unwritten(e.Number); err != nil || unwritten {
		return false, false, err
	}
	path := segmentPath(r.dir, e.Number)
	f, err := r.disk.OpenRead(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	s, sealed, err := readSealed(f, path, e.Number)
	var corrupt *CorruptError
	switch {
	case errors.As(err, &corrupt):
		return false, true, nil
	case err != nil:
		return false, true, err
	case s.node == r.node && s.seed == e.Seed && s.chain == e.Chain && s.size < e.Size:
		return false, true, nil // it was sealed before all was in it
	case s.node != r.node || sealed && s.link != e.Link || !sealed && s.seed != e.Seed:
		return false, true, fmt.Errorf("%s is a sound segment of another log than the archived one: find out whose log this is", path)
	case !sealed || s.hash != e.Hash:
		return false, true, nil
	}
	// One that cannot be read through is as good as none.
	sum, _, err := bucket.ReadSum(io.NewSectionReader(f, 0, s.size))
	return err == nil && sum == e.SHA256, true, nil
}

// neighbours looks whether the archived segment fits between those of the log.
func (r *restore) neighbours(e *ArchivedSegment) error {
	before, sealed, err := r.ends(e.Number - 1)
	if err == nil && sealed && before.link != e.Chain {
		err = fmt.Errorf("the archived segment does not follow %s", segmentPath(r.dir, e.Number-1))
	}
	if err != nil {
		return err
	}
	after, _, err := r.ends(e.Number + 1)
	if err == nil && after.version != 0 && after.chain != e.Link {
		if unwritten, err := r.unwritten(e.Number + 1); err != nil || unwritten {
			return err
		}
		err = fmt.Errorf("%s does not follow the archived segment", segmentPath(r.dir, e.Number+1))
	}
	return err
}

// ends reads the ends of a segment of the log as far as they validate: what is damaged
// says nothing.
func (r *restore) ends(n uint32) (sealedSegment, bool, error) {
	path := segmentPath(r.dir, n)
	f, err := r.disk.OpenRead(path)
	if errors.Is(err, fs.ErrNotExist) {
		return sealedSegment{}, false, nil
	}
	if err != nil {
		return sealedSegment{}, false, err
	}
	defer f.Close()
	s, sealed, err := readSealed(f, path, n)
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		return sealedSegment{}, false, nil
	}
	return s, sealed, err
}

// fetch writes an object into a file, durably, under a passing name.
func (r *restore) fetch(key, path string, size int64, sum bucket.Sum) error {
	if err := r.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	in, err := r.bucket.Get(r.ctx, key, 0, size+1)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := r.disk.Create(path)
	if err != nil {
		return err
	}
	got, n, err := bucket.ReadSum(io.TeeReader(in, io.NewOffsetWriter(f, 0)))
	if err == nil && (n != size || got != sum) {
		err = fmt.Errorf("%s in %s is damaged: its %d bytes are not what was archived", key, r.bucket, n)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, r.disk.Remove(path))
	}
	return nil
}

// check reads a fetched segment through: it is the one that the manifest describes.
func (r *restore) check(path string, e *ArchivedSegment) error {
	f, err := r.disk.OpenRead(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s, sealed, err := readSealed(f, path, e.Number)
	if err == nil && (!sealed || s.node != r.node || s.hash != e.Hash || s.link != e.Link || s.chain != e.Chain) {
		err = errors.New("the archived segment is not the one that the manifest describes")
	}
	if err == nil {
		_, err = contentOf(f, path, &s)
	}
	return err
}

// setAside keeps the file that is to be replaced, under a name of its content.
func (r *restore) setAside(path string) (string, error) {
	b, err := readWhole(r.disk, path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	aside := fmt.Sprintf("%s-%08x.damaged", strings.TrimSuffix(path, ".seg"), sum[:4])
	return aside, writeFile(r.disk, r.dir, aside, b)
}
