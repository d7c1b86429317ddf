package rocketmq

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"
)

// stored is a message as a broker keeps it.
type stored struct {
	queue   int
	offset  int64
	log     int64 // its place in the broker's log, which rises along a queue
	flags   int32
	at      time.Time // when the broker stored it, by the broker's clock
	body    []byte    // part of what was decoded
	props   []byte    // likewise: name 0x01 value 0x02 …
	invalid bool      // it does not add up; only queue, offset, log and flags are set
}

const (
	magicShortTopic = 0xdaa320a7 // the topic's length is one byte
	magicLongTopic  = 0xdaa320ab // two bytes

	flagCompressed = 1
	flagBornV6     = 1 << 4
	flagStoreV6    = 1 << 5

	storedHead = 48 // bytes up to the host that bore the message
)

var errStored = errors.New("the broker's messages do not add up")

// decodeStored reads the messages of a pull's answer:
//
//	u32 length of all | u32 magic | u32 CRC | i32 queue | i32 flag | i64 offset in the queue
//	i64 place in the log | i32 system flags | i64 born | host | i64 stored | host | i32 repeats
//	i64 transaction | i32 length, body | u8 or u16 length, topic | u16 length, properties
func decodeStored(b []byte) ([]stored, error) {
	msgs := make([]stored, 0, pullLimit)
	for len(b) > 0 {
		if len(b) < storedHead {
			return msgs, errStored
		}
		n := int64(binary.BigEndian.Uint32(b))
		if n < storedHead || n > int64(len(b)) {
			return msgs, errStored
		}
		msgs = append(msgs, decodeOne(b[:n:n]))
		b = b[n:]
	}
	return msgs, nil
}

// decodeOne reads one message, of at least storedHead bytes.
func decodeOne(b []byte) stored {
	magic := binary.BigEndian.Uint32(b[4:])
	m := stored{
		queue:  int(int32(binary.BigEndian.Uint32(b[12:]))),
		offset: int64(binary.BigEndian.Uint64(b[20:])),
		log:    int64(binary.BigEndian.Uint64(b[28:])),
		flags:  int32(binary.BigEndian.Uint32(b[36:])),
	}
	r := rest{b: b[storedHead:]}
	r.skip(host(m.flags & flagBornV6))
	m.at = time.UnixMilli(int64(r.number(8)))
	r.skip(host(m.flags & flagStoreV6))
	r.skip(4 + 8)
	m.body = r.take(r.number(4))
	if magic == magicLongTopic {
		r.take(r.number(2))
	} else {
		r.take(r.number(1))
	}
	m.props = r.take(r.number(2))
	if r.short || magic != magicLongTopic && magic != magicShortTopic {
		m.body, m.props, m.invalid = nil, nil, true
	}
	return m
}

// host is the size of an address with its port.
func host(v6 int32) int {
	if v6 != 0 {
		return 16 + 4
	}
	return 4 + 4
}

// rest is what is still to be read; short once something was missing.
type rest struct {
	b     []byte
	short bool
}

func (r *rest) skip(n int) { r.take(uint64(n)) }

func (r *rest) take(n uint64) []byte {
	if r.short || n > uint64(len(r.b)) {
		r.short = true
		return nil
	}
	part := r.b[:n:n]
	r.b = r.b[n:]
	return part
}

// number reads a number of up to eight bytes.
func (r *rest) number(size int) (v uint64) {
	for _, c := range r.take(uint64(size)) {
		v = v<<8 | uint64(c)
	}
	return v
}

const (
	endOfName  = 1
	endOfValue = 2
)

// properties yields what the message has beside its body.
func (m *stored) properties(yield func(name, value []byte) bool) {
	for p := m.props; len(p) > 0; {
		pair, more, _ := bytes.Cut(p, []byte{endOfValue})
		if name, value, ok := bytes.Cut(pair, []byte{endOfName}); ok && !yield(name, value) {
			return
		}
		p = more
	}
}

// property finds a property by its name; empty where there is none.
func (m *stored) property(name string) string {
	for n, value := range m.properties {
		if string(n) == name {
			return string(value)
		}
	}
	return ""
}
