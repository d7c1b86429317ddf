package fallbacklog_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"manna/fallbacklog"
	"manna/gift"
)

var golden = flag.Bool("golden", false, "write the golden records anew: only when the format may change")

func drawTime(t *rapid.T, name string) time.Time {
	if rapid.Bool().Draw(t, name+" is zero") {
		return time.Time{}
	}
	return time.Unix(0, rapid.Int64().Draw(t, name)).UTC()
}

func drawID(t *rapid.T, name string) (id [16]byte) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name))
	return id
}

func drawRecord(t *rapid.T) *fallbacklog.Record {
	str := func(name string) string {
		s := rapid.String().Draw(t, name)
		if rapid.IntRange(0, 40).Draw(t, name+" is long") == 0 {
			s += strings.Repeat("x", rapid.IntRange(1<<13, 1<<15).Draw(t, name+" length"))
		}
		return s
	}
	rec := &fallbacklog.Record{Kind: fallbacklog.Kind(rapid.IntRange(int(fallbacklog.Claimed), int(fallbacklog.Lost)).Draw(t, "kind")), Time: drawTime(t, "time")}
	switch rec.Kind {
	case fallbacklog.Claimed:
		c := &gift.Claim{
			ID: drawID(t, "claim"), Campaign: str("campaign"), Scene: str("scene"), Stage: str("stage"), User: str("user"), Gift: str("gift"),
			Platform: str("platform"), ClaimedAt: drawTime(t, "claimed at"), DeliverBy: drawTime(t, "deliver by"),
		}
		if target := str("target"); target != "" {
			c.Target = json.RawMessage(target)
		}
		for range rapid.IntRange(0, 4).Draw(t, "orders") {
			c.Orders = append(c.Orders, gift.Order{ID: drawID(t, "order"), Item: str("item"), Partner: str("partner"), SKU: str("sku"), Quantity: rapid.Int64().Draw(t, "quantity"), Amount: rapid.Int64().Draw(t, "amount"), Currency: str("currency")})
		}
		rec.Claim = c
	case fallbacklog.Sent:
		rec.Sent = &fallbacklog.Watermark{Queue: str("queue"), Through: fallbacklog.Position(rapid.Uint64().Draw(t, "through"))}
	case fallbacklog.Leased, fallbacklog.Returned:
		rec.Stock = &fallbacklog.Stock{Campaign: str("campaign"), Gift: str("gift"), Count: rapid.Int64().Draw(t, "count"), Claim: drawID(t, "claim"), Reason: str("reason")}
	case fallbacklog.Switched:
		rec.Switch = &fallbacklog.Switch{Name: str("name"), Mode: str("mode"), Who: str("who"), Why: str("why")}
	case fallbacklog.Lost:
		rec.Loss = &fallbacklog.Loss{Segment: rapid.Uint32().Draw(t, "segment"), Bytes: rapid.Int64().Draw(t, "bytes"), From: drawTime(t, "from"), Until: drawTime(t, "until"), Doubts: rapid.Int64().Draw(t, "doubts"), Repair: str("repair")}
	default:
		rec.Event = &fallbacklog.Event{
			Order: drawID(t, "order"), Claim: drawID(t, "claim"), Campaign: str("campaign"), Partner: str("partner"), Origin: fallbacklog.Position(rapid.Uint64().Draw(t, "origin")),
			Attempts: rapid.Int().Draw(t, "attempts"), Queries: rapid.Int().Draw(t, "queries"), Began: drawTime(t, "began"), Due: drawTime(t, "due"),
			Reference: str("reference"), Voucher: str("voucher"), Amount: rapid.Int64().Draw(t, "amount"), Code: str("code"), Reason: str("reason"), Run: str("run"),
		}
	}
	return rec
}

func TestEveryRecordIsDecodedAsItWasEncoded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		before := []byte("before")
		b, err := fallbacklog.EncodeRecord(bytes.Clone(before), want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, before) {
			t.Fatal("what was in the buffer has changed")
		}
		b = b[len(before):]
		got, err := fallbacklog.DecodeRecord(want.Kind, b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
		// A later release adds fields; this one passes them over.
		b = protowire.AppendTag(b, 99, protowire.BytesType)
		b = protowire.AppendString(b, "new")
		b = protowire.AppendFixed32(protowire.AppendTag(b, 100, protowire.Fixed32Type), 7)
		if got, err := fallbacklog.DecodeRecord(want.Kind, b); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("with unknown fields: %+v, %v, want %+v", got, err, want)
		}
		// The record keeps nothing of the buffer that it was decoded from.
		clear(b)
		if !reflect.DeepEqual(got, want) {
			t.Fatal("the record changes with the buffer")
		}
	})
}

