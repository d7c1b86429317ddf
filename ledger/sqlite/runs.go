package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"manna/ledger"
)

// StartRun implements ledger.Runs.
func (l *Ledger) StartRun(ctx context.Context, s ledger.RunStart) (ledger.Run, error) {
	now := l.opts.Now()
	run := ledger.Run{ID: s.ID, Slot: s.Slot.UTC(), Node: s.Node, By: s.By, Dry: s.Dry, State: ledger.RunRunning, Started: now.UTC()}
	err := l.kept.writing(ctx, func(tx *sql.Tx) error {
		before, err := findRun(ctx, tx, s.ID)
		switch {
		case errors.Is(err, ledger.ErrNotFound):
		case err != nil:
			return err
		case s.Slot.IsZero() || !before.Slot.Equal(s.Slot):
			return fmt.Errorf("run %s: %w", s.ID, ledger.ErrRunExists)
		}
		if !s.Slot.IsZero() {
			if err := takeSlot(ctx, tx, &run, now, s.Lease); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO runs
			(id, slot, since, node, by, dry, epoch, state, started, finished, error, headlines) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', '{}')`,
			run.ID, nanos(run.Slot), nanos(run.Since), run.Node, run.By, run.Dry, run.Epoch, run.State, nanos(run.Started))
		return err
	})
	if err != nil {
		return ledger.Run{}, err
	}
	return run, nil
}

// takeSlot moves the schedule on to the run's slot and sets the run's epoch and
// window. Whoever held the schedule before has crashed.
func takeSlot(ctx context.Context, tx *sql.Tx, run *ledger.Run, now time.Time, lease time.Duration) error {
	var done int64
	err := tx.QueryRowContext(ctx, `
		UPDATE schedule SET last_slot = ?1, epoch = epoch + 1, holder = ?2, lease = ?3
		WHERE (last_slot < ?1 OR last_slot = ?1 AND done_slot < ?1) AND (holder = '' OR lease <= ?4)
		RETURNING epoch, done_slot`,
		nanos(run.Slot), run.ID, nanos(now.Add(lease)), nanos(now)).Scan(&run.Epoch, &done)
	if errors.Is(err, sql.ErrNoRows) {
		slots, err := schedule(ctx, tx)
		switch {
		case err != nil:
			return err
		case run.Slot.Before(slots.Started) || !run.Slot.After(slots.Finished):
			return fmt.Errorf("slot %s: %w", run.Slot.Format(time.RFC3339), ledger.ErrSlotTaken)
		}
		return fmt.Errorf("slot %s, run %s until %s: %w", run.Slot.Format(time.RFC3339), slots.Holder, slots.Lease.Format(time.RFC3339), ledger.ErrSlotHeld)
	}
	if err != nil {
		return err
	}
	run.Since = fromNanos(done)
	_, err = tx.ExecContext(ctx, "UPDATE runs SET state = ? WHERE state = ? AND slot <> 0", ledger.RunCrashed, ledger.RunRunning)
	return err
}

// RenewRun implements ledger.Runs.
func (l *Ledger) RenewRun(ctx context.Context, id string, epoch int64, lease time.Duration) error {
	return l.kept.writing(ctx, func(tx *sql.Tx) error {
		run, err := findRun(ctx, tx, id)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		if err != nil || run.Epoch != epoch || run.State != ledger.RunRunning {
			return fmt.Errorf("run %s: %w", id, ledger.ErrFenced)
		}
		_, err = tx.ExecContext(ctx, "UPDATE schedule SET lease = ? WHERE holder = ? AND epoch = ?", nanos(l.opts.Now().Add(lease)), id, epoch)
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
	return l.kept.writing(ctx, func(tx *sql.Tx) error {
		run, err := findRun(ctx, tx, id)
		switch {
		case err != nil:
			return err
		case run.Epoch == epoch && run.State == state:
			return nil // the answer to the first call was lost
		case run.Epoch != epoch || run.State != ledger.RunRunning:
			return fmt.Errorf("run %s is %s: %w", id, run.State, ledger.ErrFenced)
		}
		_, err = tx.ExecContext(ctx, "UPDATE runs SET state = ?, finished = ?, error = ?, headlines = ? WHERE id = ?",
			state, nanos(l.opts.Now()), end.Err, string(headlines), id)
		if err != nil {
			return err
		}
		done := int64(0)
		if state == ledger.RunFinished {
			done = nanos(run.Slot)
		}
		_, err = tx.ExecContext(ctx, "UPDATE schedule SET done_slot = max(done_slot, ?), holder = '', lease = 0 WHERE holder = ? AND epoch = ?", done, id, epoch)
		return err
	})
}

// endCrashed ends the runs that an earlier process of this node left running.
func (l *Ledger) endCrashed(ctx context.Context) error {
	return l.kept.writing(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE schedule SET holder = '', lease = 0
			WHERE holder IN (SELECT id FROM runs WHERE state = ?1 AND node = ?2)`, ledger.RunRunning, l.opts.Node)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE runs SET state = ?1 WHERE state = ?2 AND node = ?3", ledger.RunCrashed, ledger.RunRunning, l.opts.Node)
		return err
	})
}

// Run implements ledger.Runs.
func (l *Ledger) Run(ctx context.Context, id string) (run ledger.Run, err error) {
	err = l.kept.reading(ctx, func(db *sql.DB) error {
		run, err = findRun(ctx, db, id)
		return err
	})
	return run, err
}

// Runs implements ledger.Runs.
func (l *Ledger) Runs(ctx context.Context, before ledger.Cursor, limit int) (runs []ledger.Run, next ledger.Cursor, err error) {
	limit = ledger.Page(limit)
	at, key := before.Bounds()
	err = l.kept.reading(ctx, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, "SELECT "+runColumns+" FROM runs WHERE (started, id) < (?, ?) ORDER BY started DESC, id DESC LIMIT ?", at, key, limit+1)
		return each(rows, err, func() error {
			run, err := scanRun(rows)
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
	err = l.kept.reading(ctx, func(db *sql.DB) error {
		slots, err = schedule(ctx, db)
		return err
	})
	return slots, err
}

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func schedule(ctx context.Context, q querier) (s ledger.Slots, err error) {
	var last, done, lease int64
	err = q.QueryRowContext(ctx, "SELECT last_slot, done_slot, epoch, holder, lease FROM schedule").Scan(&last, &done, &s.Epoch, &s.Holder, &lease)
	s.Started, s.Finished, s.Lease = fromNanos(last), fromNanos(done), fromNanos(lease)
	return s, err
}

const runColumns = "id, slot, since, node, by, dry, epoch, state, started, finished, error, headlines"

func findRun(ctx context.Context, q querier, id string) (ledger.Run, error) {
	run, err := scanRun(q.QueryRowContext(ctx, "SELECT "+runColumns+" FROM runs WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.Run{}, fmt.Errorf("run %s: %w", id, ledger.ErrNotFound)
	}
	return run, err
}

func scanRun(row interface{ Scan(...any) error }) (r ledger.Run, err error) {
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
