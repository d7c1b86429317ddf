package fallbacklog

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"manna/gift"
)

// FuzzFields holds the walk through a message's fields to that of protowire.
func FuzzFields(f *testing.F) {
	f.Add(appendClaim(nil, &gift.Claim{User: "u", Orders: []gift.Order{{Item: "i", Quantity: 1}}}))
	f.Add([]byte{0x2a, 0x06, 'u', 's', 'e'})                            // a string that is cut off
	f.Add([]byte{0x00, 0x01})                                           // field number 0
	f.Add([]byte{0x8a, 0x01, 0x01, 'x'})                                // a tag of two bytes
	f.Add([]byte{0x2a, 0x01, 'u', 0x30, 0x07})                          // a number behind a string
	f.Add(append([]byte{0x2a, 0x80, 0x01}, make([]byte, 0x80)...))      // a length of two bytes
	f.Add([]byte{0x0d, 1, 2, 3, 4, 0x3a, 0x00})                         // a type that we do not use
	f.Add([]byte{0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}) // a length that no message has
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := append(bytes.Clone(b), "behind the message"...)
		b = whole[:len(b)] // what is read beyond it is seen
		text, rest := string(b), b
		walk := walkFields(b)
		for walk.next() {
			num, typ, n := protowire.ConsumeTag(rest)
			if n < 0 {
				t.Fatalf("%x: a field is read where there is none", rest)
			}
			rest = rest[n:]
			var want []byte
			var number uint64
			switch typ {
			case protowire.BytesType:
				want, n = protowire.ConsumeBytes(rest)
			case protowire.VarintType:
				number, n = protowire.ConsumeVarint(rest)
			case protowire.Fixed64Type:
				number, n = protowire.ConsumeFixed64(rest)
			default:
				n = protowire.ConsumeFieldValue(num, typ, rest)
			}
			if n < 0 {
				t.Fatalf("%x: field %d is read, and is none", rest, num)
			}
			rest = rest[n:]
			if walk.num != num || !bytes.Equal(walk.bytes, want) || walk.uint != number || len(walk.rest) != len(rest) {
				t.Fatalf("%x: field %d is read as number %d, %x and %d; want %x and %d", b, num, walk.num, walk.bytes, walk.uint, want, number)
			}
			if got := walk.in(text); typ == protowire.BytesType && got != string(want) || typ != protowire.BytesType && got != "" {
				t.Fatalf("%x: the text of field %d is %q, want %q", b, num, got, want)
			}
		}
		if _, _, n := protowire.ConsumeField(rest); (walk.err == nil) != (len(rest) == 0) || walk.err != nil && n >= 0 {
			t.Fatalf("%x: the walk ended with %v where %x is left", b, walk.err, rest)
		}
	})
}

// TestTheFirstClaimOfARecordCounts: there is room for one, and two are not mixed.
func TestTheFirstClaimOfARecordCounts(t *testing.T) {
	b, err := appendRecord(nil, &Record{Kind: Claimed, Claim: &gift.Claim{User: "first", Orders: []gift.Order{{Item: "one"}}}})
	if err != nil {
		t.Fatal(err)
	}
	b = putMessage(b, fClaim, func(b []byte) []byte {
		return appendClaim(b, &gift.Claim{User: "second", Gift: "pack", Orders: []gift.Order{{Item: "two"}}})
	})
	rec, claim, err := decodeRecord(Claimed, b)
	if err != nil {
		t.Fatal(err)
	}
	if c := rec.Claim; c.User != "first" || c.Gift != "" || len(c.Orders) != 1 || c.Orders[0].Item != "one" {
		t.Errorf("the claim is read as %+v", c)
	}
	if string(appendClaim(nil, rec.Claim)) != claim {
		t.Errorf("it is given as %q", claim)
	}
}
