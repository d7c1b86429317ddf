package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"manna/fallbacklog"
)

// Log is what HandedOut reads of a log; fallbacklog.ArchivedLog says what each method
// promises.
type Log interface {
	// Indexes are those of all segments, oldest first.
	Indexes(ctx context.Context) ([]*fallbacklog.Index, error)
	// Read gives the record at the position of an index's row.
	Read(ctx context.Context, at fallbacklog.Position) (*fallbacklog.Record, error)
}

// spans is how many ranges of ids are counted one after the other: the rows of one
// range are in memory at a time.
const spans = 1024

// HandedOut counts how many of each gift a log says were handed out: its claims, less
// what its node has put back into a stock of its own. A claim that is there several
// times counts once for each gift that it was recorded with. The count is never below
// what a node counts that starts with the log.
func HandedOut(ctx context.Context, log Log) (map[StockKey]int64, error) {
	indexes, err := log.Indexes(ctx)
	if err != nil {
		return nil, err
	}
	h := handedOut{log: log, counts: make(map[StockKey]int64)}
	for span := range uint32(spans) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// The ids of a span agree in their first ten bits.
		var from [16]byte
		binary.BigEndian.PutUint16(from[:], uint16(span<<6))
		var to *[16]byte
		if span+1 < spans {
			to = new([16]byte)
			binary.BigEndian.PutUint16(to[:], uint16((span+1)<<6))
		}
		if err := h.count(ctx, indexes, from, to); err != nil {
			return nil, err
		}
	}
	return h.counts, nil
}

type handedOut struct {
	log    Log
	counts map[StockKey]int64
	claims []handedOutClaim // of the span; its room is used again
}

type handedOutClaim struct {
	id  [16]byte
	key StockKey
}

func (h *handedOut) count(ctx context.Context, indexes []*fallbacklog.Index, from [16]byte, to *[16]byte) error {
	h.claims = h.claims[:0]
	for _, x := range indexes {
		for row, err := range x.Range(from, to) {
			if err != nil {
				return err
			}
			claimed := row.Kind == fallbacklog.Claimed && row.OfClaim
			if !claimed && row.Kind != fallbacklog.Returned {
				continue
			}
			key, err := h.gift(ctx, x.Names(), row)
			if err != nil {
				return err
			}
			if claimed {
				h.claims = append(h.claims, handedOutClaim{row.ID, key})
			} else {
				h.counts[key] -= row.Value
			}
		}
	}
	slices.SortFunc(h.claims, func(a, b handedOutClaim) int { return bytes.Compare(a.id[:], b.id[:]) })
	for i, c := range h.claims {
		again := false
		for j := i - 1; j >= 0 && h.claims[j].id == c.id && !again; j-- {
			again = h.claims[j].key == c.key
		}
		if !again {
			h.counts[c.key]++
		}
	}
	return nil
}

// gift names what a row is of. Where its index had no number for a name, the record has
// the name.
func (h *handedOut) gift(ctx context.Context, names *fallbacklog.Names, row fallbacklog.Row) (StockKey, error) {
	if row.Campaign != 0 && row.Gift != 0 {
		return StockKey{Campaign: names.Name(row.Campaign), Gift: names.Name(row.Gift)}, nil
	}
	rec, err := h.log.Read(ctx, row.At)
	switch {
	case err != nil:
		return StockKey{}, err
	case rec.Claim != nil:
		return StockKey{Campaign: rec.Claim.Campaign, Gift: rec.Claim.Gift}, nil
	case rec.Stock != nil:
		return StockKey{Campaign: rec.Stock.Campaign, Gift: rec.Stock.Gift}, nil
	}
	return StockKey{}, fmt.Errorf("record %v is neither a claim nor stock", row.At)
}
