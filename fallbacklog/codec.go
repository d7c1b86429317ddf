package fallbacklog

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"manna/gift"
)

// Field numbers of a record's payload. Numbers are never reused.
const (
	fTime   = 1
	fClaim  = 2
	fEvent  = 3
	fSent   = 4
	fStock  = 5
	fSwitch = 6
	fLoss   = 7
)

// MaxRecord bounds a record's payload in bytes.
const MaxRecord = 256 << 10

// appendRecord appends the payload of rec to b.
func appendRecord(b []byte, rec *Record) ([]byte, error) {
	b = putTime(b, fTime, rec.Time)
	switch {
	case rec.Kind == Claimed && rec.Claim != nil:
		return putMessage(b, fClaim, func(b []byte) []byte { return appendClaim(b, rec.Claim) }), nil
	case rec.Kind >= Attempted && rec.Kind <= Reissued && rec.Event != nil:
		return putMessage(b, fEvent, func(b []byte) []byte { return appendEvent(b, rec.Event) }), nil
	case rec.Kind == Sent && rec.Sent != nil:
		return putMessage(b, fSent, func(b []byte) []byte {
			return putUint(putString(b, 1, rec.Sent.Queue), 2, uint64(rec.Sent.Through))
		}), nil
	case (rec.Kind == Leased || rec.Kind == Returned) && rec.Stock != nil:
		return putMessage(b, fStock, func(b []byte) []byte {
			s := rec.Stock
			b = putString(b, 1, s.Campaign)
			b = putString(b, 2, s.Gift)
			b = putInt(b, 3, s.Count)
			b = putID(b, 4, s.Claim)
			return putString(b, 5, s.Reason)
		}), nil
	case rec.Kind == Switched && rec.Switch != nil:
		return putMessage(b, fSwitch, func(b []byte) []byte {
			s := rec.Switch
			return putString(putString(putString(putString(b, 1, s.Name), 2, s.Mode), 3, s.Who), 4, s.Why)
		}), nil
	case rec.Kind == Lost && rec.Loss != nil:
		return putMessage(b, fLoss, func(b []byte) []byte { return appendLoss(b, rec.Loss) }), nil
	}
	return nil, fmt.Errorf("a %v record without its body", rec.Kind)
}

func appendClaim(b []byte, c *gift.Claim) []byte {
	b = putID(b, 1, c.ID)
	b = putString(b, 2, c.Campaign)
	b = putString(b, 3, c.Scene)
	b = putString(b, 4, c.Stage)
	b = putString(b, 5, c.User)
	b = putString(b, 6, c.Gift)
	b = putString(b, 7, c.Platform)
	b = putString(b, 8, string(c.Target))
	b = putTime(b, 9, c.ClaimedAt)
	b = putTime(b, 10, c.DeliverBy)
	for i := range c.Orders {
		o := &c.Orders[i]
		b = putMessage(b, 11, func(b []byte) []byte {
			b = putID(b, 1, o.ID)
			b = putString(b, 2, o.Item)
			b = putString(b, 3, o.Partner)
			b = putString(b, 4, o.SKU)
			b = putInt(b, 5, o.Quantity)
			b = putInt(b, 6, o.Amount)
			return putString(b, 7, o.Currency)
		})
	}
	return b
}

func appendEvent(b []byte, e *Event) []byte {
	b = putID(b, 1, e.Order)
	b = putID(b, 2, e.Claim)
	b = putString(b, 3, e.Campaign)
	b = putString(b, 4, e.Partner)
	b = putUint(b, 5, uint64(e.Origin))
	b = putInt(b, 6, int64(e.Attempts))
	b = putInt(b, 7, int64(e.Queries))
	b = putTime(b, 8, e.Began)
	b = putTime(b, 9, e.Due)
	b = putString(b, 10, e.Reference)
	b = putString(b, 11, e.Voucher)
	b = putInt(b, 12, e.Amount)
	b = putString(b, 13, e.Code)
	b = putString(b, 14, e.Reason)
	return putString(b, 15, e.Run)
}

