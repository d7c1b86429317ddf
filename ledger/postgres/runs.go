package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/ledger"
)

// deciding makes a call that changes runs. It has the schedule's row to itself, so
// such calls of all nodes happen one after the other.
func (l *Ledger) deciding(ctx context.Context, what string, call func(ctx context.Context, tx pgx.Tx, s ledger.Slots, now time.Time) error) error {
	return l.writing(ctx, what, func(ctx context.Context, tx pgx.Tx) error {
		s, err := schedule(ctx, tx, " FOR UPDATE")
		if err != nil {
			return err
		}
		now, err := l.now(ctx, tx)
		if err != nil {
			return err
		}
		return call(ctx, tx, s, now)
	})
}

// StartRun implements ledger.Runs.
func (l *Ledger) StartRun(ctx context.Context, s ledger.RunStart) (run ledger.Run, err error) {
	err = l.deciding(ctx, "start run "+s.ID, func(ctx context.Context, tx pgx.Tx, slots ledger.Slots, now time.Time) error {
		run = ledger.Run{ID: s.ID, Slot: s.Slot.UTC(), Node: s.Node, By: s.By, Dry: s.Dry, State: ledger.RunRunning, Started: now}
		before, err := findRun(ctx, tx, s.ID)
		switch {
		case errors.Is(err, ledger.ErrNotFound):
		case err != nil:
			return err
		case s.Slot.IsZero() || !before.Slot.Equal(s.Slot):
			return fmt.Errorf("run %s: %w", s.ID, ledger.ErrRunExists)
		}
		if !s.Slot.IsZero() {
			if err := takeSlot(ctx, tx, &run, slots, now, s.Lease); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `INSERT INTO runs (id, slot, since, node, by, dry, epoch, state, started, finished, error, headlines)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, '', '{}')
			ON CONFLICT (id) DO UPDATE SET slot = excluded.slot, since = excluded.since, node = excluded.node, by = excluded.by, dry = excluded.dry,
				epoch = excluded.epoch, state = excluded.state, started = excluded.started, finished = 0, error = '', headlines = '{}'`,
			run.ID, nanos(run.Slot), nanos(run.Since), text(run.Node), text(run.By), run.Dry, run.Epoch, string(run.State), nanos(run.Started))
		return err
	})
	if err != nil {
		return ledger.Run{}, err
	}
	return run, nil
}

// takeSlot moves the schedule on to the run's slot and sets the run's epoch and
// window. Whoever held the schedule before has crashed.
func takeSlot(ctx context.Context, tx pgx.Tx, run *ledger.Run, slots ledger.Slots, now time.Time, lease time.Duration) error {
	switch {
	case run.Slot.Before(slots.Started) || !run.Slot.After(slots.Finished):
		return fmt.Errorf("slot %s: %w", run.Slot.Format(time.RFC3339), ledger.ErrSlotTaken)
	case slots.Holder != "" && slots.Lease.After(now):
		return fmt.Errorf("slot %s, run %s until %s: %w", run.Slot.Format(time.RFC3339), slots.Holder, slots.Lease.Format(time.RFC3339), ledger.ErrSlotHeld)
	}
	run.Epoch, run.Since = slots.Epoch+1, slots.Finished
	_, err := tx.Exec(ctx, "UPDATE schedule SET last_slot = $1, epoch = $2, holder = $3, lease = $4", nanos(run.Slot), run.Epoch, run.ID, nanos(now.Add(lease)))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE runs SET state = $1 WHERE state = $2 AND slot <> 0", string(ledger.RunCrashed), string(ledger.RunRunning))
	return err
}

// RenewRun implements ledger.Runs.
func (l *Ledger) RenewRun(ctx context.Context, id string, epoch int64, lease time.Duration) error {
	return l.deciding(ctx, "renew run "+id, func(ctx context.Context, tx pgx.Tx, _ ledger.Slots, now time.Time) error {
		run, err := findRun(ctx, tx, id)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		if err != nil || run.Epoch != epoch || run.State != ledger.RunRunning {
			return fmt.Errorf("run %s: %w", id, ledger.ErrFenced)
		}
		_, err = tx.Exec(ctx, "UPDATE schedule SET lease = $1 WHERE holder = $2 AND epoch = $3", nanos(now.Add(lease)), id, epoch)
		return err
	})
}

