package rocketmq

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"manna/fallbacklog"
	"manna/queue"
)

// formatVersion is the newest format of messages that this release reads, and the
// one that it writes.
const formatVersion = 1

// Field numbers of a message's body. Numbers are never reused, and the first one
// means the same in every format.
const (
	fVersion = 1
	fClaim   = 2
	fIndex   = 3
	fNode    = 4
	fOrigin  = 5
)

// Names of a message's properties.
const (
	propAttempts = "attempts"
	propQueries  = "queries"
	propDoubt    = "doubt"
	propBegan    = "began"   // Unix nanoseconds
	propDue      = "due"     // Unix nanoseconds
	propRelease  = "release" // Unix nanoseconds: when the timer gives it back, if that is before
)

// Why a message is put aside. These are also the values of the metric's label.
var (
	errForeign = errors.New("foreign")
	errNewer   = errors.New("newer")
)

// appendBody makes the body of a message. node is the one in whose log the claim
// is, where m has its Origin.
func appendBody(b []byte, m *queue.Message, node, claim string) ([]byte, error) {
	index := -1
	for i := range m.Claim.Orders {
		if m.Claim.Orders[i].ID == m.Order.ID {
			index = i
		}
	}
	if index < 0 {
		return nil, fmt.Errorf("order %v is none of claim %v", m.Order.ID, m.Claim.ID)
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, fVersion, protowire.VarintType), formatVersion)
	b = protowire.AppendString(protowire.AppendTag(b, fClaim, protowire.BytesType), claim)
	b = protowire.AppendVarint(protowire.AppendTag(b, fIndex, protowire.VarintType), uint64(index))
	if m.Origin != 0 {
		b = protowire.AppendString(protowire.AppendTag(b, fNode, protowire.BytesType), node)
		b = protowire.AppendVarint(protowire.AppendTag(b, fOrigin, protowire.VarintType), uint64(m.Origin))
	}
	return b, nil
}

// properties are those that differ from a first delivery's; nil where none does.
func properties(m *queue.Message, due time.Time) map[string]string {
	if m.Attempts == 0 && m.Queries == 0 && !m.InDoubt && m.Began.IsZero() && due.IsZero() {
		return nil
	}
	p := make(map[string]string)
	if m.Attempts != 0 {
		p[propAttempts] = strconv.Itoa(m.Attempts)
	}
	if m.Queries != 0 {
		p[propQueries] = strconv.Itoa(m.Queries)
	}
	if m.InDoubt {
		p[propDoubt] = "true"
	}
	if !m.Began.IsZero() {
		p[propBegan] = strconv.FormatInt(m.Began.UnixNano(), 10)
	}
	if !due.IsZero() {
		p[propDue] = strconv.FormatInt(due.UnixNano(), 10)
	}
	return p
}

// decodeMessage reads an order of partner from a stored message. The error is
// errNewer for a format that this release does not know, and errForeign for what
// is no order of this lane.
func decodeMessage(s *stored, partner, node string) (m *queue.Message, due time.Time, err error) {
	if s.invalid || s.flags&flagCompressed != 0 {
		return nil, due, fmt.Errorf("%w: not stored as ours are", errForeign)
	}
	var b body
	if err := b.decode(s.body); err != nil {
		return nil, due, err
	}
	claim, err := fallbacklog.DecodeClaim(b.claim)
	if err != nil {
		return nil, due, fmt.Errorf("%w: its claim: %w", errForeign, err)
	}
	if claim.ID.IsZero() || b.index >= uint64(len(claim.Orders)) {
		return nil, due, fmt.Errorf("%w: no order %d in its claim", errForeign, b.index)
	}
	m = &queue.Message{Claim: claim, Order: claim.Orders[b.index]}
	if m.Order.Partner != partner {
		return nil, due, fmt.Errorf("%w: an order for partner %q", errForeign, m.Order.Partner)
	}
	if string(b.node) == node {
		m.Origin = fallbacklog.Position(b.origin)
	}
	for name, value := range s.properties {
		switch string(name) {
		case propAttempts:
			m.Attempts, err = count(string(value))
		case propQueries:
			m.Queries, err = count(string(value))
		case propDoubt:
			m.InDoubt = string(value) == "true"
		case propBegan:
			m.Began, err = instant(string(value))
		case propDue:
			due, err = instant(string(value))
		}
		if err != nil {
			return nil, time.Time{}, err
		}
	}
	return m, due, nil
}

// body is a message's body taken apart.
type body struct {
	version uint64
	claim   []byte
	index   uint64
	node    []byte
	origin  uint64
}

// decode reads a body as far as its version allows.
func (b *body) decode(p []byte) error {
	for len(p) > 0 {
		num, typ, n := protowire.ConsumeTag(p)
		if n < 0 {
			return fmt.Errorf("%w: not in wire format", errForeign)
		}
		p = p[n:]
		switch {
		case typ == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(p)
			switch num {
			case fVersion:
				b.version = v
			case fIndex:
				b.index = v
			case fOrigin:
				b.origin = v
			}
		case typ == protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(p)
			switch num {
			case fClaim:
				b.claim = v
			case fNode:
				b.node = v
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, p)
		}
		if n < 0 {
			return fmt.Errorf("%w: not in wire format", errForeign)
		}
		p = p[n:]
		// The version comes first, so that a newer format may do with the rest what
		// it likes.
		if b.version > formatVersion {
			return fmt.Errorf("%w: format %d; this release reads up to %d", errNewer, b.version, formatVersion)
		}
	}
	if b.version == 0 || b.claim == nil {
		return fmt.Errorf("%w: no order in it", errForeign)
	}
	return nil
}

func count(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%w: a count of %q", errForeign, s)
	}
	return int(n), nil
}

func instant(s string) (t time.Time, err error) {
	if s == "" {
		return t, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return t, fmt.Errorf("%w: a time of %q", errForeign, s)
	}
	return time.Unix(0, n).UTC(), nil
}
