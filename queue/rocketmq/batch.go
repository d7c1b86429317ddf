package rocketmq

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

	"manna/gift"
	"manna/queue"
)

const (
	// maxRequest bounds the bytes of a request. Brokers take 4 MiB unless told
	// otherwise.
	maxRequest = 1 << 20
	// perMessage is more than what a message takes beside its claim and its node's
	// name: its body's frame, its properties and what tells where they are.
	perMessage = 320
	// batchHead is what goes before a message's body.
	batchHead = 5 * 4
)

// batch is messages of one lane that go to the broker in one request, written as it
// takes several at once:
//
//	u32 length of all | u32 magic | u32 CRC | u32 flag | u32 length, body | u16 length, properties
//
// The client writes the same from a message of its own for each; here they are written
// once. The broker reads neither magic nor CRC.
type batch struct {
	lane   topics
	topic  string
	msgs   []*queue.Message
	ends   []int // behind each in body
	body   []byte
	oldest time.Time // of their claims
}

// fits reports whether another message with such a claim may go into the request.
func (b *batch) fits(claim, node string, most int) bool {
	return len(b.msgs) == 0 || len(b.msgs) < most && len(b.body)+len(claim)+len(node)+perMessage <= maxRequest
}

// add writes a message whose claim has been encoded, to be received at due. node is the
// one in whose log the claim is.
func (b *batch) add(m *queue.Message, node, claim string, due time.Time) error {
	if err := bounded(m.Order.ID, node, claim); err != nil {
		return err
	}
	from := len(b.body)
	body, err := appendBody(append(b.body, make([]byte, batchHead)...), m, node, claim)
	if err != nil {
		return err
	}
	b.body = body
	head := b.body[from:]
	binary.BigEndian.PutUint32(head[16:], uint32(len(head)-batchHead))
	behind := len(b.body)
	b.body = append(b.body, 0, 0)
	for name, value := range properties(m, due) {
		b.body = append(append(append(append(b.body, name...), endOfName), value...), endOfValue)
	}
	binary.BigEndian.PutUint16(b.body[behind:], uint16(len(b.body)-behind-2))
	binary.BigEndian.PutUint32(b.body[from:], uint32(len(b.body)-from))
	if b.msgs, b.ends = append(b.msgs, m), append(b.ends, len(b.body)); len(b.msgs) == 1 || m.Claim.ClaimedAt.Before(b.oldest) {
		b.oldest = m.Claim.ClaimedAt
	}
	return nil
}

// bounded refuses an order that no request can carry.
func bounded(id gift.OrderID, node, claim string) error {
	if n := len(claim) + len(node) + perMessage; n > maxRequest {
		return &queue.RefusedError{Order: id, Err: fmt.Errorf("its message has %d bytes, more than the %d that a request may have", n, maxRequest)}
	}
	return nil
}

// message is the request as the client takes it.
func (b *batch) message() *primitive.Message {
	return &primitive.Message{Body: b.body, Batch: true}
}

// halves divides a batch of several messages. They share its bytes.
func (b *batch) halves() (first, second *batch) {
	n := len(b.msgs) / 2
	at := b.ends[n-1]
	first = &batch{lane: b.lane, topic: b.topic, oldest: b.oldest, msgs: b.msgs[:n], ends: b.ends[:n], body: b.body[:at:at]}
	second = &batch{lane: b.lane, topic: b.topic, oldest: b.oldest, msgs: b.msgs[n:], body: b.body[at:]}
	for _, end := range b.ends[n:] {
		second.ends = append(second.ends, end-at)
	}
	return first, second
}

// empty makes a batch ready to be filled again, with the room that it has.
func (b *batch) empty() {
	clear(b.msgs)
	*b = batch{msgs: b.msgs[:0], ends: b.ends[:0], body: b.body[:0]}
}
