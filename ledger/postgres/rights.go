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

// rights are what the user may do in a schema that is there.
type rights struct {
	usage, create bool
	// Of the ledger's own tables and views: how many there are, which of them the user
	// may not read and write, and which are another's.
	ours           int
	denied, others []string
}

// rights asks for the rights in the schema, for which nobody needs a right. Columns that
// number themselves need none to their sequences.
func (l *Ledger) rights(ctx context.Context) (r rights, err error) {
	ours, err := relations()
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	err = l.pool.QueryRow(ctx, `SELECT has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE'), count(c.oid),
		array_remove(array_agg(c.relname::text ORDER BY c.relname) FILTER (WHERE NOT (has_table_privilege(c.oid, 'SELECT') AND (c.relkind = 'v' OR
			has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')))), NULL),
		array_remove(array_agg(c.relname::text ORDER BY c.relname) FILTER (WHERE NOT pg_has_role(c.relowner, 'USAGE')), NULL)
		FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p', 'v')
		WHERE n.nspname = $1 GROUP BY n.oid`, l.opts.Schema, ours).Scan(&r.usage, &r.create, &r.ours, &r.denied, &r.others)
	return r, err
}

// noUsage is the error of a ledger that may not use the schema at all.
func (l *Ledger) noUsage(r rights) error {
	if r.ours == 0 {
		return l.mayNot("make tables in the schema "+quoted(l.opts.Schema), preparing)
	}
	return l.mayNot("use the schema "+quoted(l.opts.Schema), "use")
}

// lacking is the error that a ledger would meet for want of rights in a schema that it
// may use, at this version, or nil.
func (l *Ledger) lacking(ctx context.Context, at, known int64) error {
	r, err := l.rights(ctx)
	if err != nil {
		return err
	}
	schema := quoted(l.opts.Schema)
	switch {
	case at < known && !r.create:
		return l.mayNot("make tables in the schema "+schema, preparing)
	case at < known && len(r.others) > 0:
		return l.mayNot(fmt.Sprintf("bring the schema from version %d to %d, for %s is another's", at, known, andMore(r.others)), preparing)
	case len(r.denied) > 0:
		return l.mayNot(fmt.Sprintf("read and write %s in the schema %s", andMore(r.denied), schema), "use")
	}
	return nil
}

// mayNot says what the user may not do, with the remedy for such a call.
func (l *Ledger) mayNot(do, call string) error {
	return fmt.Errorf("user %s may not %s: %s", quoted(l.user()), do, l.rightsFor(call))
}

func andMore(names []string) string {
	if len(names) == 1 {
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
