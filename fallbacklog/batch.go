package fallbacklog

// maxBatch bounds the bytes that wait for the next commit; whoever would exceed
// it waits for that commit to be taken.
const maxBatch = 4 << 20

// batch is what the next commit takes.
type batch struct {
	buf     []byte // room for the batch frame, then record frames without checksums
	recs    []*Record
	offsets []uint32 // of each record in buf
	done    chan struct{}
	err     error // set before done is closed
}

// newBatch makes a batch in the room of one that is over, or of none.
func newBatch(over *batch) *batch {
	b := &batch{done: make(chan struct{})}
	if over == nil {
		b.buf = make([]byte, batchFrame, 16<<10)
		return b
	}
	b.buf, b.recs, b.offsets = over.buf[:batchFrame], over.recs[:0], over.offsets[:0]
	return b
}

// add takes records in, whose frames begin at the given offsets of frames.
func (b *batch) add(frames []byte, offsets []uint32, recs []*Record) {
	base := uint32(len(b.buf))
	b.buf = append(b.buf, frames...)
	b.recs = append(b.recs, recs...)
	for _, at := range offsets {
		b.offsets = append(b.offsets, base+at)
	}
}

// finish tells all who wait what became of the batch.
func (b *batch) finish(err error) {
	b.err = err
	close(b.done)
}

// over gives the batch's room back; those who wait only look at its end.
func (b *batch) over() *batch {
	if cap(b.buf) > maxBatch {
		return nil
	}
	clear(b.recs)
	return &batch{buf: b.buf, recs: b.recs, offsets: b.offsets}
}
