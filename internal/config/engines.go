package config

import (
	"net/url"
	"path/filepath"
	"strings"
)

// The engines that need no server, and those that do.
const (
	Embedded  = "embedded"
	RocketMQ  = "rocketmq"
	Memcached = "memcached"
	SQLite    = "sqlite"
	Postgres  = "postgres"
)

// What `durability` may be.
const (
	Local      = "local"
	Replicated = "replicated"
)

// Queue is `queue: {engine, nameservers, group, cluster, queues}`.
type Queue struct {
	Engine      string   // embedded (default) or rocketmq
	Nameservers []string // of rocketmq
	Group       string   // begins the names of topics and groups; default manna
	Cluster     string   // of brokers; empty: the only one that the name servers know
	Queues      int      // of a topic on each broker; default 8
}

// Guard is `guard: {engine, servers, prefix, standby}`: the claim guard, and the
// quota that shares each partner's rate over the nodes.
type Guard struct {
	Engine  string   // embedded (default) or memcached
	Servers []string // of memcached
	Prefix  string   // begins every key; default "manna:"
	// Standby is the share of a partner's rate that all nodes together use while
	// the servers are away. `standby`, default 0.5; 0 pauses the lanes.
	Standby float64
}

// Ledger is `ledger: {engine, dsn, schema}`.
type Ledger struct {
	Engine string // sqlite (default) or postgres
	DSN    Secret // of postgres
	Schema string // of its tables; default manna
}

// Archive is `archive: {url, access_key, secret_key}`: where sealed segments go.
type Archive struct {
	URL string // file:///a/directory or s3://a-bucket; empty: they stay where they are
	// AccessKey and SecretKey are those of an S3 server; where they are empty, the
	// environment's AWS_… variables, the shared credentials file or the machine's role
	// are used.
	AccessKey, SecretKey Secret
}

// Clustered reports whether this node is one of several that share a queue.
func (c *Config) Clustered() bool {
	return c.Queue.Engine == RocketMQ && c.Ledger.Engine == Postgres
}

func (c *Config) readEngines(o *object) {
	c.Durability = Local
	o.word("durability", &c.Durability, Local, Replicated)
	c.readQueue(o)
	c.readGuard(o)
	c.readLedger(o)
	c.readArchive(o)
	if c.Durability == Replicated && c.Queue.Engine != RocketMQ {
		o.place("durability").fail("write durability: local, or queue: {engine: rocketmq, …}",
			"replicated needs a broker that holds the second copy, and queue.engine is %s", c.Queue.Engine)
	}
	switch alone := "this node has to stay alone"; {
	case c.Clustered() && c.Guard.Engine != Memcached:
		o.place("guard").fail("add guard: {engine: memcached, servers: [host:11211]}",
			"nodes that share a queue also share each partner's rate, and guard.engine is %s", c.Guard.Engine)
	case c.Clustered() && c.Archive.URL == "":
		o.place("queue").warn("add archive: {url: s3://…} that all nodes reach",
			"there is no archive: the reconciler cannot read the logs of other nodes, and its reports are incomplete")
	case c.Clustered():
		// Everything is shared.
	case c.Queue.Engine == RocketMQ:
		o.place("queue").warn("add ledger: {engine: postgres, dsn: …} before a second node shares this queue",
			"nodes that share a queue also share stock, marks and the reconciler's turn, and ledger.engine is %s: %s", c.Ledger.Engine, alone)
	case c.Ledger.Engine == Postgres:
		o.place("ledger").warn("add queue: {engine: rocketmq, …} before a second node shares this ledger",
			"queue.engine is %s, so that no other node delivers what this one has accepted: %s", c.Queue.Engine, alone)
	case c.Guard.Engine == Memcached:
		o.place("guard").warn("add queue: {engine: rocketmq, …} and ledger: {engine: postgres, …} before a second node shares this guard",
			"nodes that share a guard also share stock, and what each has accepted, and queue.engine is %s and ledger.engine %s: %s", c.Queue.Engine, c.Ledger.Engine, alone)
	}
}

func (c *Config) readQueue(o *object) {
	c.Queue = Queue{Engine: Embedded, Group: "manna", Queues: 8}
	o.sub("queue", func(o *object) {
		o.word("engine", &c.Queue.Engine, Embedded, RocketMQ)
		o.addresses("nameservers", &c.Queue.Nameservers, "[127.0.0.1:9876]")
		if v, ok := o.get("group"); ok {
			v.group(&c.Queue.Group)
		}
		if v, ok := o.get("cluster"); ok {
			v.text(&c.Queue.Cluster)
		}
		o.count("queues", &c.Queue.Queues, 1, 1024)
		o.servers(c.Queue.Engine == RocketMQ, "nameservers", "write nameservers: [host:9876]", "cluster", "queues")
	})
}

