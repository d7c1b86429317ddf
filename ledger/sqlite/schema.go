package sqlite

// A schema is a list of migrations: a file at PRAGMA user_version n has had the
// first n. A migration that has been released is never changed.

// Times are Unix nanoseconds, 0 for the zero time; ids are blobs of 16 bytes.

func derivedSchema() []string {
	return []string{`
CREATE TABLE claims (
	user       TEXT NOT NULL,
	claim_id   BLOB NOT NULL,
	node       TEXT NOT NULL,
	claimed_at INTEGER NOT NULL,
	position   INTEGER NOT NULL,
	campaign   TEXT NOT NULL,
	scene      TEXT NOT NULL,
	stage      TEXT NOT NULL,
	gift       TEXT NOT NULL,
	PRIMARY KEY (user, claim_id, node)
) WITHOUT ROWID;

CREATE TABLE switched (
	node     TEXT NOT NULL,
	position INTEGER NOT NULL,
	name     TEXT NOT NULL,
	mode     TEXT NOT NULL,
	who      TEXT NOT NULL,
	why      TEXT NOT NULL,
	at       INTEGER NOT NULL,
	PRIMARY KEY (node, position)
) WITHOUT ROWID;

CREATE TABLE followed (
	node     TEXT PRIMARY KEY,
	position INTEGER NOT NULL,
	mark_at  INTEGER NOT NULL,
	mark     BLOB NOT NULL,
	as_of    INTEGER NOT NULL
) WITHOUT ROWID;
`}
}

func keptSchema() []string {
	return []string{`
CREATE TABLE runs (
	id        TEXT PRIMARY KEY,
	slot      INTEGER NOT NULL,
	since     INTEGER NOT NULL,
	node      TEXT NOT NULL,
	by        TEXT NOT NULL,
	dry       INTEGER NOT NULL,
	epoch     INTEGER NOT NULL,
	state     TEXT NOT NULL,
	started   INTEGER NOT NULL,
	finished  INTEGER NOT NULL,
	error     TEXT NOT NULL,
	headlines TEXT NOT NULL
);
CREATE INDEX runs_by_start ON runs (started, id);

CREATE TABLE schedule (
	one       INTEGER PRIMARY KEY CHECK (one = 1),
	last_slot INTEGER NOT NULL,
	done_slot INTEGER NOT NULL,
	epoch     INTEGER NOT NULL,
	holder    TEXT NOT NULL,
	lease     INTEGER NOT NULL
);
INSERT INTO schedule VALUES (1, 0, 0, 0, '', 0);

CREATE TABLE audit (
	id     INTEGER PRIMARY KEY AUTOINCREMENT,
	at     INTEGER NOT NULL,
	who    TEXT NOT NULL,
	role   TEXT NOT NULL,
	action TEXT NOT NULL,
	target TEXT NOT NULL,
	detail TEXT NOT NULL,
	result TEXT NOT NULL,
	node   TEXT NOT NULL
);
CREATE INDEX audit_by_time ON audit (at);
`}
}
