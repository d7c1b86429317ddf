package fallbacklog

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"manna/gift"
)

// Loss is what a repair could not bring back of one segment. Claims that were
// accepted and outcomes of orders claimed earlier may have been there.
type Loss struct {
	Segment uint32 `json:"segment"`
	// Bytes that did not validate; -1 where the whole segment was missing.
	Bytes int64 `json:"bytes"`
	// What is lost was written after From and before Until. From is zero where
	// nothing is left of the time before.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until"`
	// Doubts is the number of orders that became unknown on its account.
	Doubts int64 `json:"doubts"`
	// Repair tells one repair of a segment from another: the beginning of the hash
	// that the segment has had since.
	Repair string `json:"repair"`
}

// lostAll stands for the bytes of a segment that was missing.
const lostAll = -1

func (l *Loss) String() string {
	what := "is missing"
	if l.Bytes != lostAll {
		what = fmt.Sprintf("has lost %d bytes", l.Bytes)
	}
	from := "the beginning"
	if !l.From.IsZero() {
		from = l.From.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("segment %d of the log %s; claims and outcomes between %s and %s may be gone", l.Segment, what, from, l.Until.UTC().Format(time.RFC3339))
}

// CodeLost is the code of orders that are unknown because the log lost records.
const CodeLost = "records_lost"

// Losses are what repairs of this log could not bring back, oldest first.
func (l *Log) Losses() ([]Loss, error) {
	rows, err := l.Lookup(NamedID(Lost, ""))
	if err != nil {
		return nil, err
	}
	var losses []Loss
	for _, row := range rows {
		rec, err := l.Read(row.At)
		if err != nil {
			return nil, err
		}
		losses = append(losses, *rec.Loss)
	}
	return losses, nil
}

// noteLosses takes in what repairs have lost since the log was last open: each
// order that was not final in what is left, and of which nothing was written
// since, may have an outcome among the lost records. It becomes unknown, and the
// lanes ask the partner, repeat with the same key, or park it. The `lost` records
// come last: until they are there, the next Open does all of it again, which is
// harmless.
func (l *Log) noteLosses(ctx context.Context) error {
	known, err := l.Losses()
	if err != nil {
		return err
	}
	var fresh []Loss
	all := l.segments.list()
	for i, s := range all {
		if s.lost == 0 {
			continue
		}
		loss := Loss{Segment: s.number, Bytes: s.lost, Repair: repairOf(s.hash), Until: l.opts.Now().UTC()}
		if slices.ContainsFunc(known, func(k Loss) bool { return k.Segment == loss.Segment && k.Repair == loss.Repair }) {
			continue
		}
		if i > 0 && all[i-1].last != 0 {
			loss.From = time.Unix(0, all[i-1].last).UTC()
		} else if s.lost != lostAll {
			loss.From = s.created
		}
		// The active segment begins when the log is opened.
		if next := i + 1; next < len(all)-1 {
			loss.Until = all[next].created
		}
		fresh = append(fresh, loss)
	}
	if len(fresh) == 0 {
		return nil
	}
	last := fresh[len(fresh)-1]
	d := doubts{log: l, loss: last, end: At(last.Segment+1, 0)}
	if err := d.cast(ctx); err != nil {
		return fmt.Errorf("take in what the repair of segment %d has lost: %w", last.Segment, err)
	}
	recs := make([]*Record, len(fresh))
	for i := range fresh {
		fresh[i].Doubts = d.count
		recs[i] = &Record{Kind: Lost, Loss: &fresh[i]}
		l.opts.Logger.Error("the log has lost records, and no repair could bring them back: "+fresh[i].String(), "orders_in_doubt", d.count)
	}
	return l.Append(ctx, recs...)
}

// repairOf names a repair by the hash that the segment has since.
func repairOf(hash [32]byte) string { return hex.EncodeToString(hash[:8]) }

// doubts writes `unknown` records for the orders that a loss leaves in doubt.
type doubts struct {
	log   *Log
	loss  Loss
	end   Position // the loss is before it
	batch []*Record
	count int64
}

// Ranges of ids are looked at one after the other, and the rows of one are in memory
// at a time: about spanRows of them, and more of a log that has more than they and
// maxSpans can hold.
const (
	spanRows = 4096
	maxSpans = 1024
)

func (d *doubts) cast(ctx context.Context) error {
	indexes := d.log.Indexes()
	var all int64
	for _, x := range indexes {
		all += x.Rows()
	}
	spans := 1
	for spans < maxSpans && all > int64(spans)*spanRows {
		spans *= 2
	}
	var rows []Row
	for span := range spans {
		if err := ctx.Err(); err != nil {
			return err
		}
		var from [16]byte
		var to *[16]byte
		width := 1 << 16 / spans
		binary.BigEndian.PutUint16(from[:], uint16(span*width))
		if span < spans-1 {
			to = new([16]byte)
			binary.BigEndian.PutUint16(to[:], uint16((span+1)*width))
		}
		rows = rows[:0]
		for _, x := range indexes {
			for row, err := range x.Range(from, to) {
				if err != nil {
					return err
				}
				if !row.OfClaim && row.Kind != Lost {
					rows = append(rows, row)
				}
			}
		}
		slices.SortFunc(rows, compareRows)
		for len(rows) > 0 {
			n := 1
			for n < len(rows) && bytes.Equal(rows[n].ID[:], rows[0].ID[:]) {
				n++
			}
			if err := d.order(ctx, rows[:n]); err != nil {
				return err
			}
			rows = rows[n:]
		}
	}
	return d.flush(ctx)
}

// order looks at one order's rows. What was written after the loss was written by
// a lane that knew it all.
func (d *doubts) order(ctx context.Context, rows []Row) error {
	claim := slices.IndexFunc(rows, func(r Row) bool { return r.Kind == Claimed })
	if claim < 0 || rows[len(rows)-1].At >= d.end {
		return nil
	}
	state, _ := StateOf(rows)
	if state.Final() && state != gift.StateParked {
		return nil
	}
	s, err := d.log.story(gift.OrderID(rows[0].ID), rows)
	if err != nil {
		return err
	}
	event := Event{
		Order: s.Order.ID, Claim: s.Claim.ID, Campaign: s.Claim.Campaign, Partner: s.Order.Partner, Origin: s.Origin,
		Attempts: s.Attempts, Queries: s.Queries, Began: d.loss.Until, Due: d.log.opts.Now().UTC(),
		Code: CodeLost, Reason: "its outcome may be among the records that the log has lost: " + d.loss.String(),
	}
	d.batch = append(d.batch, &Record{Kind: Unknown, Event: &event})
	if state == gift.StateParked {
		again := event
		again.Due, again.Code, again.Reason = time.Time{}, s.Code, s.Reason
		d.batch = append(d.batch, &Record{Kind: Parked, Event: &again})
	}
	d.count++
	if len(d.batch) < 1000 {
		return nil
	}
	return d.flush(ctx)
}

func (d *doubts) flush(ctx context.Context) error {
	err := d.log.Append(ctx, d.batch...)
	d.batch = d.batch[:0]
	return err
}

func appendLoss(b []byte, l *Loss) []byte {
	b = putUint(b, 1, uint64(l.Segment))
	b = putInt(b, 2, l.Bytes)
	b = putTime(b, 3, l.From)
	b = putTime(b, 4, l.Until)
	b = putInt(b, 5, l.Doubts)
	return putString(b, 6, l.Repair)
}

func decodeLoss(l *Loss, b []byte) error {
	f := walkFields(b)
	for f.next() {
		switch f.num {
		case 1:
			l.Segment = uint32(f.uint)
		case 2:
			l.Bytes = f.int()
		case 3:
			l.From = f.time()
		case 4:
			l.Until = f.time()
		case 5:
			l.Doubts = f.int()
		case 6:
			l.Repair = string(f.bytes)
		}
	}
	return f.err
}
