package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"manna/ledger"
)

// Audit implements ledger.Audits.
func (l *Ledger) Audit(ctx context.Context, e ledger.Entry) error {
	e = e.Clipped()
	if e.Time.IsZero() {
		e.Time = l.opts.Now()
	}
	return l.kept.writing(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO audit (at, who, role, action, target, detail, result, node) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			nanos(e.Time), e.Who, e.Role, e.Action, e.Target, e.Detail, e.Result, e.Node)
		return err
	})
}

// Both sources of the audit give the columns of an Entry. Keys are text of equal
// length within a source, so that they sort in the order of writing.
const (
	auditEntries = `SELECT at, 'audit/' || printf('%019d', id) AS key, who, role, action, target, detail, result, node FROM audit`
	auditSwitch  = `SELECT at, 'log/' || printf('%019d', position) || '/' || node AS key, who, '' AS role, '` + ledger.ActionSwitch + `' AS action,
		name AS target, mode || CASE why WHEN '' THEN '' ELSE ': ' || why END AS detail, '` + ledger.ResultDone + `' AS result, node FROM switched`
)

// AuditLog implements ledger.Audits.
func (l *Ledger) AuditLog(ctx context.Context, f ledger.AuditFilter, limit int) (entries []ledger.Entry, next ledger.Cursor, err error) {
	limit = ledger.Page(limit)
	where, args := auditWhere(f)
	args = append(args, limit+1)
	for _, source := range []struct {
		*file
		query string
	}{{&l.kept, auditEntries}, {&l.derived, auditSwitch}} {
		err := source.reading(ctx, func(db *sql.DB) error {
			rows, err := db.QueryContext(ctx, "SELECT * FROM ("+source.query+") WHERE "+where+" ORDER BY at DESC, key DESC LIMIT ?", args...)
			return each(rows, err, func() error {
				var e ledger.Entry
				var at int64
				err := rows.Scan(&at, &e.Key, &e.Who, &e.Role, &e.Action, &e.Target, &e.Detail, &e.Result, &e.Node)
				e.Time = fromNanos(at)
				entries = append(entries, e)
				return err
			})
		})
		if err != nil {
			return nil, ledger.Cursor{}, err
		}
	}
	slices.SortFunc(entries, func(a, b ledger.Entry) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Key, a.Key)) })
	entries, next = ledger.Cut(entries, limit)
	return entries, next, nil
}

func auditWhere(f ledger.AuditFilter) (where string, args []any) {
	at, key := f.Before.Bounds()
	where, args = "(at, key) < (?, ?)", []any{at, key}
	and := func(condition string, arg any) {
		where += " AND " + condition
		args = append(args, arg)
	}
	if f.Who != "" {
		and("who = ?", f.Who)
	}
	if f.Action != "" {
		and("action = ?", f.Action)
	}
	if f.Target != "" {
		and("target = ?", f.Target)
	}
	if !f.Since.IsZero() {
		and("at >= ?", nanos(f.Since))
	}
	if !f.Until.IsZero() {
		and("at < ?", nanos(f.Until))
	}
	return where, args
}
