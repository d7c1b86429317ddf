package rocketmq

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"
)

// asStored writes a message as a broker does.
func asStored(offset int64, at time.Time, body, topic, props string, v6 bool) []byte {
	flags, host := uint32(0), make([]byte, 8)
	if v6 {
		flags, host = flagBornV6|flagStoreV6, make([]byte, 20)
	}
	b := binary.BigEndian.AppendUint32(nil, 0)
	b = binary.BigEndian.AppendUint32(b, magicShortTopic)
	b = append(b, make([]byte, 4)...)                    // checksum
	b = binary.BigEndian.AppendUint32(b, 3)              // queue
	b = append(b, make([]byte, 4)...)                    // flag
	b = binary.BigEndian.AppendUint64(b, uint64(offset)) // in the queue
	b = append(b, make([]byte, 8)...)                    // in the log
	b = binary.BigEndian.AppendUint32(b, flags)          //
	b = append(append(b, make([]byte, 8)...), host...)   // born
	b = binary.BigEndian.AppendUint64(b, uint64(at.UnixMilli()))
	b = append(append(b, host...), make([]byte, 4+8)...) // repeats, transaction
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
	b = append(append(b, byte(len(topic))), topic...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(props))), props...)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func TestStoredMessages(t *testing.T) {
	at := evening.Truncate(time.Millisecond)
	b := asStored(7, at, "one", "topic", "due\x0117\x02empty\x01\x02", false)
	b = append(b, asStored(8, at, "", "topic", "", true)...)
	msgs, err := decodeStored(b)
	if err != nil || len(msgs) != 2 {
		t.Fatalf("%d messages, %v; want 2", len(msgs), err)
	}
	m := msgs[0]
	if m.queue != 3 || m.offset != 7 || !m.at.Equal(at) || string(m.body) != "one" || m.invalid {
		t.Errorf("got %+v", m)
	}
	if due, empty, none := m.property("due"), m.property("empty"), m.property("du"); due != "17" || empty != "" || none != "" {
		t.Errorf("properties %q, %q, %q; want 17 and two that are empty", due, empty, none)
	}
	if m := msgs[1]; m.offset != 8 || !m.at.Equal(at) || len(m.body) != 0 || m.invalid {
		t.Errorf("from a host with a long address: %+v", m)
	}
}

// TestTornStoredMessages cuts an answer at every byte: no message is made up, and
// one whose inside does not add up keeps its offset, so that it can be passed.
func TestTornStoredMessages(t *testing.T) {
	whole := asStored(7, evening, "body", "topic", "due\x0117\x02", false)
	for n := 1; n < len(whole); n++ {
		if msgs, err := decodeStored(whole[:n]); !errors.Is(err, errStored) || len(msgs) > 0 {
			t.Errorf("cut at %d: %d messages, %v", n, len(msgs), err)
		}
		if n < storedHead {
			continue
		}
		inside := append([]byte(nil), whole[:n]...)
		binary.BigEndian.PutUint32(inside, uint32(n))
		msgs, err := decodeStored(inside)
		if err != nil || len(msgs) != 1 || msgs[0].offset != 7 || !msgs[0].invalid {
			t.Errorf("inside cut at %d: %+v, %v; want an invalid message at 7", n, msgs, err)
		}
	}
}

func FuzzDecodeStored(f *testing.F) {
	f.Add(asStored(7, evening, "body", "topic", "due\x0117\x02", false))
	f.Add(asStored(8, evening, "body", "topic", "due\x0117\x02", true))
	f.Fuzz(func(t *testing.T, b []byte) {
		msgs, _ := decodeStored(b)
		total := 0
		for _, m := range msgs {
			total += len(m.body) + len(m.props)
			m.property("due")
		}
		if total > len(b) {
			t.Fatalf("%d bytes of messages from %d", total, len(b))
		}
	})
}
