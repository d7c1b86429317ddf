package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/gift"
	"manna/ledger"
)

// Choose implements ledger.Choices.
//
// Commit point of a claim's gift: the statement is its own transaction. One that meets
// the row of another which is under way waits until that has ended.
func (l *Ledger) Choose(ctx context.Context, choices []ledger.Choice) ([]ledger.Choice, error) {
	if len(choices) > ledger.MaxChoices {
		return nil, fmt.Errorf("%d choices in one call: it takes up to %d", len(choices), ledger.MaxChoices)
	}
	if len(choices) == 0 {
		return nil, nil
	}
	claims, names, orders := make([][16]byte, len(choices)), make([]string, len(choices)), make([][]byte, len(choices))
	for i, c := range choices {
		claims[i], names[i], orders[i] = c.Claim, text(c.Gift), packIDs(c.Orders)
	}
	chosen := make(map[gift.ClaimID]ledger.Choice, len(choices))
	note := func(row pgx.Row) error {
		var c ledger.Choice
		var ids []byte
		err := row.Scan((*[16]byte)(&c.Claim), &c.Gift, &ids)
		c.Orders = unpackIDs(ids)
		chosen[c.Claim] = c
		return err
	}
	err := l.do(ctx, "choose gifts", func(ctx context.Context) error {
		now, err := l.now(ctx, l.pool)
		if err != nil {
			return err
		}
		err = repeating(func() error {
			rows, err := l.pool.Query(ctx, `
				INSERT INTO choices (claim_id, gift, orders, made)
				SELECT claim_id, gift, orders, $4 FROM unnest($1::uuid[], $2::text[], $3::bytea[]) AS t (claim_id, gift, orders) ORDER BY claim_id
				ON CONFLICT DO NOTHING RETURNING claim_id, gift, orders`, claims, names, orders, nanos(now))
			return each(rows, err, note)
		})
		if err != nil {
			return err
		}
		var made [][16]byte // before
		for _, c := range choices {
			if _, ok := chosen[c.Claim]; !ok {
				made = append(made, c.Claim)
			}
		}
		if len(made) == 0 {
			return nil
		}
		rows, err := l.pool.Query(ctx, "SELECT claim_id, gift, orders FROM choices WHERE claim_id = ANY($1)", made)
		return each(rows, err, note)
	})
	if err != nil {
		return nil, err
	}
	stand := make([]ledger.Choice, len(choices))
	for i, c := range choices {
		var ok bool
		if stand[i], ok = chosen[c.Claim]; !ok {
			return nil, fmt.Errorf("claim %v: its choice was removed while it was looked at", c.Claim)
		}
	}
	return stand, nil
}

// packIDs puts ids one behind the other: an array of arrays has to be rectangular.
func packIDs(ids []gift.OrderID) []byte {
	b := make([]byte, 0, 16*len(ids))
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return b
}

func unpackIDs(b []byte) (ids []gift.OrderID) {
	for ; len(b) >= 16; b = b[16:] {
		ids = append(ids, gift.OrderID(b))
	}
	return ids
}

// SweepChoices implements ledger.Choices.
func (l *Ledger) SweepChoices(ctx context.Context, before time.Time, limit int) (removed int64, err error) {
	err = l.do(ctx, "sweep choices", func(ctx context.Context) error {
		return repeating(func() error {
			tag, err := l.pool.Exec(ctx, "DELETE FROM choices WHERE claim_id IN (SELECT claim_id FROM choices WHERE made < $1 ORDER BY made LIMIT $2)", nanos(before), limit)
			removed = tag.RowsAffected()
			return err
		})
	})
	return removed, err
}
