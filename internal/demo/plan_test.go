package demo

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"manna/internal/config"
)

// The pace of the partners is what makes the demo one: claims come faster than
// they can be taken, and yet all are taken in time.
func TestPlanKeepsPartnersBusyAndDoesNotDrownThem(t *testing.T) {
	const claims = 40_000
	p := newPlan(claims, 7)
	distinct := float64(claims) * (repeats - 1) / repeats
	orders := map[string]float64{
		"good":  distinct * (1 - askCoupon), // packets, packs, golden ones and greetings
		"slow":  distinct * askPack,
		"flaky": distinct * askCoupon,
	}
	for _, q := range p.partners {
		takes := orders[q.name] / float64(q.rate)
		if takes < 1.5*claimTime.Seconds() {
			t.Errorf("%s takes its orders in %.0f s: nothing waits while claims come for %v", q.name, takes, claimTime)
		}
		if takes > drainTime.Seconds() {
			t.Errorf("%s takes its orders in %.0f s, want at most %v", q.name, takes, drainTime)
		}
	}
	if got := float64(p.golden); got < 1 || got > distinct*askGolden/2 {
		t.Errorf("%v golden gifts for about %v claims: they do not run out", got, distinct*askGolden)
	}
	var told time.Duration
	for _, q := range p.partners {
		for _, w := range q.script.Down {
			told += time.Duration(w.For)
		}
	}
	if told != downFor {
		t.Errorf("partners are down for %v, want %v", told, downFor)
	}
}

func TestPlanIsMadeOfClaimsAndSeedAlone(t *testing.T) {
	if a, b := newPlan(1000, 3), newPlan(1000, 3); !reflect.DeepEqual(a, b) {
		t.Errorf("got %+v and %+v from the same claims and seed", a, b)
	}
	for _, p := range newPlan(1000, 4).partners {
		if p.script.Seed != 4 || p.script.Name != p.name || p.script.Rate != 0 {
			t.Errorf("partner %s plays %+v: want the plan's seed, its own name, and no limit of its own", p.name, p.script)
		}
	}
}

// The configuration is one that a user could have written, and has what the plan
// says of the partners.
func TestConfigurationIsValid(t *testing.T) {
	for _, claims := range []int{100, 40_000, 2_000_000} {
		p := newPlan(claims, 1)
		urls := map[string]string{}
		for _, q := range p.partners {
			urls[q.name] = "http://127.0.0.1:1/" + q.name
			if err := q.script.Check(); err != nil {
				t.Errorf("%d claims: script of %s: %v", claims, q.name, err)
			}
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "manna.yaml")
		text := p.configuration(&server{name: "data", dir: dir, public: "127.0.0.1:8080", admin: "127.0.0.1:8081"}, nil, urls)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(file)
		if err != nil {
			t.Fatalf("%d claims: %v", claims, err)
		}
		// A small demo has slow partners, of which a configuration warns.
		if len(c.Warnings) > 0 && claims >= 40_000 {
			t.Errorf("%d claims: warnings: %v", claims, c.Warnings)
		}
		for _, q := range p.partners {
			got, ok := c.Partner(q.name)
			if !ok || got.Rate != q.rate || got.URL != urls[q.name]+"/grant" || got.Idempotent != q.script.Dedupe {
				t.Errorf("%d claims: partner %s is configured as %+v, planned as %+v", claims, q.name, got, q)
			}
		}
		night, ok := c.Campaign(campaignName)
		if !ok || len(night.Scenes) != 1 || night.Scenes[0].Name != sceneName {
			t.Fatalf("%d claims: campaign %+v", claims, night)
		}
		asked := map[string]bool{"pack": true, "coupon": true, "golden": true, "packet": true}
		for _, g := range night.Gifts {
			delete(asked, g.Name)
			if g.Name == "golden" && (g.Stock != p.golden || g.Instead != "greeting") {
				t.Errorf("%d claims: golden has stock %d and %q in its place, want %d and a greeting", claims, g.Stock, g.Instead, p.golden)
			}
		}
		if len(asked) > 0 {
			t.Errorf("%d claims: claimants ask for %v, which is not given", claims, asked)
		}
	}
}

// What the demo puts into servers that others use has a name of its own everywhere.
func TestEnginesAreUsedUnderAName(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "engines.yaml")
	text := `queue: {engine: rocketmq, nameservers: [127.0.0.1:9876], group: manna}
guard: {engine: memcached, servers: [127.0.0.1:11211]}
ledger: {engine: postgres, dsn: "postgres://u:p@127.0.0.1/manna"}
archive: {url: "s3://gifts?endpoint=http://127.0.0.1:7070", access_key: a, secret_key: b}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := readEngines(file)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlan(40_000, 1)
	urls := map[string]string{"good": "http://127.0.0.1:1", "slow": "http://127.0.0.1:2", "flaky": "http://127.0.0.1:3"}
	c, err := config.Parse(file, []byte(p.configuration(&server{name: "front-1", dir: dir, public: "127.0.0.1:8080", admin: "127.0.0.1:8081"}, e, urls)), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Clustered() || c.Queue.Group != e.name || c.Guard.Prefix != e.name+":" || c.Ledger.Schema == "manna" ||
		c.Archive.URL != "s3://gifts/"+e.name+"?endpoint=http://127.0.0.1:7070" {
		t.Errorf("got %+v %+v %+v %+v", c.Queue, c.Guard, c.Ledger, c.Archive)
	}
	if e.dir != "" {
		t.Errorf("there are no commands in %s, and some were found", e.dir)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(text, "engine: rocketmq, nameservers: [127.0.0.1:9876]", "engine: embedded", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readEngines(file); err == nil || !strings.Contains(err.Error(), "needs all of queue, guard, ledger and archive") {
		t.Errorf("got %v", err)
	}
}
