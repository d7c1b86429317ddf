package fallbacklog_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk/crashdisk"
)

// model is a log and what it has to hold.
type model struct {
	disk    *crashdisk.Disk
	log     *fallbacklog.Log
	records []*fallbacklog.Record // all, in the order in which they were appended
	readers []*follower
	events  int
}

// follower is a reader that stays, and what it still has to read.
type follower struct {
	*fallbacklog.Reader
	kinds []fallbacklog.Kind
	next  int // of the model's records
}

func (m *model) open(t *rapid.T) {
	l, err := fallbacklog.Open(small(m.disk))
	if err != nil {
		t.Fatal(err)
	}
	m.log = l
	for _, f := range m.readers {
		f.Reader = l.Reader(f.Position(), f.kinds...)
	}
}

func (m *model) close(t *rapid.T) {
	for _, f := range m.readers {
		f.Close()
	}
	if err := m.log.Close(); err != nil {
		t.Fatal(err)
	}
}

// Few claims and orders, so that ids repeat.
func modelClaim(n int) *gift.Claim {
	campaign := gift.NewCampaignID("spring")
	c := &gift.Claim{ID: campaign.ClaimID("rain", fmt.Sprint("u", n), ""), Campaign: "spring", User: fmt.Sprint("u", n), Gift: "pack"}
	for i := range n % 3 {
		item := fmt.Sprint("item-", i)
		c.Orders = append(c.Orders, gift.Order{ID: c.ID.OrderID(item), Item: item, Partner: fmt.Sprint("p", i), Amount: int64(i)})
	}
	return c
}

const modelClaims = 8

func (m *model) record(t *rapid.T) *fallbacklog.Record {
	m.events++
	rec := &fallbacklog.Record{Time: when.Add(time.Duration(m.events) * time.Second)}
	claim := modelClaim(rapid.IntRange(0, modelClaims-1).Draw(t, "claim"))
	rec.Kind = rapid.SampledFrom([]fallbacklog.Kind{
		fallbacklog.Claimed, fallbacklog.Attempted, fallbacklog.Granted, fallbacklog.Refused, fallbacklog.Deferred, fallbacklog.Unknown,
		fallbacklog.Parked, fallbacklog.Reissued, fallbacklog.Sent, fallbacklog.Leased, fallbacklog.Returned, fallbacklog.Switched, fallbacklog.Lost,
	}).Draw(t, "kind")
	switch rec.Kind {
	case fallbacklog.Sent:
		rec.Sent = &fallbacklog.Watermark{Queue: "q", Through: fallbacklog.At(1, uint32(m.events))}
	case fallbacklog.Leased:
		rec.Stock = &fallbacklog.Stock{Campaign: "spring", Gift: "pack", Count: int64(m.events)}
	case fallbacklog.Returned:
		rec.Stock = &fallbacklog.Stock{Campaign: "spring", Gift: "pack", Count: 1, Claim: claim.ID}
	case fallbacklog.Switched:
		rec.Switch = &fallbacklog.Switch{Name: "partner/p", Mode: "held_open", Who: "w", Why: "y"}
	case fallbacklog.Lost:
		rec.Loss = &fallbacklog.Loss{Segment: 1, Bytes: int64(m.events), Until: rec.Time}
	default:
		if rec.Kind == fallbacklog.Claimed || len(claim.Orders) == 0 {
			rec.Kind, rec.Claim = fallbacklog.Claimed, claim
			break
		}
		o := rapid.SampledFrom(claim.Orders).Draw(t, "order")
		rec.Event = &fallbacklog.Event{
			Order: o.ID, Claim: claim.ID, Campaign: claim.Campaign, Partner: o.Partner, Attempts: m.events, Queries: m.events / 2,
			Code: fmt.Sprint(m.events), Due: rec.Time.Add(time.Minute),
		}
	}
	return rec
}

func (m *model) append(t *rapid.T) {
	recs := make([]*fallbacklog.Record, rapid.IntRange(1, 4).Draw(t, "records"))
	for i := range recs {
		recs[i] = m.record(t)
	}
	if err := m.log.Append(t.Context(), recs...); err != nil {
		t.Fatal(err)
	}
	m.records = append(m.records, recs...)
}

func (m *model) seal(t *rapid.T) {
	indexes, err := m.log.Seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var rows int64
	for _, x := range indexes {
		rows += x.Rows()
	}
	names, want := fallbacklog.NewNames(), 0
	for _, rec := range m.records {
		want += len(fallbacklog.RowsOf(rec, names))
	}
	if rows != int64(want) {
		t.Fatalf("the indexes hold %d rows, want %d", rows, want)
	}
}

func (m *model) crash(t *rapid.T) {
	after := m.disk.Kill()
	if rapid.Bool().Draw(t, "power") {
		after = m.disk.Crash(rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(t, "kept"))
	}
	m.close(t)
	m.disk = after
	m.open(t)
}

// rows are an id's rows, without the numbers of names.
func (m *model) rows(id [16]byte) (rows []fallbacklog.Row) {
	names := fallbacklog.NewNames()
	for _, rec := range m.records {
		for _, row := range fallbacklog.RowsOf(rec, names) {
			if row.ID == id {
				rows = append(rows, row)
			}
		}
	}
	return unnamed(rows)
}

