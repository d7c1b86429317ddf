package config

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"manna/gift"
	"manna/internal/schedule"
)

// readServer reads what this process is and where it keeps things.
func (c *Config) readServer(o *object) {
	c.Data = "./manna-data"
	o.text("data", &c.Data)
	c.Data = c.doc.path(c.Data)
	c.readListen(o)
	c.readNode(o)
	c.readEngines(o)
	c.readReconcile(o)

	c.Log = Log{SegmentBytes: 64 << 20, SegmentAge: 10 * time.Minute, Linger: 500 * time.Microsecond}
	if c.Clustered() {
		c.Log.SegmentAge = 2 * time.Minute // other nodes read what is sealed
	}
	o.sub("log", func(o *object) {
		o.size("segment_bytes", &c.Log.SegmentBytes, 64<<10, 256<<20)
		o.duration("segment_age", &c.Log.SegmentAge, time.Second, 24*time.Hour)
		o.duration("linger", &c.Log.Linger, 0, 100*time.Millisecond)
	})
	c.Limits = Limits{
		MaxBody: 64 << 10, MaxBatchBody: 8 << 20, MaxInFlightClaims: 8192,
		ReadTimeout: 5 * time.Second, WriteTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute,
	}
	o.sub("limits", func(o *object) {
		o.size("max_body", &c.Limits.MaxBody, 1<<10, 16<<20)
		o.size("max_batch_body", &c.Limits.MaxBatchBody, 1<<10, 64<<20)
		o.count("max_in_flight_claims", &c.Limits.MaxInFlightClaims, 1, 1_000_000)
		o.duration("read_timeout", &c.Limits.ReadTimeout, 100*time.Millisecond, 5*time.Minute)
		o.duration("write_timeout", &c.Limits.WriteTimeout, 100*time.Millisecond, 5*time.Minute)
		o.duration("idle_timeout", &c.Limits.IdleTimeout, time.Second, time.Hour)
	})
	o.sub("receipts", func(o *object) { o.needSecret(&c.Receipts) })
	c.Shutdown = 20 * time.Second
	o.duration("shutdown", &c.Shutdown, time.Second, 10*time.Minute)
}

// sub reads the mapping under a key, if it is there.
func (o *object) sub(name string, read func(*object)) {
	v, ok := o.get(name)
	if !ok {
		return
	}
	if inner, ok := v.object("write " + name + ": {key: value} or key: value lines below it"); ok {
		read(inner)
		inner.done()
	}
}

func (c *Config) readListen(o *object) {
	c.Listen = Listen{Public: ":8080", Admin: ":8081"}
	o.sub("listen", func(o *object) {
		public := o.address("public", &c.Listen.Public, true)
		admin := o.address("admin", &c.Listen.Admin, true)
		if public && admin && c.Listen.Public == c.Listen.Admin && !strings.HasSuffix(c.Listen.Public, ":0") {
			o.place("admin").fail("give the admin API a port of its own, like :8081", "is the address of the public API too")
		}
	})
}

// address reads host:port; the host may be left out where we listen.
func (o *object) address(name string, into *string, listens bool) bool {
	v, ok := o.get(name)
	if !ok {
		return !o.has(name)
	}
	return v.address(into, listens)
}

func (v value) address(into *string, listens bool) bool {
	var s string
	if !v.text(&s) {
		return false
	}
	want := "write host:port, like 127.0.0.1:9876"
	if listens {
		want = `write ":8080" for every interface or "127.0.0.1:8080" for this machine only`
	}
	host, port, err := net.SplitHostPort(s)
	n, portErr := strconv.Atoi(port)
	least := 1
	if listens {
		least = 0
	}
	if err != nil || portErr != nil || n < least || n > 65535 || host == "" && !listens || strings.ContainsAny(host, " /@") {
		v.fail(want, "%s is no address", v.shown(s))
		return false
	}
	*into = s
	return true
}

// shown quotes a text for an error, with the names of its variables instead of
// what they hold.
func (v value) shown(s string) string {
	if w, ok := v.doc.written[v.key]; ok {
		s = w
	}
	return strconv.Quote(clip(userinfo.ReplaceAllString(s, "://"+redacted+"@")))
}

func (c *Config) readNode(o *object) {
	v, ok := o.get("node")
	if ok {
		var s string
		if !v.text(&s) {
			return
		}
		if gift.CheckName(s) != nil {
			v.fail(wantName, "%s is no name", v.shown(s))
			return
		}
		c.Node = s
		return
	}
	host, err := os.Hostname()
	if err == nil {
		err = gift.CheckName(host)
	}
	if err != nil && !o.has("node") {
		o.doc.fail(o.at, "node", "the host's name cannot name this node", "write node: and a name of its own for each machine")
		return
	}
	c.Node = host
}

func (c *Config) readReconcile(o *object) {
	c.Reconcile = Reconcile{Cron: "7 * * * *", BacklogUnder: 100_000}
	o.sub("reconcile", func(o *object) {
		o.number("backlog_under", &c.Reconcile.BacklogUnder, 1, 1_000_000_000_000)
		if v, ok := o.get("cron"); ok {
			v.cron(&c.Reconcile.Cron)
		}
	})
}

// cron reads when the reconciler runs.
func (v value) cron(into *string) {
	s, ok := v.plain(schedule.Want)
	if !ok {
		return
	}
	if _, err := schedule.Parse(s); err != nil {
		v.fail(schedule.Want, "%v", err)
		return
	}
	*into = strings.TrimSpace(s)
}
