package rocketmq

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"google.golang.org/protobuf/encoding/protowire"

	"manna/fallbacklog"
	"manna/gift"
	"manna/queue"
)

var golden = flag.Bool("golden", false, "write the golden messages anew: only when the format may change")

// evening is when the messages of these tests were claimed.
var evening = time.Date(2027, 2, 5, 12, 0, 0, 123456789, time.UTC)

// pack is a claim of three orders for two partners with every field set.
func pack() *gift.Claim {
	id := gift.NewCampaignID("spring-2027").ClaimID("rain-2000", "u1", "two")
	c := &gift.Claim{
		ID: id, Campaign: "spring-2027", Scene: "rain-2000", Stage: "two", User: "u1", Gift: "vip-pack", Platform: "ios",
		Target: json.RawMessage(`{"phone":"+1 555 0100"}`), ClaimedAt: evening, DeliverBy: evening.Add(48 * time.Hour),
	}
	for i, partner := range []string{"midas", "iris.eu", "midas"} {
		item := fmt.Sprint("item-", i)
		c.Orders = append(c.Orders, gift.Order{ID: id.OrderID(item), Item: item, Partner: partner, SKU: "V30", Quantity: 1, Amount: 500, Currency: "CNY"})
	}
	return c
}

// sample is a message with its due time.
type sample struct {
	m   queue.Message
	due time.Time
}

// samples has one message of each kind.
func samples() map[string]sample {
	c := pack()
	first := queue.Message{Claim: c, Order: c.Orders[0], Origin: 4711}
	reissue := queue.Message{Claim: c, Order: c.Orders[1], Attempts: 12}
	deferred := queue.Message{Claim: c, Order: c.Orders[2], Origin: 4711, Attempts: 3, Queries: 2, Began: evening.Add(time.Second)}
	unknown := deferred
	unknown.InDoubt = true
	return map[string]sample{
		"first": {m: first}, "reissue": {reissue, evening.Add(time.Hour)},
		"deferred": {deferred, evening.Add(time.Minute)}, "unknown": {unknown, evening.Add(time.Minute)},
	}
}

// TestGoldenMessages holds the form of messages to what earlier releases sent.
func TestGoldenMessages(t *testing.T) {
	for name, s := range samples() {
		t.Run(name, func(t *testing.T) {
			body, err := appendBody(nil, &s.m, "front-a", string(fallbacklog.AppendClaim(nil, s.m.Claim)))
			if err != nil {
				t.Fatal(err)
			}
			props := properties(&s.m, s.due)
			text := writeGolden(props, body)
			file := filepath.Join("testdata", name+".message")
			if *golden {
				if err := os.WriteFile(file, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(text, old) {
				t.Errorf("the message is sent as\n%s\nwant\n%s", text, old)
			}
			stored := readGolden(t, old)
			m, due, err := decodeMessage(stored, s.m.Order.Partner, "front-a")
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*m, s.m) || !due.Equal(s.due) {
				t.Errorf("the message is read as\n%+v, due %v\nwant\n%+v, due %v", *m, due, s.m, s.due)
			}
			// The position says nothing to a node whose log has not got the claim.
			if m, _, err = decodeMessage(stored, s.m.Order.Partner, "front-b"); err != nil || m.Origin != 0 {
				t.Errorf("another node reads the origin %v, %v; want none", m.Origin, err)
			}
		})
	}
}

func writeGolden(props map[string]string, body []byte) []byte {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(props)) {
		fmt.Fprintf(&b, "%s=%s\n", k, props[k])
	}
	b.WriteString("\n" + hex.Dump(body))
	return b.Bytes()
}

func readGolden(t *testing.T, text []byte) *stored {
	t.Helper()
	props, dump, _ := strings.Cut("\n"+string(text), "\n\n")
	s := &stored{}
	for _, line := range strings.Split(strings.TrimPrefix(props, "\n"), "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			s.props = append(s.props, k+string(rune(endOfName))+v+string(rune(endOfValue))...)
		}
	}
	for _, line := range strings.Split(dump, "\n") {
		if len(line) > 8 {
			digits, _, _ := strings.Cut(line[8:], "|")
			b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			s.body = append(s.body, b...)
		}
	}
	return s
}

