package rocketmq

// window follows which offsets of a queue have been let go. The place that may be
// committed is the lowest offset that has not.
type window struct {
	base int64  // everything before has been let go
	gone []bool // base, base+1, … up to next
}

// next is the offset after the last one that was taken in.
func (w *window) next() int64 { return w.base + int64(len(w.gone)) }

// skip goes on to at: offsets between that hold no message are let go by never
// having been.
func (w *window) skip(at int64) {
	for w.next() < at {
		w.gone = append(w.gone, true)
	}
	w.advance()
}

// add takes the next offset in, not let go.
func (w *window) add() { w.gone = append(w.gone, false) }

// release lets an offset go.
func (w *window) release(at int64) {
	if at >= w.base && at < w.next() {
		w.gone[at-w.base] = true
		w.advance()
	}
}

func (w *window) advance() {
	n := 0
	for n < len(w.gone) && w.gone[n] {
		n++
	}
	w.base += int64(n)
	w.gone = w.gone[n:]
}