func unnamed(rows []fallbacklog.Row) []fallbacklog.Row {
	for i := range rows {
		rows[i].Lane, rows[i].Campaign, rows[i].Gift = 0, 0, 0
	}
	return rows
}

func (m *model) lookup(t *rapid.T) {
	claim := modelClaim(rapid.IntRange(0, modelClaims-1).Draw(t, "claim"))
	ids := [][16]byte{claim.ID, fallbacklog.NamedID(fallbacklog.Switched, "partner/p"), fallbacklog.NamedID(fallbacklog.Sent, "q"), fallbacklog.NamedID(fallbacklog.Leased, "spring/pack")}
	for _, o := range claim.Orders {
		ids = append(ids, o.ID)
	}
	for _, id := range ids {
		want := m.rows(id)
		got, err := m.log.Lookup(id)
		if err != nil || !slices.Equal(unnamed(got), want) {
			t.Fatalf("rows of %x: got %+v, %v, want %+v", id, got, err, want)
		}
		last, ok, err := m.log.Last(id)
		if err != nil || ok != (len(want) > 0) || ok && unnamed([]fallbacklog.Row{last})[0] != want[len(want)-1] {
			t.Fatalf("last row of %x: got %+v, %v, %v, want that of %+v", id, last, ok, err, want)
		}
	}
	m.claim(t, claim)
}

// claim compares a claim, and its orders' stories, with those the model tells.
func (m *model) claim(t *rapid.T, claim *gift.Claim) {
	claimed := slices.IndexFunc(m.records, func(r *fallbacklog.Record) bool { return r.Claim != nil && r.Claim.ID == claim.ID })
	got, stories, err := m.log.Claim(claim.ID)
	if claimed < 0 {
		if !errors.Is(err, fallbacklog.ErrNotFound) {
			t.Fatalf("a claim that was never made: %+v, %v", got, err)
		}
		return
	}
	if err != nil || !reflect.DeepEqual(got, claim) || len(stories) != len(claim.Orders) {
		t.Fatalf("claim: got %+v, %v, want %+v", got, err, claim)
	}
	for i, o := range claim.Orders {
		want := &fallbacklog.Story{Claim: claim, Order: o, Origin: m.records[claimed].At}
		for _, rec := range m.records {
			if rec.Claim != nil && rec.Claim.ID == claim.ID || rec.Event != nil && rec.Event.Order == o.ID {
				want.Apply(rec)
			}
		}
		if !reflect.DeepEqual(stories[i], want) {
			t.Fatalf("story: got %s, want %s", text(stories[i]), text(want))
		}
		if one, err := m.log.Order(o.ID); err != nil || !reflect.DeepEqual(one, want) {
			t.Fatalf("order: got %s, %v, want %s", text(one), err, text(want))
		}
		rows, err := m.log.Lookup(o.ID)
		if err != nil {
			t.Fatal(err)
		}
		if state, open := fallbacklog.StateOf(rows); state != want.State || open != want.Open {
			t.Fatalf("rows say %v, open %v; records say %v, open %v", state, open, want.State, want.Open)
		}
	}
}

func (m *model) read(t *rapid.T) {
	if len(m.records) == 0 {
		t.Skip()
	}
	want := rapid.SampledFrom(m.records).Draw(t, "record")
	if got, err := m.log.Read(want.At); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("read %v: got %s, %v, want %s", want.At, text(got), err, text(want))
	}
}

func (m *model) newReader(t *rapid.T) {
	if len(m.readers) > 4 {
		t.Skip()
	}
	f := &follower{next: rapid.IntRange(0, len(m.records)).Draw(t, "from")}
	f.kinds = rapid.SampledFrom([][]fallbacklog.Kind{nil, {fallbacklog.Claimed}, {fallbacklog.Granted, fallbacklog.Switched}}).Draw(t, "kinds")
	at := m.log.End()
	if f.next < len(m.records) {
		at = m.records[f.next].At
	}
	f.Reader = m.log.Reader(at, f.kinds...)
	m.readers = append(m.readers, f)
}

// follow lets each reader read some way, or up to the tail.
func (m *model) follow(t *rapid.T) {
	for _, f := range m.readers {
		for range rapid.IntRange(0, 20).Draw(t, "some") {
			for f.next < len(m.records) && f.kinds != nil && !slices.Contains(f.kinds, m.records[f.next].Kind) {
				f.next++
			}
			got, err := f.TryNext()
			if f.next == len(m.records) {
				if !errors.Is(err, fallbacklog.ErrTail) {
					t.Fatalf("at the tail: got %s, %v", text(got), err)
				}
				break
			}
			if want := m.records[f.next]; err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("reader: got %s, %v, want %s", text(got), err, text(want))
			}
			f.next++
		}
	}
}

// TestTheLogIsItsModel does whatever may be done to a log, in any order.
func TestTheLogIsItsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{disk: crashdisk.New(12)}
		m.open(t)
		t.Cleanup(func() { m.log.Close() })
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append,
			"more":   m.append,
			"seal":   m.seal,
			"restart": func(t *rapid.T) {
				m.close(t)
				m.open(t)
			},
			"crash":  m.crash,
			"lookup": m.lookup,
			"read":   m.read,
			"reader": m.newReader,
			"follow": m.follow,
		})
		m.close(t)
	})
}
