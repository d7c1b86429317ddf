package producer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strconv"
	"sync"

	"manna/gift"
)

// A receipt proves that this system accepted a claim: "mr1." and the first 16
// bytes of HMAC-SHA256(key, "claim id|gift|claimed at in Unix milliseconds") in
// base64url. It is the same in every answer about the claim.
const (
	receiptKeySize = 32
	receiptPrefix  = "mr1."
	receiptBytes   = 16
)

// receipts makes receipts. Safe for concurrent use.
type receipts struct {
	makers sync.Pool // *receiptMaker; keying an HMAC costs as much as using it
}

type receiptMaker struct {
	mac  hash.Hash
	room []byte
}

func newReceipts(key []byte) *receipts {
	r := &receipts{}
	r.makers.New = func() any { return &receiptMaker{mac: hmac.New(sha256.New, key)} }
	return r
}

func (r *receipts) of(c *gift.Claim) string {
	m := r.makers.Get().(*receiptMaker)
	defer r.makers.Put(m)
	m.room, _ = c.ID.AppendText(m.room[:0])
	m.room = append(append(m.room, '|'), c.Gift...)
	m.room = strconv.AppendInt(append(m.room, '|'), c.ClaimedAt.UnixMilli(), 10)
	m.mac.Reset()
	m.mac.Write(m.room)
	m.room = m.mac.Sum(m.room[:0])
	sum := m.room[:receiptBytes]
	m.room = base64.RawURLEncoding.AppendEncode(append(m.room, receiptPrefix...), sum)
	return string(m.room[sha256.Size:])
}