// TestClaimsAtHandAreNotEncodedAgain: what the log has of a claim is handed on as it is,
// with fields of a newer release that this one does not know.
func TestClaimsAtHandAreNotEncodedAgain(t *testing.T) {
	m := samples()["first"].m
	m.Encoded = string(protowire.AppendString(protowire.AppendTag(fallbacklog.AppendClaim(nil, m.Claim), 1000, protowire.BytesType), "newer"))
	out, err := new(Queue).outgoing(&m, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var b body
	if err := b.decode(out.Body); err != nil || string(b.claim) != m.Encoded {
		t.Errorf("the message has the claim %q, %v; want %q", b.claim, err, m.Encoded)
	}
	read, _, err := decodeMessage(&stored{body: out.Body}, m.Order.Partner, "")
	if err != nil || !reflect.DeepEqual(read.Claim, m.Claim) {
		t.Errorf("the claim is read as %+v, %v; want %+v", read, err, m.Claim)
	}
}

// TestEachMessageHasItsClaim: claims at hand and others go into one request, each with
// its own.
func TestEachMessageHasItsClaim(t *testing.T) {
	var msgs []*queue.Message
	for i := range 4 {
		c := pack()
		c.User = fmt.Sprint("u", i)
		m := queue.Message{Claim: c, Order: c.Orders[0]}
		if i%2 == 1 {
			m.Encoded = string(fallbacklog.AppendClaim(nil, c))
		}
		other := m
		other.Order = c.Orders[2]
		msgs = append(msgs, &m, &other)
	}
	q := &Queue{opts: Options{Group: "manna", Batch: len(msgs)}}
	var packed []*batch
	if err := q.pack(msgs, time.Time{}, firsts, func(b *batch) error { packed = append(packed, b); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(packed) != 1 || len(packed[0].msgs) != len(msgs) {
		t.Fatalf("%d messages are packed into %+v", len(msgs), packed)
	}
	for i, s := range inBatch(t, packed[0]) {
		read, _, err := decodeMessage(s, msgs[i].Order.Partner, "")
		if err != nil || !reflect.DeepEqual(read.Claim, msgs[i].Claim) || read.Order.ID != msgs[i].Order.ID {
			t.Errorf("message %d is read as %+v, %v; want order %v of %+v", i, read, err, msgs[i].Order.ID, msgs[i].Claim)
		}
	}
}

// inBatch takes a batch apart as a broker does.
func inBatch(t *testing.T, b *batch) (msgs []*stored) {
	t.Helper()
	for r := (rest{b: b.body}); len(r.b) > 0; {
		size := len(r.b)
		n := r.number(4)
		r.skip(3 * 4)
		s := &stored{}
		s.body = r.take(r.number(4))
		s.props = r.take(r.number(2))
		if r.short || uint64(size-len(r.b)) != n {
			t.Fatalf("message %d of %d bytes does not add up", len(msgs), n)
		}
		msgs = append(msgs, s)
	}
	return msgs
}

// TestBatchesAreWhatTheClientSends: the broker is sent what the client makes of the same
// messages, whole and halved, in room that is new and in room that was used.
func TestBatchesAreWhatTheClientSends(t *testing.T) {
	var msgs []*queue.Message
	for i := range 7 {
		m := samples()["first"].m
		m.Attempts = i % 3 // one property at most: the client writes several in any order
		msgs = append(msgs, &m)
	}
	last := *msgs[6]
	longer := *last.Claim
	longer.User = strings.Repeat("u", 300)
	last.Claim = &longer
	q := &Queue{opts: Options{Group: "manna", Node: "front-a"}}
	b := new(batch)
	for _, msgs := range [][]*queue.Message{msgs, {&last, msgs[1], msgs[0]}} {
		b.empty()
		for _, m := range msgs {
			if err := b.add(m, q.opts.Node, encoded(m), time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		first, second := b.halves()
		for from, part := range map[int]*batch{0: b, len(first.msgs): second} {
			var theirs []*primitive.Message
			for _, m := range part.msgs {
				out, err := q.outgoing(m, time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				theirs = append(theirs, out)
			}
			if want := producer.MarshalMessageBatch(theirs...); !bytes.Equal(part.body, want) || !part.message().Batch {
				t.Errorf("the messages from %d on are\n%x\nwant\n%x", from, part.body, want)
			}
		}
		if got := append(slices.Clone(first.body), second.body...); !bytes.Equal(got, b.body) || len(first.msgs)+len(second.msgs) != len(msgs) || len(b.ends) != len(msgs) {
			t.Errorf("%d and %d messages are the halves of %d, with %d ends", len(first.msgs), len(second.msgs), len(msgs), len(b.ends))
		}
		half, _ := second.halves()
		if n := len(inBatch(t, half)); n != len(half.msgs) {
			t.Errorf("half of a half has %d messages, want %d", n, len(half.msgs))
		}
	}
}

func TestStrangeMessagesAreNamed(t *testing.T) {
	m := samples()["deferred"].m
	good, err := appendBody(nil, &m, "a", string(fallbacklog.AppendClaim(nil, m.Claim)))
	if err != nil {
		t.Fatal(err)
	}
	newer := protowire.AppendVarint(protowire.AppendTag(nil, fVersion, protowire.VarintType), formatVersion+1)
	newer = append(newer, "whatever that release writes"...)
	noOrder := protowire.AppendVarint(protowire.AppendTag(slices.Clone(good), fIndex, protowire.VarintType), 99)
	for name, c := range map[string]struct {
		s    stored
		want error
	}{
		"a newer format":             {stored{body: newer}, errNewer},
		"text":                       {stored{body: []byte("hello")}, errForeign},
		"nothing":                    {stored{}, errForeign},
		"an order that is not there": {stored{body: noOrder}, errForeign},
		"a compressed body":          {stored{body: good, flags: flagCompressed}, errForeign},
		"a frame that is cut":        {stored{invalid: true}, errForeign},
		"a count of words":           {stored{body: good, props: []byte("attempts\x01three\x02")}, errForeign},
		"a time of words":            {stored{body: good, props: []byte("due\x01soon\x02")}, errForeign},
	} {
		if got, _, err := decodeMessage(&c.s, "midas", "a"); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, c.want)
		}
	}
	if _, _, err := decodeMessage(&stored{body: good}, "iris", "a"); !errors.Is(err, errForeign) || !strings.Contains(err.Error(), "midas") {
		t.Errorf("an order of another lane: %v, want one that names it", err)
	}
}

// FuzzDecodeMessage: whatever a broker gives, a message is read or it is strange.
func FuzzDecodeMessage(f *testing.F) {
	for _, s := range samples() {
		body, err := appendBody(nil, &s.m, "a", string(fallbacklog.AppendClaim(nil, s.m.Claim)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, []byte("attempts\x013\x02due\x0117\x02"))
	}
	f.Fuzz(func(t *testing.T, body, props []byte) {
		m, _, err := decodeMessage(&stored{body: body, props: props}, "midas", "a")
		switch {
		case err == nil && (m.Order.Partner != "midas" || m.Claim == nil):
			t.Fatalf("read as %+v", m)
		case err != nil && !errors.Is(err, errForeign) && !errors.Is(err, errNewer):
			t.Fatalf("an error of no kind: %v", err)
		}
	})
}