// goldenRecords has one record of each kind with every field set.
func goldenRecords() map[fallbacklog.Kind]*fallbacklog.Record {
	at := time.Date(2027, 2, 5, 12, 0, 0, 123456789, time.UTC)
	fill := func(b byte) (id [16]byte) {
		for i := range id {
			id[i] = b + byte(i)
		}
		return id
	}
	records := map[fallbacklog.Kind]*fallbacklog.Record{}
	for k := fallbacklog.Claimed; k <= fallbacklog.Lost; k++ {
		rec := &fallbacklog.Record{Kind: k, Time: at}
		switch k {
		case fallbacklog.Claimed:
			rec.Claim = &gift.Claim{
				ID: fill(1), Campaign: "campaign", Scene: "scene", Stage: "stage", User: "user", Gift: "gift", Platform: "platform",
				Target: json.RawMessage(`{"wallet":"w"}`), ClaimedAt: at.Add(1), DeliverBy: at.Add(time.Hour),
				Orders: []gift.Order{{ID: fill(2), Item: "item", Partner: "partner", SKU: "sku", Quantity: 3, Amount: -4, Currency: "CNY"}, {ID: fill(3), Item: "other"}},
			}
		case fallbacklog.Sent:
			rec.Sent = &fallbacklog.Watermark{Queue: "queue", Through: fallbacklog.At(5, 6)}
		case fallbacklog.Leased, fallbacklog.Returned:
			rec.Stock = &fallbacklog.Stock{Campaign: "campaign", Gift: "gift", Count: 7, Claim: fill(8), Reason: "reason"}
		case fallbacklog.Switched:
			rec.Switch = &fallbacklog.Switch{Name: "partner/midas", Mode: "held_open", Who: "who", Why: "why"}
		case fallbacklog.Lost:
			rec.Loss = &fallbacklog.Loss{Segment: 16, Bytes: 17, From: at.Add(4), Until: at.Add(5), Doubts: 18, Repair: "repair"}
		default:
			rec.Event = &fallbacklog.Event{
				Order: fill(9), Claim: fill(10), Campaign: "campaign", Partner: "partner", Origin: fallbacklog.At(11, 12), Attempts: 13, Queries: 14,
				Began: at.Add(2), Due: at.Add(3), Reference: "reference", Voucher: "voucher", Amount: 15, Code: "code", Reason: "reason", Run: "run",
			}
		}
		records[k] = rec
	}
	return records
}

// TestTheFormatOfRecordsStays reads what an earlier build wrote, and writes it
// byte for byte.
func TestTheFormatOfRecordsStays(t *testing.T) {
	for kind, rec := range goldenRecords() {
		path := filepath.Join("testdata", "records", kind.String()+".hex")
		b, err := fallbacklog.EncodeRecord(nil, rec)
		if err != nil {
			t.Fatal(err)
		}
		if *golden {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(b)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		line, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.TrimSpace(string(line)))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if !bytes.Equal(b, want) {
			t.Errorf("%v: written as\n%x, was\n%x", kind, b, want)
		}
		if got, err := fallbacklog.DecodeRecord(kind, want); err != nil || !reflect.DeepEqual(got, rec) {
			t.Errorf("%v: read as %s, %v, want %s", kind, text(got), err, text(rec))
		}
	}
}

func TestKindsAndPositionsReadWhatTheyWrite(t *testing.T) {
	for k := fallbacklog.Claimed; k <= fallbacklog.Lost; k++ {
		if got, err := fallbacklog.ParseKind(k.String()); err != nil || got != k {
			t.Errorf("kind %v reads as %v, %v", k, got, err)
		}
	}
	for _, s := range []string{"", "Granted", "Kind(3)"} {
		if k, err := fallbacklog.ParseKind(s); err == nil {
			t.Errorf("%q reads as kind %v", s, k)
		}
	}
	for _, at := range []fallbacklog.Position{0, fallbacklog.At(1, 1024), fallbacklog.At(1<<32-1, 1<<32-1)} {
		var got fallbacklog.Position
		b, err := at.MarshalText()
		if err == nil {
			err = got.UnmarshalText(b)
		}
		if err != nil || got != at {
			t.Errorf("position %v reads as %v, %v", at, got, err)
		}
	}
	for _, s := range []string{"", "1", "1:", ":1", "-1:1", "1:-1", "4294967296:0", "1:2:3", "a:b"} {
		if at, err := fallbacklog.ParsePosition(s); err == nil {
			t.Errorf("%q reads as position %v", s, at)
		}
	}
}
