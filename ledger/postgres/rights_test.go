//go:build engines

package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"manna/ledger"
)

// guest is a role that has nothing but what a test gives it.
func guest(t *testing.T, s *server) (admin home, opts Options) {
	t.Helper()
	admin = home{dsn: s.dsn(serverPassword), schema: "manna"}
	admin.exec(t, `DROP SCHEMA IF EXISTS manna CASCADE; DROP ROLE IF EXISTS "the guest"; CREATE ROLE "the guest" LOGIN PASSWORD 'guest-secret'`)
	return admin, Options{DSN: fmt.Sprintf("host=127.0.0.1 port=%d dbname=postgres user='the guest' password=guest-secret sslmode=disable", s.port), Node: "b"}
}

// TestCheckAsksForWhatOpenNeeds: the two agree, and who does what the remedy says can
// work.
func TestCheckAsksForWhatOpenNeeds(t *testing.T) {
	s := newServer(t)
	admin, opts := guest(t, s)
	ctx := t.Context()
	agree := func(remedy string) {
		t.Helper()
		_, err := Check(ctx, opts)
		refusal(t, err, remedy, "guest-secret")
		l, err := Open(ctx, opts)
		if err == nil {
			l.Close()
		}
		refusal(t, err, remedy, "guest-secret")
	}
	works := func(want string) {
		t.Helper()
		found, err := Check(ctx, opts)
		if err != nil || !strings.Contains(found, want) {
			t.Fatalf("check: %s (%v)", found, err)
		}
		l, err := Open(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := l.Audit(ctx, ledger.Entry{Who: "ana"}); err != nil { // its rows number themselves
			t.Error(err)
		}
		if _, err := l.Join(ctx, ledger.Process{Node: "b", Home: "disk"}); err != nil {
			t.Error(err)
		}
		if err := l.Ping(ctx); err != nil {
			t.Error(err)
		}
	}

	agree(`GRANT CREATE ON DATABASE`)
	admin.exec(t, `CREATE SCHEMA manna`)
	agree(`make "the guest" the owner of the schema "manna"`)
	admin.exec(t, `GRANT USAGE ON SCHEMA manna TO "the guest"`)
	agree(`make "the guest" the owner of the schema "manna"`)
	admin.exec(t, `REVOKE USAGE ON SCHEMA manna FROM "the guest"`)

	admin.open(t, "a", nil).Close()
	admin.exec(t, `CREATE TABLE manna.somebody_elses (n int)`) // is none of ours
	agree(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "manna" TO "the guest"`)
	admin.exec(t, `GRANT SELECT ON ALL TABLES IN SCHEMA manna TO "the guest"`)
	agree(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "manna" TO "the guest"`)
	admin.exec(t, `GRANT USAGE ON SCHEMA manna TO "the guest"; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA manna TO "the guest"; REVOKE ALL ON manna.somebody_elses FROM "the guest"`)
	works("schema manna at version")

	admin.exec(t, "REVOKE DELETE ON manna.refusals FROM \"the guest\"") // which Open does not touch, and the follower does
	_, err := Check(ctx, opts)
	refusal(t, err, "may not read and write refusals in the schema")
	admin.exec(t, "GRANT DELETE ON manna.refusals TO \"the guest\"; DELETE FROM "+versions+" WHERE version_id >= 4")
	agree(`make "the guest" the owner of the schema "manna" and of its tables`)
	admin.exec(t, `ALTER SCHEMA manna OWNER TO "the guest"`)
	agree(`make "the guest" the owner of the schema "manna" and of its tables`)
	admin.exec(t, `DO $$ DECLARE r record; BEGIN FOR r IN SELECT c.oid::regclass AS name FROM pg_class c WHERE relnamespace = 'manna'::regnamespace AND relkind IN ('r', 'v')
		LOOP EXECUTE format('ALTER TABLE %s OWNER TO "the guest"', r.name); END LOOP; END $$`)
	works("schema manna at version 3 of")
}

func TestCheckOfWhatIsReadOnly(t *testing.T) {
	s := newServer(t)
	admin, opts := guest(t, s)
	ctx := t.Context()
	for _, schema := range []string{"", "manna"} {
		admin.exec(t, `ALTER ROLE "the guest" SET default_transaction_read_only = on; GRANT CREATE ON DATABASE postgres TO "the guest"`)
		_, err := Check(ctx, opts)
		refusal(t, err, "RESET default_transaction_read_only")
		_, err = Open(ctx, opts)
		refusal(t, err, "RESET default_transaction_read_only")
		admin.exec(t, `ALTER ROLE "the guest" RESET default_transaction_read_only`)
		found, err := Check(ctx, opts)
		if err != nil || schema == "" && !strings.Contains(found, "will be created") {
			t.Fatalf("check: %s (%v)", found, err)
		}
		l, err := Open(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}

	s.kill()
	if err := os.WriteFile(filepath.Join(s.data(), "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	_, err := Check(ctx, opts)
	refusal(t, err, "it is a standby, on which nothing can be written: name the primary in ledger: {dsn}")
}
