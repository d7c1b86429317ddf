package fallbacklog_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

// order is a claim of one order, whose id begins with n.
func order(n byte) (claim *fallbacklog.Record, event func(fallbacklog.Kind, fallbacklog.Event) *fallbacklog.Record) {
	o, c := gift.OrderID{n, 1}, gift.ClaimID{n, 2}
	claim = &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: when, Claim: &gift.Claim{ID: c, Campaign: "c", User: fmt.Sprint(n), Orders: []gift.Order{{ID: o, Partner: "p"}}}}
	return claim, func(k fallbacklog.Kind, e fallbacklog.Event) *fallbacklog.Record {
		e.Order, e.Claim, e.Campaign, e.Partner, e.Origin = o, c, "c", "p", claim.At
		return &fallbacklog.Record{Kind: k, Time: when.Add(time.Second), Event: &e}
	}
}

// night is a log of three segments. In the second lies the grant of order 1, and
// the third says of order 3 that it was deferred. Order 2 has no outcome, order 4
// was refused in the first, order 5 is parked there, order 6 was claimed last.
func night(t *testing.T) (d *crashdisk.Disk, grant fallbacklog.Position) {
	t.Helper()
	d = crashdisk.New(7)
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		t.Fatal(err)
	}
	do := func(recs ...*fallbacklog.Record) {
		t.Helper()
		if err := l.Append(t.Context(), recs...); err != nil {
			t.Fatal(err)
		}
	}
	seal := func() {
		t.Helper()
		if _, err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var claims [7]*fallbacklog.Record
	var events [7]func(fallbacklog.Kind, fallbacklog.Event) *fallbacklog.Record
	for n := range claims {
		claims[n], events[n] = order(byte(n))
	}
	do(claims[1:6]...)
	do(events[4](fallbacklog.Refused, fallbacklog.Event{Attempts: 1, Code: "no"}), events[5](fallbacklog.Parked, fallbacklog.Event{Attempts: 7, Code: "exhausted"}))
	seal()
	granted := events[1](fallbacklog.Granted, fallbacklog.Event{Attempts: 1, Reference: "r"})
	do(granted)
	do(&fallbacklog.Record{Kind: fallbacklog.Switched, Time: when, Switch: &fallbacklog.Switch{Name: "s", Mode: "automatic"}})
	seal()
	do(events[3](fallbacklog.Deferred, fallbacklog.Event{Attempts: 2, Due: when.Add(time.Minute)}), claims[6])
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return d.Crash(0), granted.At
}

// standing is what the log says of orders 1 to 6.
func standing(t *testing.T, l *fallbacklog.Log) (said []string) {
	t.Helper()
	for n := byte(1); n <= 6; n++ {
		s, err := l.Order(gift.OrderID{n, 1})
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, strings.TrimSpace(fmt.Sprintf("%v %s", s.State, map[bool]string{true: "in doubt"}[s.Doubt])))
	}
	return said
}

func wantStanding(t *testing.T, l *fallbacklog.Log, want ...string) {
	t.Helper()
	if got := standing(t, l); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("orders are\n%q, want\n%q", got, want)
	}
}

