package fallbacklog

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

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

var errWire = errors.New("payload is not valid wire format")

// fields walks through what a message consists of. After each next that is true num is
// the field's number, and its value is in bytes where it is length-delimited, else in
// uint; the other one is empty. err says why the walk ended, if not at the message's end.
type fields struct {
	rest  []byte
	size  int
	num   protowire.Number
	bytes []byte
	uint  uint64
	err   error
}

func walkFields(b []byte) fields { return fields{rest: b, size: len(b)} }

// next moves on to the next field.
func (f *fields) next() bool {
	b := f.rest
	if len(b) == 0 || f.err != nil {
		return false
	}
	// Most tags, and most lengths, are of one byte.
	num, typ, n := protowire.Number(b[0]>>3), protowire.Type(b[0]&7), 1
	if num == 0 || b[0] >= 0x80 {
		if num, typ, n = protowire.ConsumeTag(b); n < 0 {
			f.err = errWire
			return false
		}
	}
	b = b[n:]
	f.bytes, f.uint = nil, 0
	switch {
	case typ == protowire.BytesType && len(b) > 0 && int(b[0]) < min(0x80, len(b)):
		n = 1 + int(b[0])
		f.bytes = b[1:n]
	case typ == protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	case typ == protowire.VarintType:
		f.uint, n = protowire.ConsumeVarint(b)
	case typ == protowire.Fixed64Type:
		f.uint, n = protowire.ConsumeFixed64(b)
	default:
		n = protowire.ConsumeFieldValue(num, typ, b)
	}
	if n < 0 {
		f.err = errWire
		return false
	}
	f.num, f.rest = num, b[n:]
	return true
}

// in is the part of text that has the field's bytes, where text is what is walked.
func (f *fields) in(text string) string {
	end := f.size - len(f.rest)
	return text[end-len(f.bytes) : end]
}

func (f *fields) int() int64 { return protowire.DecodeZigZag(f.uint) }

func (f *fields) time() time.Time { return time.Unix(0, int64(f.uint)).UTC() }

func (f *fields) id(into *[16]byte) {
	if len(f.bytes) != len(into) {
		f.err = fmt.Errorf("field %d: an id of %d bytes", f.num, len(f.bytes))
		return
	}
	copy(into[:], f.bytes)
}