// decodeRecord reads a payload. The record keeps no part of b.
func decodeRecord(kind Kind, b []byte) (*Record, error) {
	if !kind.valid() {
		return nil, fmt.Errorf("kind %d is not known to this release", kind)
	}
	rec := &Record{Kind: kind}
	err := eachField(b, func(f field) error {
		switch f.num {
		case fTime:
			rec.Time = f.time()
		case fClaim:
			rec.Claim = new(gift.Claim)
			return decodeClaim(rec.Claim, f.bytes)
		case fEvent:
			rec.Event = new(Event)
			return decodeEvent(rec.Event, f.bytes)
		case fSent:
			rec.Sent = new(Watermark)
			return eachField(f.bytes, func(f field) error {
				switch f.num {
				case 1:
					rec.Sent.Queue = string(f.bytes)
				case 2:
					rec.Sent.Through = Position(f.uint)
				}
				return nil
			})
		case fStock:
			rec.Stock = new(Stock)
			return eachField(f.bytes, func(f field) error {
				switch f.num {
				case 1:
					rec.Stock.Campaign = string(f.bytes)
				case 2:
					rec.Stock.Gift = string(f.bytes)
				case 3:
					rec.Stock.Count = f.int()
				case 4:
					return f.id((*[16]byte)(&rec.Stock.Claim))
				case 5:
					rec.Stock.Reason = string(f.bytes)
				}
				return nil
			})
		case fSwitch:
			rec.Switch = new(Switch)
			return eachField(f.bytes, func(f field) error {
				switch f.num {
				case 1:
					rec.Switch.Name = string(f.bytes)
				case 2:
					rec.Switch.Mode = string(f.bytes)
				case 3:
					rec.Switch.Who = string(f.bytes)
				case 4:
					rec.Switch.Why = string(f.bytes)
				}
				return nil
			})
		case fLoss:
			rec.Loss = new(Loss)
			return decodeLoss(rec.Loss, f.bytes)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var whole bool
	switch kind {
	case Claimed:
		whole = rec.Claim != nil
	case Sent:
		whole = rec.Sent != nil
	case Leased, Returned:
		whole = rec.Stock != nil
	case Switched:
		whole = rec.Switch != nil
	case Lost:
		whole = rec.Loss != nil
	default:
		whole = rec.Event != nil
	}
	if !whole {
		return nil, fmt.Errorf("a %v record without its body", kind)
	}
	return rec, nil
}

// decodeClaim reads a claim. Its strings are parts of one copy of b: they come and go
// together, and a string for each is most of what a claim would cost.
func decodeClaim(c *gift.Claim, b []byte) error {
	text := string(b)
	return eachField(b, func(f field) error {
		switch f.num {
		case 1:
			return f.id((*[16]byte)(&c.ID))
		case 2:
			c.Campaign = f.in(text)
		case 3:
			c.Scene = f.in(text)
		case 4:
			c.Stage = f.in(text)
		case 5:
			c.User = f.in(text)
		case 6:
			c.Gift = f.in(text)
		case 7:
			c.Platform = f.in(text)
		case 8:
			c.Target = json.RawMessage(f.in(text))
		case 9:
			c.ClaimedAt = f.time()
		case 10:
			c.DeliverBy = f.time()
		case 11:
			c.Orders = append(c.Orders, gift.Order{})
			return decodeOrder(&c.Orders[len(c.Orders)-1], f.bytes, f.in(text))
		}
		return nil
	})
}

// decodeOrder reads an order. Its strings are parts of text, which is b's.
func decodeOrder(o *gift.Order, b []byte, text string) error {
	return eachField(b, func(f field) error {
		switch f.num {
		case 1:
			return f.id((*[16]byte)(&o.ID))
		case 2:
			o.Item = f.in(text)
		case 3:
			o.Partner = f.in(text)
		case 4:
			o.SKU = f.in(text)
		case 5:
			o.Quantity = f.int()
		case 6:
			o.Amount = f.int()
		case 7:
			o.Currency = f.in(text)
		}
		return nil
	})
}

func decodeEvent(e *Event, b []byte) error {
	return eachField(b, func(f field) error {
		switch f.num {
		case 1:
			return f.id((*[16]byte)(&e.Order))
		case 2:
			return f.id((*[16]byte)(&e.Claim))
		case 3:
			e.Campaign = string(f.bytes)
		case 4:
			e.Partner = string(f.bytes)
		case 5:
			e.Origin = Position(f.uint)
		case 6:
			e.Attempts = int(f.int())
		case 7:
			e.Queries = int(f.int())
		case 8:
			e.Began = f.time()
		case 9:
			e.Due = f.time()
		case 10:
			e.Reference = string(f.bytes)
		case 11:
			e.Voucher = string(f.bytes)
		case 12:
			e.Amount = f.int()
		case 13:
			e.Code = string(f.bytes)
		case 14:
			e.Reason = string(f.bytes)
		case 15:
			e.Run = string(f.bytes)
		}
		return nil
	})
}

// The wire helpers leave out empty values, as protocol buffers do.

func putMessage(b []byte, num protowire.Number, body func([]byte) []byte) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	// Bodies are nearly always shorter than 16 KiB, so two bytes are set aside
	// for the length and the body moves only where that was not enough.
	start := len(b)
	b = body(append(b, 0, 0))
	n := len(b) - start - 2
	if n < 1<<14 {
		b[start], b[start+1] = byte(n)|0x80, byte(n>>7)
		return b
	}
	b = append(b, make([]byte, protowire.SizeVarint(uint64(n))-2)...)
	copy(b[len(b)-n:], b[start+2:start+2+n])
	protowire.AppendVarint(b[:start], uint64(n))
	return b
}

func putString(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func putID(b []byte, num protowire.Number, id [16]byte) []byte {
	if id == ([16]byte{}) {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), id[:])
}

func putUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func putInt(b []byte, num protowire.Number, v int64) []byte {
	return putUint(b, num, protowire.EncodeZigZag(v))
}

func putTime(b []byte, num protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return protowire.AppendFixed64(protowire.AppendTag(b, num, protowire.Fixed64Type), uint64(t.UnixNano()))
}

// field is one decoded field: bytes for length-delimited ones, which end at end, and
// uint for the rest.
type field struct {
	num   protowire.Number
	bytes []byte
	end   int
	uint  uint64
}

// in is the part of text that has the field's bytes, where text is what eachField was
// given.
func (f field) in(text string) string { return text[f.end-len(f.bytes) : f.end] }

func (f field) int() int64 { return protowire.DecodeZigZag(f.uint) }

func (f field) time() time.Time { return time.Unix(0, int64(f.uint)).UTC() }

func (f field) id(into *[16]byte) error {
	if len(f.bytes) != len(into) {
		return fmt.Errorf("field %d: an id of %d bytes", f.num, len(f.bytes))
	}
	copy(into[:], f.bytes)
	return nil
}

var errWire = errors.New("payload is not valid wire format")

func eachField(b []byte, do func(field) error) error {
	size := len(b)
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		f := field{num: num}
		switch typ {
		case protowire.VarintType:
			f.uint, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.uint, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errWire
		}
		b = b[n:]
		f.end = size - len(b)
		if err := do(f); err != nil {
			return err
		}
	}
	return nil
}
