package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"manna/fallbacklog"
	"manna/queue"
)

// load brings the lane to where the log stands at through; the tail has brought
// and will bring what comes after.
func (l *Lane) load(ctx context.Context, through fallbacklog.Position) error {
	c, err := l.restore()
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.touched, l.mark = max(l.touched, c.touched), c.mark
	for _, e := range c.entries {
		l.schedule.push(e)
	}
	l.mu.Unlock()
	if err := l.replay(ctx, c.through, through); err != nil {
		return err
	}
	counted, err := l.queue.census.count(ctx, l.queue.log, l.partner, c.low, through)
	if err != nil {
		return err
	}
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	if l.queue.closed {
		return queue.ErrClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	since := l.blocks.list
	l.blocks = blocks{}
	l.blocks.append(counted...)
	l.blocks.append(since...)
	for _, b := range counted {
		l.waiting += b.orders
	}
	l.loaded, l.changed = true, false
	return nil
}

// restore reads the lane's checkpoint. One that cannot be used only means that
// the whole log has to be read.
func (l *Lane) restore() (*checkpoint, error) {
	o := &l.queue.opts
	first, end := o.Log.First(), o.Log.End()
	path := lanePath(o.Dir, l.partner)
	c, err := readCheckpoint(o.Disk, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if first < end {
			o.Logger.Warn("the lane has no checkpoint: reading the log from its start", "lane", l.partner)
		}
	case err == nil:
		if err = l.checkMark(c.mark); err == nil && c.low.Segment() < first.Segment() {
			return nil, fmt.Errorf("the log begins at %v and the lane still needs what was at %v: segments are missing", first, c.low)
		}
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			o.Logger.Error("the lane's checkpoint cannot be used: reading the log from its start", "lane", l.partner, "checkpoint", path, "err", err)
		}
		return &checkpoint{through: first, low: first}, nil
	}
	return c, nil
}

// checkMark tells whether a checkpoint was made from this log.
func (l *Lane) checkMark(m mark) error {
	if m == (mark{}) {
		return nil
	}
	rec, err := l.queue.log.Read(m.at)
	if err != nil {
		return fmt.Errorf("the checkpoint is of another log: %w", err)
	}
	if rec.Time.UnixNano() != m.time {
		return fmt.Errorf("the checkpoint is of another log: its record at %v is not the log's", m.at)
	}
	return nil
}

// replay takes in what happened to the lane's orders in [from, to).
func (l *Lane) replay(ctx context.Context, from, to fallbacklog.Position) error {
	r := l.queue.log.Reader(from, eventKinds()...)
	defer r.Close()
	for {
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) || err == nil && rec.At >= to {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if rec.Event.Partner != l.partner {
			continue
		}
		known := false
		if carries(rec.Kind) {
			// A long history holds many records of the same order; only its last
			// is worth room.
			carrier, _, err := l.queue.carrierOf(rec.Event.Order)
			if err != nil {
				return err
			}
			known = carrier != rec.At
		}
		l.mu.Lock()
		l.touched = max(l.touched, rec.Event.Origin)
		if carries(rec.Kind) && !known {
			l.schedule.push(entryOf(rec, l.queue.opts.Now()))
		}
		l.mu.Unlock()
	}
}
