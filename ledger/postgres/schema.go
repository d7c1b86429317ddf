package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// A migration that has been released is never changed.
//
//go:embed migrations/*.sql
var migrations embed.FS

// versions is the table in which goose notes the migrations that were made.
const versions = "schema_version"

const encodingUTF8 = "UTF8"

func wrongEncoding(encoding string) error {
	return errors.New("the database's encoding is " + encoding + ": create one with UTF8 (createdb --encoding=UTF8 --template=template0)")
}

// migrate holds a lock of the server meanwhile, so that of many nodes that start
// together one migrates and the others find it done. It takes as long as it takes:
// nothing bounds a statement, and a connection that has died is noticed by TCP.
func (l *Ledger) migrate(ctx context.Context) error {
	config := l.pool.Config().ConnConfig
	params := config.RuntimeParams
	params["statement_timeout"], params["idle_in_transaction_session_timeout"] = "0", "0"
	guard, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer guard.Close(context.WithoutCancel(ctx)) // lets the lock go
	key := fnv.New64a()
	fmt.Fprint(key, "manna ledger ", l.opts.Schema)
	if _, err := guard.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(key.Sum64())); err != nil {
		return err
	}
	if err := l.makeSchema(ctx, guard); err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	sources, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, sources, goose.WithTableName(versions), goose.WithDisableGlobalRegistry(true),
		goose.WithVerbose(true), goose.WithSlog(l.opts.Logger)) // each statement before it is made
	if err != nil {
		return err
	}
	at, known, err := provider.GetVersions(ctx)
	switch {
	case err != nil:
		return err
	case at > known:
		return l.newer(at, known)
	case at == known:
		return nil
	}
	l.opts.Logger.Info("ledger schema is being migrated; how long that takes depends on what it holds", "schema", l.opts.Schema, "version", at, "to", known)
	// Commit point of a migration: each is a transaction with its version.
	done, err := provider.Up(ctx)
	for _, m := range done {
		l.opts.Logger.Info("ledger schema migrated", "schema", l.opts.Schema, "version", m.Source.Version, "took", m.Duration)
	}
	return err
}

// makeSchema makes what is not a migration's: a schema that is there may be used
// without the right to make one.
func (l *Ledger) makeSchema(ctx context.Context, conn *pgx.Conn) error {
	var encoding string
	var there bool
	err := conn.QueryRow(ctx, "SELECT current_setting('server_encoding'), EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", l.opts.Schema).Scan(&encoding, &there)
	if err != nil {
		return err
	}
	if encoding != encodingUTF8 {
		return wrongEncoding(encoding)
	}
	if there {
		return nil
	}
	_, err = conn.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{l.opts.Schema}.Sanitize())
	return err
}
