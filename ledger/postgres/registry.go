package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"manna/fallbacklog"
	"manna/ledger"
)

// Join implements ledger.Registry.
func (l *Ledger) Join(ctx context.Context, p ledger.Process) (epoch int64, err error) {
	if p.Node == "" || p.Home == "" {
		return 0, errors.New("a process joins with its node's name and the home of its log")
	}
	if ledger.IsFormer(p.Node) {
		return 0, fmt.Errorf("%q is no node's name: %s is what a lease is called whose log is gone", p.Node, p.Node)
	}
	p.Home, p.Place = text(p.Home), text(p.Place)
	roles := p.Roles
	if roles == nil {
		roles = []string{}
	}
	err = l.writing(ctx, "join as node "+p.Node, func(ctx context.Context, tx pgx.Tx) error {
		now, err := l.now(ctx, tx)
		if err != nil {
			return err
		}
		// Two that join at once meet on this row.
		_, err = tx.Exec(ctx, `INSERT INTO nodes (node, state, epoch, home, roles, version, address, started, seen, log_end, by)
			VALUES ($1, $2, 0, $3, '{}', '', '', 0, 0, 0, '') ON CONFLICT DO NOTHING`, p.Node, string(ledger.NodeLeft), p.Home)
		if err != nil {
			return err
		}
		n, err := nodeOf(ctx, tx, p.Node, " FOR UPDATE")
		if err != nil {
			return err
		}
		if n.State == ledger.NodeUp && n.Home != p.Home {
			return fmt.Errorf("node %s is the process at %q with its log in %s, seen %s ago: %w; give this one another name, or declare that one lost (manna node lose), which leaves the stock that it had leased counted as handed out",
				p.Node, n.Address, n.Home, n.Silent(now).Round(time.Second), ledger.ErrNodeTaken)
		}
		if n.State == ledger.NodeLeft && n.Home != p.Home && n.LogEnd > 0 {
			return fmt.Errorf("node %s has left with a log in %s that ends at %v, and this log is another: %w; start it on that directory, give this one another name, or declare that one lost (manna node lose), which leaves the stock that it had leased counted as handed out",
				p.Node, n.Home, n.LogEnd, ledger.ErrNodeTaken)
		}
		var place string
		if err := tx.QueryRow(ctx, "SELECT place FROM nodes WHERE node = $1", p.Node).Scan(&place); err != nil {
			return err
		}
		if n.State == ledger.NodeUp && place != "" && p.Place != "" && place != p.Place && n.Silent(now) < ledger.BeatWithin {
			return fmt.Errorf("node %s is the process at %q, which was alive %s ago, and this one's data directory is a copy of that one's: %w; give this one a data directory and a name of its own, or stop that one first",
				p.Node, n.Address, n.Silent(now).Round(time.Millisecond), ledger.ErrNodeBeats)
		}
		short := n.Home == p.Home && p.End != 0 && p.End.Short(n.LogEnd)
		if short && n.State != ledger.NodeLost {
			return fmt.Errorf("node %s was heard of with its log up to %v, and this one, in the same home, ends at %v: %w: it is an older copy, or was damaged; restore it (manna log restore), or start this process with a data directory and a name of its own, or declare the node lost (manna node lose %s), which leaves the stock that it had leased counted as handed out",
				p.Node, n.LogEnd, p.End, ledger.ErrLogShort, p.Node)
		}
		if n.Home != p.Home || short {
			if err := inherit(ctx, tx, &n, short, now); err != nil {
				return err
			}
			n.LogEnd, n.Ended = 0, false
		}
		// The process may die before its first beat.
		n.LogEnd = max(n.LogEnd, p.End)
		epoch = n.Epoch + 1
		_, err = tx.Exec(ctx, `UPDATE nodes SET state = $2, epoch = $3, home = $4, roles = $5, version = $6, address = $7, started = $8, seen = $8, log_end = $9, place = $10, by = '' WHERE node = $1`,
			p.Node, string(ledger.NodeUp), epoch, p.Home, roles, text(p.Version), text(p.Address), nanos(now), int64(n.LogEnd), p.Place)
		return err
	})
	if err != nil {
		return 0, err
	}
	return epoch, nil
}

// inherit leaves the leases of a node with the log that says what became of them.
// alike: the home is that of another log as well, and does not tell the two apart.
//
// Commit point: the leases are Former's at once with the name's going to another log.
func inherit(ctx context.Context, tx pgx.Tx, n *ledger.Node, alike bool, now time.Time) error {
	former := ledger.Former(n.Name, n.Epoch)
	tag, err := tx.Exec(ctx, "UPDATE leases SET node = $2, version = version + 1, updated = $3 WHERE node = $1", n.Name, former, nanos(now))
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	home := n.Home
	if alike {
		home = ""
	}
	_, err = tx.Exec(ctx, "INSERT INTO formers (holder, home, log_end, ended) VALUES ($1, $2, $3, $4)", former, home, int64(n.LogEnd), n.Ended)
	return err
}

