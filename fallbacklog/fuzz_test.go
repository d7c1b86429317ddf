package fallbacklog_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"manna/fallbacklog"
	"manna/internal/disk/crashdisk"
)

// FuzzRecord decodes anything: what is accepted is written and read again as the
// same record.
func FuzzRecord(f *testing.F) {
	for kind, rec := range goldenRecords() {
		b, err := fallbacklog.EncodeRecord(nil, rec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(kind), b)
	}
	f.Add(byte(1), []byte{0x12, 0x02, 0x5a, 0x00})
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		rec, err := fallbacklog.DecodeRecord(fallbacklog.Kind(kind), b)
		if err != nil {
			return
		}
		rec = rebuilt(rec)
		again, err := fallbacklog.EncodeRecord(nil, rec)
		if err != nil {
			t.Fatal(err)
		}
		got, err := fallbacklog.DecodeRecord(rec.Kind, again)
		if err != nil || !reflect.DeepEqual(got, rec) {
			t.Fatalf("%x is read as %s, written and read as %s, %v", b, text(rec), text(got), err)
		}
	})
}

// rebuilt leaves out what a record of another kind has, and empty values.
func rebuilt(rec *fallbacklog.Record) *fallbacklog.Record {
	out := &fallbacklog.Record{Kind: rec.Kind, Time: rec.Time}
	switch rec.Kind {
	case fallbacklog.Claimed:
		if out.Claim = rec.Claim; len(out.Claim.Target) == 0 {
			out.Claim.Target = nil
		}
	case fallbacklog.Sent:
		out.Sent = rec.Sent
	case fallbacklog.Leased, fallbacklog.Returned:
		out.Stock = rec.Stock
	case fallbacklog.Switched:
		out.Switch = rec.Switch
	case fallbacklog.Lost:
		out.Loss = rec.Loss
	default:
		out.Event = rec.Event
	}
	return out
}

// FuzzRecover opens, verifies and repairs a directory with a segment of any bytes:
// nothing panics, and nothing is accepted that Verify does not find sound.
func FuzzRecover(f *testing.F) {
	f.Add([]byte(nil), uint16(0), []byte(nil))
	f.Add([]byte("\xff"), uint16(fallbacklog.HeaderSize), []byte("\x00\x00\x00\x00"))
	d, _ := killed(&testing.T{}, 5)
	sound, err := d.ReadFile(active)
	if err != nil {
		f.Fatal(err)
	}
	sound = bytes.TrimRight(sound, "\x00")
	f.Add(sound, uint16(0), []byte(nil))
	f.Add(sound[:len(sound)-7], uint16(fallbacklog.HeaderSize+4), []byte{0xff, 0xff, 0x03})
	sealed, _, _ := fallbacklog.Salvage(sound)
	f.Add(sealed, uint16(fallbacklog.HeaderSize), []byte{1})
	f.Fuzz(func(t *testing.T, segment []byte, at uint16, over []byte) {
		// The bytes themselves, and the sound segment with some of them changed.
		changed := bytes.Clone(sound)
		for i, b := range over {
			if int(at)+i < len(changed) {
				changed[int(at)+i] ^= b
			}
		}
		for _, b := range [][]byte{segment, changed} {
			recoverFrom(t, b)
		}
	})
}

func recoverFrom(t *testing.T, segment []byte) {
	d := crashdisk.New(21)
	if err := errors.Join(d.MkdirAll("log"), d.WriteFile(active, segment)); err != nil {
		t.Fatal(err)
	}
	for range fallbacklog.Records(d, "log") {
	}
	if _, err := verified(d); err != nil {
		t.Fatal(err)
	}
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		if _, err := fallbacklog.Repair(d, "log", fallbacklog.Reached{}); err != nil {
			return // given up, with nothing changed
		}
		if l, err = fallbacklog.Open(small(d)); err != nil {
			t.Fatalf("open after a repair: %v", err)
		}
	}
	r := l.Reader(0)
	defer r.Close()
	for {
		if _, err := r.TryNext(); errors.Is(err, fallbacklog.ErrTail) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if damage, err := verified(d); err != nil || len(damage) > 0 {
		t.Fatalf("an open log has damage %q, %v", damage, err)
	}
}
