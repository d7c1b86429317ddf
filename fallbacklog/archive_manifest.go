package fallbacklog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"manna/fallbacklog/bucket"
)

const (
	manifestName   = "manifest.json"
	manifestFormat = 1
	maxManifest    = 256 << 20 // bytes; some 400 a segment
)

// Manifest says what an archive has of a node's log. It only ever grows.
type Manifest struct {
	Format   int    `json:"format"`
	Node     string `json:"node"`
	Writer   string `json:"writer"`   // the archiver that wrote it, of this node; a name by chance
	Revision int64  `json:"revision"` // counts how often it was written
	// Written is when it was written, by the node's clock: a node that is up writes
	// it every minute or so.
	Written time.Time `json:"written"`
	// AsOf is the moment through which the log has arrived: what an Append had
	// answered by then is in the segments. Records are stamped by the same clock,
	// shortly before.
	AsOf     time.Time         `json:"as_of"`
	Segments []ArchivedSegment `json:"segments"` // from 1 on, without a gap
}

// ArchivedSegment describes a segment of an archive.
type ArchivedSegment struct {
	Number  uint32           `json:"number"`
	Size    int64            `json:"size"`
	SHA256  bucket.Sum       `json:"sha256"` // of the whole object
	Seed    uint32           `json:"seed"`
	Chain   bucket.Sum       `json:"chain"` // the link of the segment before
	Hash    bucket.Sum       `json:"hash"`  // of the content, as the footer has it
	Link    bucket.Sum       `json:"link"`
	First   time.Time        `json:"first,omitzero"` // time of the first record
	Last    time.Time        `json:"last,omitzero"`
	Records map[string]int64 `json:"records,omitempty"` // of each kind
	// Lost is how many bytes of records a repair could not bring back; -1 where the
	// whole segment was missing.
	Lost  int64         `json:"lost,omitempty"`
	Index ArchivedIndex `json:"index"`
}

// ArchivedIndex describes a segment's index.
type ArchivedIndex struct {
	Size   int64      `json:"size"`
	SHA256 bucket.Sum `json:"sha256"`
}

// archiveFolder is the folder of a node.
func archiveFolder(node string) string { return node + "/" }

func segmentKey(node string, n uint32) string {
	return fmt.Sprintf("%s%08d.seg", archiveFolder(node), n)
}

func indexKey(node string, n uint32) string {
	return fmt.Sprintf("%s%08d.idx", archiveFolder(node), n)
}

// describe makes the entry of a sealed segment.
func describe(s *sealedSegment, size int64, sum bucket.Sum, index ArchivedIndex) ArchivedSegment {
	e := ArchivedSegment{
		Number: s.number, Size: size, SHA256: sum, Seed: s.seed,
		Chain: s.chain, Hash: s.hash, Link: s.link, Index: index, Lost: s.lost, Records: make(map[string]int64),
	}
	if s.records() > 0 {
		e.First, e.Last = time.Unix(0, s.first).UTC(), time.Unix(0, s.last).UTC()
	}
	for k := Claimed; k <= Lost; k++ {
		if n := s.counts[k]; n > 0 {
			e.Records[k.String()] = int64(n)
		}
	}
	return e
}

// encode writes a segment a line.
func (m *Manifest) encode() ([]byte, error) {
	head := *m
	head.Segments = []ArchivedSegment{}
	b, err := json.Marshal(&head)
	if err != nil {
		return nil, err
	}
	b = bytes.TrimSuffix(b, []byte("]}"))
	for i := range m.Segments {
		line, err := json.Marshal(&m.Segments[i])
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '\n'), line...)
	}
	return append(b, "\n]}\n"...), nil
}

// readManifest reads a node's manifest, and gives the sum of its content.
func readManifest(ctx context.Context, b bucket.Bucket, node string) (*Manifest, bucket.Sum, error) {
	key := archiveFolder(node) + manifestName
	content, err := bucket.ReadAll(ctx, b, key, maxManifest)
	if err != nil {
		return nil, bucket.Sum{}, err
	}
	m, err := decodeManifest(content, node)
	if err != nil {
		return nil, bucket.Sum{}, fmt.Errorf("%s in %s: %w", key, b, err)
	}
	return m, bucket.SumOf(content), nil
}

// decodeManifest skips fields that it does not know: a release may add some and be
// read by the one before it.
func decodeManifest(content []byte, node string) (*Manifest, error) {
	const remedy = "move it away, and the node's archiver makes a new one from what is in the archive"
	m := &Manifest{}
	var format struct{ Format int }
	if err := json.Unmarshal(content, &format); err != nil {
		return nil, fmt.Errorf("does not read as a manifest: %s: %w", remedy, err)
	}
	if format.Format != manifestFormat {
		return nil, fmt.Errorf("has format %d, this release reads format %d: use the release that wrote it", format.Format, manifestFormat)
	}
	if err := json.Unmarshal(content, m); err != nil {
		return nil, fmt.Errorf("does not read as a manifest: %s: %w", remedy, err)
	}
	if m.Node != node {
		return nil, fmt.Errorf("is of node %q: find out who moved it, and move it back", m.Node)
	}
	var link bucket.Sum
	for i := range m.Segments {
		e := &m.Segments[i]
		switch {
		case e.Number != firstSegment+uint32(i):
			return nil, fmt.Errorf("lists segment %d in the place of %d: %s", e.Number, firstSegment+i, remedy)
		case e.Size < headerSize+footerFrame || e.Size > MaxSegment+64<<20 || e.Index.Size < trailerSize:
			return nil, fmt.Errorf("gives segment %d a size that it cannot have: %s", e.Number, remedy)
		case e.Chain != link:
			return nil, fmt.Errorf("lists a segment %d that does not follow the one before: %s", e.Number, remedy)
		}
		link = e.Link
	}
	return m, nil
}