// Beat implements ledger.Registry.
func (l *Ledger) Beat(ctx context.Context, h ledger.Holder, end fallbacklog.Position) error {
	return l.heard(ctx, "beat", h, ledger.NodeUp, end)
}

// Leave implements ledger.Registry.
func (l *Ledger) Leave(ctx context.Context, h ledger.Holder, end fallbacklog.Position) error {
	return l.heard(ctx, "leave", h, ledger.NodeLeft, end)
}

func (l *Ledger) heard(ctx context.Context, what string, h ledger.Holder, state ledger.NodeState, end fallbacklog.Position) error {
	return l.do(ctx, what+" as node "+h.Node, func(ctx context.Context) error {
		now, err := l.now(ctx, l.pool)
		if err != nil {
			return err
		}
		tag, err := l.pool.Exec(ctx, "UPDATE nodes SET state = $3, seen = $4, log_end = $5, ended = CASE $3 WHEN $7 THEN epoch ELSE ended END WHERE node = $1 AND epoch = $2 AND state IN ($6, $3)",
			h.Node, h.Epoch, string(state), nanos(now), int64(end), string(ledger.NodeUp), string(ledger.NodeLeft))
		if err == nil && tag.RowsAffected() == 0 {
			return fenced(h)
		}
		return err
	})
}

func fenced(h ledger.Holder) error {
	return fmt.Errorf("node %s, epoch %d: %w: it left, was declared lost, or another process has its name", h.Node, h.Epoch, ledger.ErrFenced)
}

// current fails with ErrFenced where h is not the node's process, and lets no other
// become it before the transaction ends.
func current(ctx context.Context, tx pgx.Tx, h ledger.Holder) error {
	n, err := nodeOf(ctx, tx, h.Node, " FOR SHARE")
	if errors.Is(err, ledger.ErrNotFound) || err == nil && (n.Epoch != h.Epoch || n.State != ledger.NodeUp) {
		return fenced(h)
	}
	return err
}

// Lose implements ledger.Registry. Should the process run after all, it is fenced:
// a node that is not up has none.
func (l *Ledger) Lose(ctx context.Context, node, by string) error {
	return l.declare(ctx, node, by, ledger.NodeLost, func(ledger.Node) error { return nil })
}

// Retire implements ledger.Registry.
func (l *Ledger) Retire(ctx context.Context, node, by string) error {
	return l.declare(ctx, node, by, ledger.NodeRetired, func(n ledger.Node) error {
		if n.State == ledger.NodeUp {
			return fmt.Errorf("node %s is up: %w; stop it, or declare it lost", node, ledger.ErrHeld)
		}
		return nil
	})
}

func (l *Ledger) declare(ctx context.Context, node, by string, state ledger.NodeState, check func(ledger.Node) error) error {
	return l.writing(ctx, "declare node "+node+" "+string(state), func(ctx context.Context, tx pgx.Tx) error {
		n, err := nodeOf(ctx, tx, node, " FOR UPDATE")
		if err != nil {
			return err
		}
		if err := check(n); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE nodes SET state = $2, by = $3 WHERE node = $1", node, string(state), text(by))
		return err
	})
}

const nodeColumns = "node, state, epoch, home, roles, version, address, started, seen, log_end, by, epoch > 0 AND ended = epoch"

func nodeOf(ctx context.Context, q querier, node, lock string) (ledger.Node, error) {
	n, err := scanNode(q.QueryRow(ctx, "SELECT "+nodeColumns+" FROM nodes WHERE node = $1"+lock, node))
	if errors.Is(err, pgx.ErrNoRows) {
		return n, fmt.Errorf("node %s: %w", node, ledger.ErrNotFound)
	}
	return n, err
}

func scanNode(row pgx.Row) (n ledger.Node, err error) {
	var started, seen int64
	err = row.Scan(&n.Name, &n.State, &n.Epoch, &n.Home, &n.Roles, &n.Version, &n.Address, &started, &seen, &n.LogEnd, &n.By, &n.Ended)
	n.Started, n.Seen = fromNanos(started), fromNanos(seen)
	return n, err
}

// Nodes implements ledger.Registry.
func (l *Ledger) Nodes(ctx context.Context) (nodes []ledger.Node, now time.Time, err error) {
	err = l.do(ctx, "list nodes", func(ctx context.Context) error {
		if now, err = l.now(ctx, l.pool); err != nil {
			return err
		}
		rows, err := l.pool.Query(ctx, "SELECT "+nodeColumns+" FROM nodes ORDER BY node")
		return each(rows, err, func(row pgx.Row) error {
			n, err := scanNode(row)
			nodes = append(nodes, n)
			return err
		})
	})
	return nodes, now, err
}
