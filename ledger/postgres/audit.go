package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"manna/ledger"
)

// Audit implements ledger.Audits.
func (l *Ledger) Audit(ctx context.Context, e ledger.Entry) error {
	e = e.Clipped()
	return l.do(ctx, "note a deed", func(ctx context.Context) (err error) {
		if e.Time.IsZero() {
			if e.Time, err = l.now(ctx, l.pool); err != nil {
				return err
			}
		}
		_, err = l.pool.Exec(ctx, "INSERT INTO audit (at, who, role, action, target, detail, result, node) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
			nanos(e.Time), text(e.Who), text(e.Role), text(e.Action), text(e.Target), text(e.Detail), text(e.Result), text(e.Node))
		return err
	})
}

// Both sources of the audit give the columns of an Entry. Keys are text of equal
// length within a source, so that they sort in the order of writing.
const (
	auditEntries = `SELECT at, ('audit/' || lpad(id::text, 19, '0')) COLLATE "C" AS key, who, role, action, target, detail, result, node FROM audit`
	auditSwitch  = `SELECT at, ('log/' || lpad(position::text, 19, '0') || '/' || node) COLLATE "C" AS key, who, '' AS role, '` + ledger.ActionSwitch + `' AS action,
		name AS target, mode || CASE why WHEN '' THEN '' ELSE ': ' || why END AS detail, 'done' AS result, node FROM switched`
)

// AuditLog implements ledger.Audits.
func (l *Ledger) AuditLog(ctx context.Context, f ledger.AuditFilter, limit int) (entries []ledger.Entry, next ledger.Cursor, err error) {
	limit = ledger.Page(limit)
	where, args := auditWhere(f)
	args = append(args, limit+1)
	err = l.do(ctx, "list deeds", func(ctx context.Context) error {
		for _, source := range []string{auditEntries, auditSwitch} {
			rows, err := l.pool.Query(ctx, fmt.Sprintf("SELECT * FROM (%s) AS deeds WHERE %s ORDER BY at DESC, key DESC LIMIT $%d", source, where, len(args)), args...)
			err = each(rows, err, func(row pgx.Row) error {
				var e ledger.Entry
				var at int64
				err := row.Scan(&at, &e.Key, &e.Who, &e.Role, &e.Action, &e.Target, &e.Detail, &e.Result, &e.Node)
				e.Time = fromNanos(at)
				entries = append(entries, e)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, ledger.Cursor{}, err
	}
	slices.SortFunc(entries, func(a, b ledger.Entry) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Key, a.Key)) })
	entries, next = ledger.Cut(entries, limit)
	return entries, next, nil
}

func auditWhere(f ledger.AuditFilter) (where string, args []any) {
	at, key := f.Before.Bounds()
	where, args = "(at, key) < ($1::bigint, $2::text)", []any{at, text(key)}
	and := func(condition string, arg any) {
		args = append(args, arg)
		where += fmt.Sprintf(" AND "+condition, len(args))
	}
	if f.Who != "" {
		and("who = $%d", text(f.Who))
	}
	if f.Action != "" {
		and("action = $%d", text(f.Action))
	}
	if f.Target != "" {
		and("target = $%d", text(f.Target))
	}
	if !f.Since.IsZero() {
		and("at >= $%d", nanos(f.Since))
	}
	if !f.Until.IsZero() {
		and("at < $%d", nanos(f.Until))
	}
	return where, args
}
