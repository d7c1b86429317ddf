package rocketmq

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// markEvery is how old a mark may be under which messages are sent.
	markEvery = 5 * time.Second
	// markSlack is how far a mark is below what was asked for, so that messages
	// that are nearly in order share one.
	markSlack = 10 * time.Second
	// markMargin is what clocks of brokers may differ, and a batch may be on its way.
	markMargin = time.Minute
	// maxMarks bounds what is kept of the marks that were read.
	maxMarks = 1 << 16
)

// mark is what marks are about.
type mark uint8

const (
	claimTimes mark = iota // of first deliveries
	dueTimes               // of messages in `soon`
	markKinds
)

// Field numbers of a mark's body.
const (
	fMarkVersion = 1
	fMarkKind    = 2
	fMarkLow     = 3 // Unix nanoseconds
)

// marks tells how old the messages may be that a queue has from some point on.
//
// Messages of several nodes are mixed in a queue, and one that was cut off for a
// while brings old claims late: the message at which a lane stands need not be
// the oldest. Therefore whoever sends has a mark stored before, never more than
// markEvery before it begins, that is not above the times of what it sends; and
// another one, where it had to wait at the breaker meanwhile. So what was
// stored at t or later is not older than the lowest mark stored since
// t − markEvery − markMargin.
type marks struct {
	cluster *cluster
	topics  *provision
	sender  *sender
	logger  *slog.Logger
	topic   string
	group   string

	stores  atomic.Int64 // rises when brokers have lost what they stored
	written [markKinds]written

	reading sync.Mutex
	since   time.Time // everything stored after it has been read; zero: nothing has
	places  map[shardKey]milestone
	lows    [markKinds][]low
}

// written is the mark of a kind that was stored last.
type written struct {
	mu    sync.Mutex // held while one is sent
	low   time.Time
	at    time.Time // before it was sent
	store int64     // marks.stores before it was sent
}

// low is a mark that was read. Of a kind those are kept that no later one is
// below, so the first that is late enough is the lowest.
type low struct {
	stored time.Time
	value  time.Time
}

// cover stores a mark not above t, unless a young one is there.
func (m *marks) cover(ctx context.Context, p patience, kind mark, t time.Time) error {
	w := &m.written[kind]
	w.mu.Lock()
	defer w.mu.Unlock()
	now, store := time.Now(), m.stores.Load()
	if now.Sub(w.at) < markEvery && !t.Before(w.low) && w.store == store {
		return nil
	}
	if err := m.provide(ctx); err != nil {
		return fmt.Errorf("watermark: %w", err)
	}
	value := t.Add(-markSlack)
	if err := m.sender.send(ctx, p, m.topic, primitive.NewMessage(m.topic, encodeMark(kind, value))); err != nil {
		m.topics.missed(m.topic, err)
		return fmt.Errorf("watermark: %w", err)
	}
	w.low, w.at, w.store = value, now, store
	return nil
}

// renew has the next cover store a mark, however young the last one is.
func (m *marks) renew() { m.stores.Add(1) }

func (m *marks) provide(ctx context.Context) error { return m.topics.provide(ctx, 1, m.topic) }

func encodeMark(kind mark, value time.Time) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, fMarkVersion, protowire.VarintType), formatVersion)
	b = protowire.AppendVarint(protowire.AppendTag(b, fMarkKind, protowire.VarintType), uint64(kind))
	return protowire.AppendVarint(protowire.AppendTag(b, fMarkLow, protowire.VarintType), uint64(value.UnixNano()))
}

// decodeMark reads a mark: the lowest times of messages of each kind that it tells
// of. A mark of a newer release may tell of messages of any age, and what is no
// mark tells nothing.
func decodeMark(b []byte) map[mark]time.Time {
	var v [fMarkLow + 1]uint64
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil
		}
		b = b[n:]
		if typ == protowire.VarintType && num <= fMarkLow {
			v[num], n = protowire.ConsumeVarint(b)
		} else {
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return nil
		}
		b = b[n:]
		// The version comes first, as in a message's body.
		if v[fMarkVersion] > formatVersion {
			return map[mark]time.Time{claimTimes: time.Unix(0, 0), dueTimes: time.Unix(0, 0)}
		}
	}
	if v[fMarkVersion] == 0 || v[fMarkKind] >= uint64(markKinds) {
		return nil
	}
	return map[mark]time.Time{mark(v[fMarkKind]): time.Unix(0, int64(v[fMarkLow]))}
}