// Orders whose outcome may have been among what was lost become unknown, those
// that had one or of which something was written since do not, and a start later
// nothing more happens.
func TestWhatARepairLostLeavesOrdersInDoubt(t *testing.T) {
	d, grant := night(t)
	if err := d.FlipBit(segmentFile(2), int64(grant.Offset())+20, 1); err != nil {
		t.Fatal(err)
	}
	done, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{})
	if err != nil || len(done) != 1 || done[0].Lost <= 0 {
		t.Fatalf("Repair did %+v, %v", done, err)
	}
	want := []string{"unknown in doubt", "unknown in doubt", "deferred", "refused", "parked in doubt", "accepted"}
	records := 0
	for start := range 3 {
		l := openLog(t, small(d))
		wantStanding(t, l, want...)
		losses, err := l.Losses()
		if err != nil || len(losses) != 1 {
			t.Fatalf("losses are %+v, %v", losses, err)
		}
		loss := losses[0]
		if loss.Segment != 2 || loss.Bytes != done[0].Lost || loss.Doubts != 3 || !loss.From.Equal(when.Add(time.Second)) || loss.Until.IsZero() {
			t.Fatalf("the loss is %+v", loss)
		}
		s, err := l.Order(gift.OrderID{5, 1})
		if err != nil || s.Code != "exhausted" || s.Attempts != 7 {
			t.Fatalf("the parked order is %+v, %v", s, err)
		}
		if s, err = l.Order(gift.OrderID{1, 1}); err != nil || s.Code != fallbacklog.CodeLost || s.Began.Before(loss.Until) || s.Due.IsZero() {
			t.Fatalf("the order in doubt is %+v, %v", s, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if start > 0 && len(s.Records) != records {
			t.Fatalf("start %d: the order has %d records, after the first it had %d", start, len(s.Records), records)
		}
		records = len(s.Records)
	}
}

// Of so many orders that they are looked at in several ranges of ids none is passed
// over and none comes twice, those with the first and the last id of a range included.
func TestALossPutsEveryOrderInDoubtOnce(t *testing.T) {
	t.Parallel()
	const orders = 2 * fallbacklog.SpanRows
	d := crashdisk.New(8)
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]gift.OrderID, orders)
	var recs []*fallbacklog.Record
	for n := range ids {
		binary.BigEndian.PutUint16(ids[n][:], uint16(n*(1<<16/orders)))
		if n%2 == 1 {
			copy(ids[n][2:], bytes.Repeat([]byte{0xff}, 14))
		}
		c := gift.ClaimID(ids[n])
		c[15] ^= 1
		recs = append(recs, &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: when, Claim: &gift.Claim{ID: c, Campaign: "c", User: "u", Orders: []gift.Order{{ID: ids[n], Partner: "p"}}}})
	}
	for some := range slices.Chunk(recs, 1000) {
		if err := l.Append(t.Context(), some...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost := &fallbacklog.Record{Kind: fallbacklog.Switched, Time: when, Switch: &fallbacklog.Switch{Name: "s", Mode: "automatic"}}
	if err := errors.Join(l.Append(t.Context(), lost), l.Close()); err != nil {
		t.Fatal(err)
	}
	if err := d.FlipBit(segmentFile(int(lost.At.Segment())), int64(lost.At.Offset())+20, 1); err != nil {
		t.Fatal(err)
	}
	if done, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); err != nil || len(done) != 1 {
		t.Fatalf("Repair did %+v, %v", done, err)
	}
	l = openLog(t, small(d))
	if losses, err := l.Losses(); err != nil || len(losses) != 1 || losses[0].Doubts != orders {
		t.Fatalf("losses are %+v, %v, want %d orders in doubt", losses, err, orders)
	}
	for _, id := range ids {
		rows, err := l.Lookup(id)
		if err != nil || len(rows) != 2 || rows[1].Kind != fallbacklog.Unknown {
			t.Fatalf("order %v has the rows %+v, %v, want its claim and one more that it is unknown", id, rows, err)
		}
	}
}

// A segment that is missing has lost everything that was in it.
func TestAMissingSegmentLeavesOrdersInDoubt(t *testing.T) {
	d, _ := night(t)
	remove(t, d, segmentFile(2), indexFile(2))
	if done, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); err != nil || len(done) != 1 || done[0].Lost != -1 {
		t.Fatalf("Repair did %+v, %v", done, err)
	}
	l := openLog(t, small(d))
	wantStanding(t, l, "unknown in doubt", "unknown in doubt", "deferred", "refused", "parked in doubt", "accepted")
	if losses, err := l.Losses(); err != nil || len(losses) != 1 || losses[0].Bytes != -1 || !losses[0].From.Equal(when.Add(time.Second)) {
		t.Fatalf("losses are %+v, %v", losses, err)
	}
}

// A log that is sound, or in which only room was lost, has no doubts.
func TestNothingLostLeavesNoDoubt(t *testing.T) {
	d, _ := night(t)
	l := openLog(t, small(d))
	wantStanding(t, l, "granted", "accepted", "deferred", "refused", "parked", "accepted")
	if losses, err := l.Losses(); err != nil || len(losses) != 0 {
		t.Fatalf("losses are %+v, %v", losses, err)
	}
}

