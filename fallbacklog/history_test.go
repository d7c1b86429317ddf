package fallbacklog_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
)

// history is what appenders were told. It checks that a log holds what it has to.
// Each record says which append it belongs to. Safe for concurrent use.
type history struct {
	size int // bytes that a record has at least

	mu      sync.Mutex
	appends map[int]told
	next    int
}

// told is what the caller of one append knows.
type told struct {
	records int
	state   int
	at      []fallbacklog.Position
	lost    int // 1 + the record that damage has taken, or 0
}

const (
	open    = iota // no answer yet, or one that leaves it open
	durable        // acknowledged
	refused        // nothing of it was written
)

func newHistory() *history { return &history{appends: map[int]told{}} }

// clone copies the history up to now: what it holds of a crash taken after it.
func (h *history) clone() *history {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &history{size: h.size, appends: maps.Clone(h.appends), next: h.next}
}

// learn adds what had been begun by the time of later, as nobody was told of it.
func (h *history) learn(later *history) {
	for n, t := range later.appends {
		if _, ok := h.appends[n]; !ok {
			h.appends[n] = told{records: t.records}
		}
	}
	h.next = later.next
}

var when = time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)

// record makes record i of append n: a claim, or an outcome, by turns.
func (h *history) record(n, i int) *fallbacklog.Record {
	var order gift.OrderID
	binary.BigEndian.PutUint64(order[:], uint64(n)*0x9e3779b97f4a7c15) // spread over the index
	binary.BigEndian.PutUint32(order[8:], uint32(i))
	name := fmt.Sprintf("%d.%d.", n, i) + strings.Repeat("x", max(0, h.size-80))
	if (n+i)%2 == 0 {
		var claim gift.ClaimID
		copy(claim[:], order[:])
		claim[15] = 1
		return &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: when, Claim: &gift.Claim{ID: claim, Campaign: "c", User: name, Orders: []gift.Order{{ID: order, Partner: "p", Amount: int64(n)}}}}
	}
	return &fallbacklog.Record{Kind: fallbacklog.Granted, Time: when, Event: &fallbacklog.Event{Order: order, Partner: "p", Reason: name}}
}

func idOf(rec *fallbacklog.Record) (id [16]byte, name string) {
	if rec.Claim != nil {
		return rec.Claim.Orders[0].ID, rec.Claim.User
	}
	return rec.Event.Order, rec.Event.Reason
}

// begin numbers a new append of some records.
func (h *history) begin(records int) (n int, recs []*fallbacklog.Record) {
	h.mu.Lock()
	n = h.next
	h.next++
	h.appends[n] = told{records: records}
	h.mu.Unlock()
	for i := range records {
		recs = append(recs, h.record(n, i))
	}
	return n, recs
}

// append appends some records in one call and notes the answer.
func (h *history) append(l *fallbacklog.Log, records int) error {
	n, recs := h.begin(records)
	err := l.Append(context.Background(), recs...)
	t := told{records: records}
	switch {
	case err == nil:
		t.state = durable
		for _, rec := range recs {
			t.at = append(t.at, rec.At)
		}
	case errors.Is(err, disk.ErrFull) || errors.Is(err, fallbacklog.ErrTooLarge) || errors.Is(err, fallbacklog.ErrClosed):
		t.state = refused
	}
	h.mu.Lock()
	h.appends[n] = t
	h.mu.Unlock()
	return err
}

// durable counts the appends that were acknowledged.
func (h *history) durable() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, t := range h.appends {
		if t.state == durable {
			n++
		}
	}
	return n
}

// check reads the log through and says what is not as the appenders were told:
// what was acknowledged is there, where it was put and as it was; nothing that was
// refused is; an append is there as a whole or not at all; look-ups agree.
func (h *history) check(l *fallbacklog.Log) error {
	found := map[int][]fallbacklog.Position{}
	var last fallbacklog.Position
	r := l.Reader(0)
	defer r.Close()
	for {
		rec, err := r.TryNext()
		if errors.Is(err, fallbacklog.ErrTail) {
			break
		}
		if err != nil {
			return fmt.Errorf("read after %v: %w", last, err)
		}
		if rec.At <= last {
			return fmt.Errorf("record at %v after one at %v", rec.At, last)
		}
		last = rec.At
		if rec.Kind == fallbacklog.Lost || rec.Kind == fallbacklog.Unknown {
			continue // Open took in what a repair had lost; see loss_test.go
		}
		id, name := idOf(rec)
		var n, i int
		if _, err := fmt.Sscanf(name, "%d.%d.", &n, &i); err != nil {
			return fmt.Errorf("record %q at %v was never written: %w", name, rec.At, err)
		}
		if h.appends[n].lost == len(found[n])+1 {
			found[n] = append(found[n], 0)
		}
		if i != len(found[n]) {
			return fmt.Errorf("append %d: record %d at %v, want record %d", n, i, rec.At, len(found[n]))
		}
		found[n] = append(found[n], rec.At)
		want := h.record(n, i)
		want.At = rec.At
		if !reflect.DeepEqual(rec, want) {
			return fmt.Errorf("append %d: got %s, want %s", n, text(rec), text(want))
		}
		row, ok, err := l.Last(id)
		if err != nil || !ok || row.Kind != fallbacklog.Unknown && (row.At != rec.At || row.Kind != rec.Kind) {
			return fmt.Errorf("append %d: last row of record at %v is %+v, %v, %v", n, rec.At, row, ok, err)
		}
	}
	for n, t := range h.appends {
		got := found[n]
		delete(found, n)
		if t.lost == len(got)+1 && t.lost == t.records {
			got = append(got, 0)
		}
		switch {
		case len(got) != 0 && len(got) != t.records:
			return fmt.Errorf("append %d: %d of its %d records are there", n, len(got), t.records)
		case t.state == durable && !slices.Equal(got, t.at):
			return fmt.Errorf("append %d: acknowledged at %v, found at %v", n, t.at, got)
		case t.state == refused && len(got) != 0:
			return fmt.Errorf("append %d: refused, and found at %v", n, got)
		}
	}
	for n, at := range found {
		return fmt.Errorf("append %d at %v was never made", n, at)
	}
	return nil
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
