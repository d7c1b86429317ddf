package postgres

import (
	"context"
	"fmt"
	"io/fs"
	"regexp"

	"github.com/jackc/pgx/v5"
)

// preparing is what migrate is called in errors. It needs other rights than all else.
const preparing = "prepare the schema"

// remedyReadOnly is for a server that takes nothing new.
const remedyReadOnly = "ALTER DATABASE … RESET default_transaction_read_only, or the same of the user or the server; where it is a standby, name the primary in ledger: {dsn}"

func (l *Ledger) user() string { return l.pool.Config().ConnConfig.User }

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// rightsFor is the remedy for a call that was denied.
func (l *Ledger) rightsFor(what string) string {
	schema, user := quoted(l.opts.Schema), quoted(l.user())
	if what == preparing {
		return fmt.Sprintf("make %s the owner of the schema %s and of its tables, or GRANT CREATE ON DATABASE … TO %s where there is none yet", user, schema, user)
	}
	return fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s, and GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %s TO %s", schema, user, schema, user)
}

// lacking is the error that a ledger would meet for want of rights in a schema that
// is there, at this version, or nil. Columns that number themselves need no right to
// their sequences.
func (l *Ledger) lacking(ctx context.Context, at, known int64) error {
	ours, err := relations()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	var usage, create bool
	var denied, others []string // of ours
	err = l.pool.QueryRow(ctx, `SELECT has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE'),
		array_remove(array_agg(c.relname::text ORDER BY c.relname) FILTER (WHERE NOT (has_table_privilege(c.oid, 'SELECT') AND (c.relkind = 'v' OR
			has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')))), NULL),
		array_remove(array_agg(c.relname::text ORDER BY c.relname) FILTER (WHERE NOT pg_has_role(c.relowner, 'USAGE')), NULL)
		FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p', 'v')
		WHERE n.nspname = $1 GROUP BY n.oid`, l.opts.Schema, ours).Scan(&usage, &create, &denied, &others)
	if err != nil {
		return l.explain("read the rights", err)
	}
	where := fmt.Sprintf("PostgreSQL at %s: user %s", l.addr, quoted(l.user()))
	switch {
	case at < known && (!usage || !create):
		return fmt.Errorf("%s may not make tables in the schema %s: %s", where, quoted(l.opts.Schema), l.rightsFor(preparing))
	case at < known && len(others) > 0:
		return fmt.Errorf("%s may not bring the schema from version %d to %d, for %s is another's: %s", where, at, known, andMore(others), l.rightsFor(preparing))
	case !usage || len(denied) > 0:
		return fmt.Errorf("%s may not read and write %s in the schema %s: %s", where, andMore(denied), quoted(l.opts.Schema), l.rightsFor("use"))
	}
	return nil
}

func andMore(names []string) string {
	switch len(names) {
	case 0:
		return "anything"
	case 1:
		return names[0]
	}
	return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
}

var made = regexp.MustCompile(`(?m)^CREATE (?:OR REPLACE )?(?:TABLE|VIEW) (?:IF NOT EXISTS )?(\w+)`)

// relations are the tables and views that the migrations make. A schema may have
// those of others beside them.
func relations() (names []string, err error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := fs.ReadFile(migrations, file)
		if err != nil {
			return nil, err
		}
		for _, name := range made.FindAllSubmatch(text, -1) {
			names = append(names, string(name[1]))
		}
	}
	return names, nil
}
