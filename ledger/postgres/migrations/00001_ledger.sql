-- +goose Up

-- Times are Unix nanoseconds, 0 for the zero time; positions as the log counts
-- them. Texts that are compared or sorted have the collation "C": byte by byte.

-- Derived from the logs. Every row belongs to one node's log.

CREATE TABLE claims (
	claim_id   uuid NOT NULL,
	node       text COLLATE "C" NOT NULL,
	user_id    text COLLATE "C" NOT NULL,
	claimed_at bigint NOT NULL,
	position   bigint NOT NULL,
	campaign   text NOT NULL,
	scene      text NOT NULL,
	stage      text NOT NULL,
	gift       text NOT NULL,
	deliver_by bigint NOT NULL,
	orders     json NOT NULL,
	PRIMARY KEY (claim_id, node)
);
CREATE INDEX claims_by_user ON claims (user_id, claimed_at, claim_id);

CREATE TABLE orders (
	order_id uuid NOT NULL,
	node     text COLLATE "C" NOT NULL,
	claim_id uuid NOT NULL,
	PRIMARY KEY (order_id, node)
);

CREATE TABLE outcomes (
	order_id  uuid NOT NULL,
	node      text COLLATE "C" NOT NULL,
	sort      smallint NOT NULL,
	kind      smallint NOT NULL,
	claim_id  uuid NOT NULL,
	campaign  text NOT NULL,
	partner   text NOT NULL,
	at        bigint NOT NULL,
	position  bigint NOT NULL,
	attempts  integer NOT NULL,
	queries   integer NOT NULL,
	due       bigint NOT NULL,
	reference text NOT NULL,
	voucher   text NOT NULL,
	code      text NOT NULL,
	reason    text NOT NULL,
	run       text NOT NULL,
	PRIMARY KEY (order_id, node, sort)
);

CREATE TABLE switched (
	node     text COLLATE "C" NOT NULL,
	position bigint NOT NULL,
	name     text COLLATE "C" NOT NULL,
	mode     text NOT NULL,
	who      text NOT NULL,
	why      text NOT NULL,
	at       bigint NOT NULL,
	PRIMARY KEY (node, position)
);

CREATE TABLE followed (
	node     text COLLATE "C" PRIMARY KEY,
	position bigint NOT NULL,
	mark_at  bigint NOT NULL,
	mark     bytea NOT NULL,
	as_of    bigint NOT NULL
);

-- Kept here alone.

CREATE TABLE nodes (
	node    text COLLATE "C" PRIMARY KEY,
	state   text NOT NULL,
	epoch   bigint NOT NULL,
	home    text NOT NULL,
	roles   text[] NOT NULL,
	version text NOT NULL,
	address text NOT NULL,
	started bigint NOT NULL,
	seen    bigint NOT NULL,
	log_end bigint NOT NULL,
	by      text NOT NULL
);

CREATE TABLE runs (
	id        text COLLATE "C" PRIMARY KEY,
	slot      bigint NOT NULL,
	since     bigint NOT NULL,
	node      text NOT NULL,
	by        text NOT NULL,
	dry       boolean NOT NULL,
	epoch     bigint NOT NULL,
	state     text NOT NULL,
	started   bigint NOT NULL,
	finished  bigint NOT NULL,
	error     text NOT NULL,
	headlines json NOT NULL
);
CREATE INDEX runs_by_start ON runs (started, id);

CREATE TABLE schedule (
	one       integer PRIMARY KEY CHECK (one = 1),
	last_slot bigint NOT NULL,
	done_slot bigint NOT NULL,
	epoch     bigint NOT NULL,
	holder    text NOT NULL,
	lease     bigint NOT NULL
);
INSERT INTO schedule VALUES (1, 0, 0, 0, '', 0);

CREATE TABLE audit (
	id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at     bigint NOT NULL,
	who    text NOT NULL,
	role   text NOT NULL,
	action text NOT NULL,
	target text NOT NULL,
	detail text NOT NULL,
	result text NOT NULL,
	node   text NOT NULL
);
CREATE INDEX audit_by_time ON audit (at);

CREATE TABLE marks (
	order_id     uuid NOT NULL,
	number       integer NOT NULL,
	partner      text NOT NULL,
	node         text NOT NULL,
	epoch        bigint NOT NULL,
	began        bigint NOT NULL,
	concluded    smallint NOT NULL,
	concluded_at bigint NOT NULL,
	PRIMARY KEY (order_id, number)
);
CREATE INDEX marks_by_conclusion ON marks (concluded_at) WHERE concluded_at <> 0;

CREATE TABLE stock (
	campaign text NOT NULL,
	gift     text NOT NULL,
	refunded bigint NOT NULL,
	PRIMARY KEY (campaign, gift)
);

CREATE TABLE leases (
	campaign text NOT NULL,
	gift     text NOT NULL,
	node     text COLLATE "C" NOT NULL,
	held     bigint NOT NULL CHECK (held >= 0),
	version  bigint NOT NULL,
	updated  bigint NOT NULL,
	PRIMARY KEY (campaign, gift, node)
);

CREATE TABLE refunds (
	claim_id uuid PRIMARY KEY,
	campaign text NOT NULL,
	gift     text NOT NULL,
	count    bigint NOT NULL CHECK (count > 0)
);

-- How far each node's log has been taken in. A node that is registered and of
-- which nothing was taken in is at 0, for nobody knows what its log holds.
CREATE VIEW lags AS
	SELECT node, coalesce(f.position, 0) AS position, coalesce(f.as_of, 0) AS as_of
	FROM followed f FULL JOIN nodes n USING (node)
	WHERE n.state IS DISTINCT FROM 'retired';