// The process is killed at each operation of the start that takes a loss in.
func TestACrashWhileALossIsTakenIn(t *testing.T) {
	d, grant := night(t)
	if err := d.FlipBit(segmentFile(2), int64(grant.Offset())+20, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); err != nil {
		t.Fatal(err)
	}
	var at []*crashdisk.Disk
	tapped := &tap{Disk: d, told: func(string, string) { at = append(at, d.Crash(0), d.Kill()) }}
	opts := small(d)
	opts.Disk = tapped
	openLog(t, opts).Close()
	for n, left := range at {
		l, err := fallbacklog.Open(small(left))
		if err != nil {
			t.Fatalf("crash %d: %v", n, err)
		}
		wantStanding(t, l, "unknown in doubt", "unknown in doubt", "deferred", "refused", "parked in doubt", "accepted")
		if losses, err := l.Losses(); err != nil || len(losses) != 1 {
			t.Fatalf("crash %d: losses are %+v, %v", n, losses, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A log that ends before what somebody has read of it is refused as it is, found
// by Verify, and filled up by Repair.
func TestAnEndThatIsMissing(t *testing.T) {
	for name, cut := range map[string]func(t *testing.T, d *crashdisk.Disk) fallbacklog.Reached{
		"the last segment was taken away": func(t *testing.T, d *crashdisk.Disk) fallbacklog.Reached {
			size := len(content(t, d, segmentFile(3)))
			remove(t, d, segmentFile(3), indexFile(3))
			return fallbacklog.Reached{At: fallbacklog.At(3, uint32(size-100)), By: "lane p"}
		},
		"the active segment was cut": func(t *testing.T, d *crashdisk.Disk) fallbacklog.Reached {
			b := content(t, d, segmentFile(3))
			frames := fallbacklog.Frames(b)
			remove(t, d, indexFile(3))
			if err := d.WriteFile(segmentFile(3), b[:frames[0].Offset]); err != nil {
				t.Fatal(err)
			}
			return fallbacklog.Reached{At: fallbacklog.At(3, uint32(frames[len(frames)-1].Offset)), By: "lane p"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := night(t)
			reached := cut(t, d)
			d = d.Kill()
			before, err := d.List("log")
			if err != nil {
				t.Fatal(err)
			}
			opts := small(d)
			opts.Reached = reached
			if l, err := fallbacklog.Open(opts); !isCorrupt(err, segmentFile(3)) || !strings.Contains(err.Error(), "lane p") {
				t.Fatalf("opened: %v, %v", l, err)
			}
			if after, err := d.List("log"); err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
				t.Fatalf("the refused start left %v, %v, there were %v", after, err, before)
			}
			var found []string
			sound, err := fallbacklog.Verify(d, "log", reached, func(v fallbacklog.Verdict) error {
				found = append(found, v.Damage...)
				return nil
			})
			if sound || err != nil || len(found) != 1 || !strings.Contains(found[0], "lane p") {
				t.Fatalf("Verify found %q, %v, %v", found, sound, err)
			}
			if done, err := fallbacklog.Repair(d, "log", reached); err != nil || len(done) != 1 {
				t.Fatalf("Repair did %+v, %v", done, err)
			}
			if done, err := fallbacklog.Repair(d, "log", reached); err != nil || len(done) != 0 {
				t.Fatalf("a second repair did %+v, %v", done, err)
			}
			l := openLog(t, opts)
			for n, want := range map[byte]gift.State{1: gift.StateGranted, 2: gift.StateUnknown, 3: gift.StateUnknown, 4: gift.StateRefused} {
				if s, err := l.Order(gift.OrderID{n, 1}); err != nil || s.State != want {
					t.Errorf("order %d: %+v, %v, want %v", n, s, err, want)
				}
			}
			if r := l.Reader(reached.At); r != nil {
				rec, err := r.TryNext()
				if err != nil || rec.At < reached.At {
					t.Errorf("who had read up to %v goes on at %v, %v", reached.At, rec, err)
				}
				r.Close()
			}
			if losses, err := l.Losses(); err != nil || len(losses) != 1 {
				t.Errorf("losses are %+v, %v", losses, err)
			}
		})
	}
}

// A place that the log still has, or has only just left behind, is no damage.
func TestWhatTheLogHasReachedIsNoDamage(t *testing.T) {
	d, _ := night(t)
	end := uint32(len(content(t, d, segmentFile(3))) - fallbacklog.FooterFrame)
	for _, at := range []fallbacklog.Position{0, fallbacklog.At(1, 1024), fallbacklog.At(3, end), fallbacklog.At(4, fallbacklog.HeaderSize)} {
		var left disk.Disk = d.Kill()
		opts := small(left)
		opts.Reached = fallbacklog.Reached{At: at, By: "lane p"}
		l, err := fallbacklog.Open(opts)
		if err != nil {
			t.Fatalf("reached %v: %v", at, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if sound, err := fallbacklog.Verify(left, "log", opts.Reached, func(fallbacklog.Verdict) error { return context.Cause(t.Context()) }); !sound || err != nil {
			t.Fatalf("reached %v: %v, %v", at, sound, err)
		}
	}
}