// FinishRun implements ledger.Runs.
func (l *Ledger) FinishRun(ctx context.Context, id string, epoch int64, end ledger.RunEnd) error {
	state := ledger.RunFinished
	if end.Err != "" {
		state = ledger.RunFailed
	}
	headlines, err := json.Marshal(end.Headlines)
	if err != nil {
		return err
	}
	return l.deciding(ctx, "finish run "+id, func(ctx context.Context, tx pgx.Tx, slots ledger.Slots, now time.Time) error {
		run, err := findRun(ctx, tx, id)
		switch {
		case err != nil:
			return err
		case run.Epoch == epoch && run.State == state:
			return nil // the answer to the first call was lost
		case run.Epoch != epoch || run.State != ledger.RunRunning:
			return fmt.Errorf("run %s is %s: %w", id, run.State, ledger.ErrFenced)
		}
		_, err = tx.Exec(ctx, "UPDATE runs SET state = $1, finished = $2, error = $3, headlines = $4 WHERE id = $5",
			string(state), nanos(now), text(end.Err), string(headlines), id)
		if err != nil {
			return err
		}
		done := slots.Finished
		if state == ledger.RunFinished && run.Slot.After(done) {
			done = run.Slot
		}
		_, err = tx.Exec(ctx, "UPDATE schedule SET done_slot = $1, holder = '', lease = 0 WHERE holder = $2 AND epoch = $3", nanos(done), id, epoch)
		return err
	})
}

// endCrashed ends the runs that an earlier process of this node left running.
func (l *Ledger) endCrashed(ctx context.Context) error {
	return l.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := schedule(ctx, tx, " FOR UPDATE"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE schedule SET holder = '', lease = 0 WHERE holder IN (SELECT id FROM runs WHERE state = $1 AND node = $2)",
			string(ledger.RunRunning), l.opts.Node)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE runs SET state = $1 WHERE state = $2 AND node = $3", string(ledger.RunCrashed), string(ledger.RunRunning), l.opts.Node)
		return err
	})
}

// Run implements ledger.Runs.
func (l *Ledger) Run(ctx context.Context, id string) (run ledger.Run, err error) {
	err = l.do(ctx, "read run "+id, func(ctx context.Context) error {
		run, err = findRun(ctx, l.pool, id)
		return err
	})
	return run, err
}

// Runs implements ledger.Runs.
func (l *Ledger) Runs(ctx context.Context, before ledger.Cursor, limit int) (runs []ledger.Run, next ledger.Cursor, err error) {
	limit = ledger.Page(limit)
	at, key := before.Bounds()
	err = l.do(ctx, "list runs", func(ctx context.Context) error {
		rows, err := l.pool.Query(ctx, "SELECT "+runColumns+" FROM runs WHERE (started, id) < ($1, $2) ORDER BY started DESC, id DESC LIMIT $3", at, text(key), limit+1)
		return each(rows, err, func(row pgx.Row) error {
			run, err := scanRun(row)
			runs = append(runs, run)
			return err
		})
	})
	if err != nil {
		return nil, ledger.Cursor{}, err
	}
	runs, next = ledger.Cut(runs, limit)
	return runs, next, nil
}

// LastSlot implements ledger.Runs.
func (l *Ledger) LastSlot(ctx context.Context) (slots ledger.Slots, err error) {
	err = l.do(ctx, "read the schedule", func(ctx context.Context) error {
		slots, err = schedule(ctx, l.pool, "")
		return err
	})
	return slots, err
}

func schedule(ctx context.Context, q querier, lock string) (s ledger.Slots, err error) {
	var last, done, lease int64
	err = q.QueryRow(ctx, "SELECT last_slot, done_slot, epoch, holder, lease FROM schedule"+lock).Scan(&last, &done, &s.Epoch, &s.Holder, &lease)
	s.Started, s.Finished, s.Lease = fromNanos(last), fromNanos(done), fromNanos(lease)
	return s, err
}

const runColumns = "id, slot, since, node, by, dry, epoch, state, started, finished, error, headlines::text"

func findRun(ctx context.Context, q querier, id string) (ledger.Run, error) {
	run, err := scanRun(q.QueryRow(ctx, "SELECT "+runColumns+" FROM runs WHERE id = $1", text(id)))
	if errors.Is(err, pgx.ErrNoRows) {
		return ledger.Run{}, fmt.Errorf("run %s: %w", id, ledger.ErrNotFound)
	}
	return run, err
}

func scanRun(row pgx.Row) (r ledger.Run, err error) {
	var slot, since, started, finished int64
	var headlines []byte
	if err := row.Scan(&r.ID, &slot, &since, &r.Node, &r.By, &r.Dry, &r.Epoch, &r.State, &started, &finished, &r.Err, &headlines); err != nil {
		return r, err
	}
	r.Slot, r.Since, r.Started, r.Finished = fromNanos(slot), fromNanos(since), fromNanos(started), fromNanos(finished)
	if err := json.Unmarshal(headlines, &r.Headlines); err != nil {
		return r, fmt.Errorf("headlines of run %s: %w", r.ID, err)
	}
	return r, nil
}