// lowest is a time that no message stored at t or later is below. Where there is
// no mark to tell, nothing is known, and it is the beginning of time.
func (m *marks) lowest(ctx context.Context, kind mark, t time.Time) (time.Time, error) {
	from := t.Add(-markEvery - markMargin)
	m.reading.Lock()
	defer m.reading.Unlock()
	if err := m.read(ctx, from); err != nil {
		m.topics.missed(m.topic, err)
		return time.Time{}, fmt.Errorf("watermarks: %w", err)
	}
	lows := m.lows[kind]
	i, _ := slices.BinarySearchFunc(lows, from, func(l low, t time.Time) int { return l.stored.Compare(t) })
	if i == len(lows) {
		return time.Unix(0, 0), nil
	}
	return lows[i].value, nil
}

// read catches up with what is stored, and makes sure that it begins at from. It
// requires m.reading.
func (m *marks) read(ctx context.Context, from time.Time) error {
	if m.places == nil || from.Before(m.since) {
		m.places, m.lows, m.since = make(map[shardKey]milestone), [markKinds][]low{}, from
	}
	if err := m.provide(ctx); err != nil {
		return err
	}
	shards, err := m.cluster.shards(ctx, m.topic, permRead)
	if err != nil {
		return err
	}
	for _, s := range shards {
		if err := m.readShard(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// readShard catches up with one queue. It requires m.reading.
func (m *marks) readShard(ctx context.Context, s shard) (err error) {
	at, ok := m.places[s.key()]
	if !ok {
		if at.offset, err = m.cluster.seek(ctx, s, m.since); err != nil {
			return err
		}
	}
	end, err := m.cluster.end(ctx, s)
	if err != nil {
		return err
	}
	if at.offset > end {
		return m.startOver(s, at, end)
	}
	for at.offset < end {
		p, err := m.cluster.pull(ctx, m.group, s, at.offset, pullLimit, appearFor)
		switch {
		case err != nil:
			return err
		case p.isOfAnotherStore(at):
			return m.startOver(s, at, p.end)
		case p.next <= at.offset && !p.moved:
			return fmt.Errorf("%v has a message at %d and does not show it", s, at.offset)
		}
		for i := range p.msgs {
			for kind, value := range decodeMark(p.msgs[i].body) {
				m.add(kind, low{p.msgs[i].at, value})
			}
		}
		if at.passed(p); p.moved {
			break
		}
	}
	m.places[s.key()] = at
	return nil
}

// startOver has a queue read anew whose broker has another store now. The marks of
// the old one say nothing wrong of the new one. It requires m.reading.
func (m *marks) startOver(s shard, at milestone, end int64) error {
	delete(m.places, s.key())
	m.logger.Error("the broker has another store than before: the watermarks that it had are lost, and are read anew", "topic", s.topic, "queue", s.String(), "place", at.offset, "max", end)
	return fmt.Errorf("%v: the broker has lost its store", s)
}

// add takes a mark in. It requires m.reading.
func (m *marks) add(kind mark, l low) {
	lows := m.lows[kind]
	// Several brokers' marks may come out of order; as the later one each counts
	// for longer, which is safe.
	if n := len(lows); n > 0 && l.stored.Before(lows[n-1].stored) {
		l.stored = lows[n-1].stored
	}
	for n := len(lows); n > 0 && !lows[n-1].value.Before(l.value); n-- {
		lows = lows[:n-1]
	}
	lows = append(lows, l)
	if len(lows) > maxMarks {
		// Of the older half two become one, which stands for as long as the later and
		// is as low as the earlier.
		half := lows[:0]
		for i := 0; i < maxMarks/2; i += 2 {
			half = append(half, low{lows[i+1].stored, lows[i].value})
		}
		lows = append(half, lows[maxMarks/2:]...)
	}
	m.lows[kind] = lows
}