func (c *Config) readGuard(o *object) {
	c.Guard = Guard{Engine: Embedded, Prefix: "manna:", Standby: 0.5}
	o.sub("guard", func(o *object) {
		o.word("engine", &c.Guard.Engine, Embedded, Memcached)
		o.addresses("servers", &c.Guard.Servers, "[127.0.0.1:11211]")
		if v, ok := o.get("prefix"); ok {
			v.prefix(&c.Guard.Prefix)
		}
		o.share("standby", &c.Guard.Standby, true)
		o.servers(c.Guard.Engine == Memcached, "servers", "write servers: [host:11211]", "prefix", "standby")
	})
}

func (c *Config) readLedger(o *object) {
	c.Ledger = Ledger{Engine: SQLite, Schema: "manna"}
	o.sub("ledger", func(o *object) {
		o.word("engine", &c.Ledger.Engine, SQLite, Postgres)
		o.secret("dsn", &c.Ledger.DSN)
		if v, ok := o.get("schema"); ok {
			v.schema(&c.Ledger.Schema)
		}
		o.servers(c.Ledger.Engine == Postgres, "dsn", `write dsn: "${MANNA_DSN}", like postgres://user:password@host:5432/manna`, "schema")
	})
}

// servers demands the key that says where an engine's servers are, and refuses it
// and others of theirs for the engine that has none.
func (o *object) servers(wanted bool, where, write string, others ...string) {
	if wanted {
		o.need(where, write)
		return
	}
	for _, key := range append(others, where) {
		if o.has(key) {
			o.place(key).fail("write engine: and the engine that this is for, or take the line away", "the default engine has no servers")
		}
	}
}

// group reads the name that begins those of topics and groups.
func (v value) group(into *string) {
	const want = "write up to 32 letters, digits and '_', like manna"
	s, ok := v.plain(want)
	if !ok {
		return
	}
	letters := func(r rune) bool {
		return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if len(s) == 0 || len(s) > 32 || strings.IndexFunc(s, func(r rune) bool { return !letters(r) }) >= 0 {
		v.fail(want, "%s begins no topic's name", v.shown(s))
		return
	}
	*into = s
}

// prefix reads what begins the keys of a store.
func (v value) prefix(into *string) {
	s, ok := v.plain("write a short word, like manna:")
	if !ok {
		return
	}
	if len(s) == 0 || len(s) > 64 {
		v.fail("write a short word, like manna:", "a prefix has 1 to 64 bytes, this one has %d", len(s))
		return
	}
	for _, r := range s {
		if r <= ' ' || r > '~' {
			v.fail("write letters, digits and marks without spaces, like manna:", "%s begins no key", v.shown(s))
			return
		}
	}
	*into = s
}

// schema reads the name of a database's schema, which is put into statements.
func (v value) schema(into *string) {
	const want = "write a small letter, then up to 62 small letters, digits or _, like manna"
	s, ok := v.plain(want)
	if !ok {
		return
	}
	for i, r := range s {
		if (r < 'a' || r > 'z') && (i == 0 || r != '_' && (r < '0' || r > '9')) {
			v.fail(want, "%s is no schema's name", v.shown(s))
			return
		}
	}
	if len(s) == 0 || len(s) > 63 {
		v.fail(want, "%s is no schema's name", v.shown(s))
		return
	}
	*into = s
}

func (o *object) addresses(name string, into *[]string, like string) {
	v, ok := o.get(name)
	if !ok {
		return
	}
	values, _ := v.list("write addresses in brackets: " + like)
	for _, e := range values {
		var s string
		if e.address(&s, false) {
			*into = append(*into, s)
		}
	}
}

func (c *Config) readArchive(o *object) {
	const want = "write file:/// and a directory, like file:///var/lib/manna/archive, or s3://bucket?endpoint=…"
	o.sub("archive", func(o *object) {
		v, ok := o.need("url", want)
		keys := o.secret("access_key", &c.Archive.AccessKey)
		keys = o.secret("secret_key", &c.Archive.SecretKey) || keys
		if (c.Archive.AccessKey == "") != (c.Archive.SecretKey == "") {
			o.fail("write both, or neither: then the AWS_… variables of the environment are used", "access_key and secret_key belong together")
		}
		var s string
		if !ok || !v.text(&s) {
			return
		}
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Scheme == "":
			v.fail(want, "%s is no address", v.shown(s))
		case u.User != nil:
			v.fail("write archive: {url: …, access_key: …, secret_key: …}", "credentials do not belong into the address")
		case u.Scheme == "file" && (u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != ""):
			v.fail(want, "%s names no directory from the root on", v.shown(s))
		case u.Scheme == "file" && keys:
			v.fail("take access_key and secret_key away", "a directory needs no keys")
		case u.Scheme == "s3" && u.Host == "":
			v.fail(want, "%s names no bucket", v.shown(s))
		case u.Scheme == "gs":
			v.fail("write s3://"+u.Host+"?endpoint=https://storage.googleapis.com, with an HMAC key", "Google Cloud Storage is reached through its S3 interoperability")
		case u.Scheme != "file" && u.Scheme != "s3":
			v.fail(want, "%s: this build archives into directories and S3", v.shown(s))
		default:
			c.Archive.URL = s
		}
	})
}
