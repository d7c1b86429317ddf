package fallbacklog

import (
	"encoding/json"
	"fmt"

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

// decodeRecord reads a payload. The record keeps no part of b. claim is the wire format
// of a `claimed` record's claim, which shares its bytes with the record's strings.
func decodeRecord(kind Kind, b []byte) (rec *Record, claim string, err error) {
	if !kind.valid() {
		return nil, "", fmt.Errorf("kind %d is not known to this release", kind)
	}
	var room *roomOfClaim
	if kind == Claimed {
		both := new(struct {
			rec  Record
			room roomOfClaim
		})
		rec, room = &both.rec, &both.room
	} else {
		rec = new(Record)
	}
	rec.Kind = kind
	f := walkFields(b)
	for f.next() {
		switch {
		case f.num == fTime:
			rec.Time = f.time()
		case f.num == fClaim && room != nil && rec.Claim == nil: // there is room for one
			claim = string(f.bytes)
			rec.Claim, f.err = decodeClaim(room, f.bytes, claim)
		case f.num == fEvent:
			rec.Event = new(Event)
			f.err = decodeEvent(rec.Event, f.bytes)
		case f.num == fSent:
			rec.Sent = new(Watermark)
			f.err = decodeWatermark(rec.Sent, f.bytes)
		case f.num == fStock:
			rec.Stock = new(Stock)
			f.err = decodeStock(rec.Stock, f.bytes)
		case f.num == fSwitch:
			rec.Switch = new(Switch)
			f.err = decodeSwitch(rec.Switch, f.bytes)
		case f.num == fLoss:
			rec.Loss = new(Loss)
			f.err = decodeLoss(rec.Loss, f.bytes)
		}
	}
	if f.err != nil {
		return nil, "", f.err
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
		return nil, "", fmt.Errorf("a %v record without its body", kind)
	}
	return rec, claim, nil
}

// roomOfClaim is a claim with the one order that most have: they come and go together.
type roomOfClaim struct {
	claim gift.Claim
	order [1]gift.Order
}

// decodeClaim reads a claim into room. Its strings are parts of text, which is b's: a
// string for each is most of what a claim would cost.
func decodeClaim(room *roomOfClaim, b []byte, text string) (*gift.Claim, error) {
	c := &room.claim
	f := walkFields(b)
	for f.next() {
		switch f.num {
		case 1:
			f.id((*[16]byte)(&c.ID))
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
			if c.Orders == nil {
				c.Orders = room.order[:]
			} else {
				c.Orders = append(c.Orders, gift.Order{})
			}
			f.err = decodeOrder(&c.Orders[len(c.Orders)-1], f.bytes, f.in(text))
		}
	}
	if f.err != nil {
		return nil, f.err
	}
	return c, nil
}

// decodeOrder reads an order. Its strings are parts of text, which is b's.
func decodeOrder(o *gift.Order, b []byte, text string) error {
	f := walkFields(b)
	for f.next() {
		switch f.num {
		case 1:
			f.id((*[16]byte)(&o.ID))
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
	}
	return f.err
}

func decodeEvent(e *Event, b []byte) error {
	f := walkFields(b)
	for f.next() {
		switch f.num {
		case 1:
			f.id((*[16]byte)(&e.Order))
		case 2:
			f.id((*[16]byte)(&e.Claim))
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
	}
	return f.err
}

func decodeWatermark(w *Watermark, b []byte) error {
	f := walkFields(b)
	for f.next() {
		switch f.num {
		case 1:
			w.Queue = string(f.bytes)
		case 2:
			w.Through = Position(f.uint)
		}
	}
	return f.err
}

func decodeStock(s *Stock, b []byte) error {
	f := walkFields(b)
	for f.next() {
		switch f.num {
		case 1:
			s.Campaign = string(f.bytes)
		case 2:
			s.Gift = string(f.bytes)
		case 3:
			s.Count = f.int()
		case 4:
			f.id((*[16]byte)(&s.Claim))
		case 5:
			s.Reason = string(f.bytes)
		}
	}
	return f.err
}

func decodeSwitch(s *Switch, b []byte) error {
	f := walkFields(b)
	for f.next() {
		switch f.num {
		case 1:
			s.Name = string(f.bytes)
		case 2:
			s.Mode = string(f.bytes)
		case 3:
			s.Who = string(f.bytes)
		case 4:
			s.Why = string(f.bytes)
		}
	}
	return f.err
}
