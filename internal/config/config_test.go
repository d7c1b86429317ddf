package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"manna/gift"
)

var update = flag.Bool("update", false, "write the golden files")

// environment is what tests look variables up in.
func environment(name string) (string, bool) {
	v, ok := map[string]string{
		"SET": leak, "EMPTY": "", "SHOP": leak, "TOKEN": leak, "BROKEN": "whsec_leaked*", "SHORT": "leakedword", "HOST": "partner.example", "NODE": "n1", "WORD": "leakedword",
	}[name]
	return v, ok
}

// leak is what no error, warning or output may hold.
const leak = "whsec_bGVha2VkLWxlYWtlZC1sZWFrZWQtbGVha2Vk"

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("manna.yaml", []byte(text), environment)
	if err != nil {
		t.Fatalf("the file is refused:\n%v", err)
	}
	return c
}

// minimal is a file with nothing but what is required.
const minimal = `partners:
  midas: {url: "https://partner.example/grant", rate: 3000/s, idempotent: true}
campaigns:
  spring:
    opens: 2027-02-05T20:00:00+08:00
    closes: 2027-02-05T20:30:00+08:00
    gifts:
      pack: {stock: 10, items: [{item: vip, partner: midas}]}
`

func TestRefused(t *testing.T) {
	files, err := filepath.Glob("testdata/refused/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files in testdata/refused", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(filepath.Base(file), data, environment)
			var found Errors
			if !errors.As(err, &found) || len(found) == 0 || c != nil {
				t.Fatalf("got %v, %v; want Errors and no Config", c, err)
			}
			got := err.Error() + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for _, secret := range []string{leak, "leakedword", "leaked*", "tops3cret", "hunter2"} {
				if strings.Contains(got, secret) {
					t.Errorf("the errors show the secret %s", secret)
				}
			}
		})
	}
}

// The file of DESIGN.md, with the gift that its low_stock gives instead.
func TestDesign(t *testing.T) {
	c, err := Load("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", Errors(c.Warnings))
	}
	wantPartner := Partner{
		Name: "midas", Adapter: "http", URL: "https://partner.example/grant", QueryURL: "https://partner.example/orders",
		Idempotent: true, Rate: 3000, MaxInFlight: 200, Timeout: 2 * time.Second, SettlesWithin: 6 * time.Second,
		Retry:   []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour},
		Breaker: Breaker{20 * time.Second, 0.5, 20, time.Second, 15 * time.Second},
		Request: Request{Method: "POST"},
	}
	if p, ok := c.Partner("midas"); !ok || !reflect.DeepEqual(*p, wantPartner) {
		t.Errorf("got  %+v\nwant %+v", p, wantPartner)
	}
	k, ok := c.Campaign("spring-2027")
	if !ok {
		t.Fatal("the campaign is missing")
	}
	zone := time.FixedZone("", 8*60*60)
	if want := time.Date(2027, 2, 5, 20, 0, 0, 0, zone); !k.Opens.Equal(want) || k.Opens.Format("-07:00") != "+08:00" {
		t.Errorf("opens: got %v, want %v", k.Opens, want)
	}
	if k.ID != gift.NewCampaignID("spring-2027") {
		t.Error("the campaign has another id than its name gives")
	}
	wantScenes := []gift.Scene{{Name: "rain-2000", Stages: []string{""}}, {Name: "rain-2100", Stages: []string{""}}}
	if !reflect.DeepEqual(k.Scenes, wantScenes) {
		t.Errorf("scenes: got %v, want %v", k.Scenes, wantScenes)
	}
	if k.ClaimsPerUser != 1 || k.Promise != 48*time.Hour || k.Segment != filepath.Join("testdata", "old-users.roaring") {
		t.Errorf("got %d claims, promise %v, segment %s", k.ClaimsPerUser, k.Promise, k.Segment)
	}
	g, _ := k.Gift("vip-pack")
	want := gift.Gift{
		Name: "vip-pack", Stock: 3_000_000, LowUnder: 300_000, Instead: "greeting",
		Items: []gift.Item{{Name: "vip-30", Partner: "midas", SKU: "V30", Quantity: 1, Platforms: []string{"android", "ios"}}},
	}
	if !reflect.DeepEqual(*g, want) {
		t.Errorf("gift: got %+v, want %+v", *g, want)
	}
	if c.Data != filepath.Join("testdata", "manna-data") || c.Listen != (Listen{":8080", ":8081"}) || c.Node != "a" ||
		c.Archive.URL != "file:///var/lib/manna/archive" || c.Reconcile != (Reconcile{"7 * * * *", 100_000}) {
		t.Errorf("got %+v", c)
	}
}

func TestTenPartnersFourCampaigns(t *testing.T) {
	data, err := os.ReadFile("testdata/ten-partners.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("testdata/ten-partners.yaml", data, environment)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range c.Warnings {
		if !strings.Contains(w.Message, "is below 50/s") {
			t.Errorf("warning: %v", w)
		}
	}
	if got := strings.Join(c.partnerNames(), " "); got != "midas croesus tremendous tango runa giftbit tillo wechat points badges" {
		t.Errorf("partners: got %s", got)
	}
	if len(c.Campaigns) != 4 {
		t.Fatalf("got %d campaigns, want 4", len(c.Campaigns))
	}
	runa, _ := c.Partner("runa")
	if runa.Request.Method != "PUT" || runa.Mapping.Reference != "data.id" || runa.Answers[409] != "refused" || runa.Answers[402] != "busy" || runa.States["COMPLETED"] != "granted" {
		t.Errorf("runa: got %+v", runa)
	}
	if got := string(runa.Request.Headers["Authorization"]); got != "Bearer "+leak {
		t.Errorf("runa's header: got %q", got)
	}
	croesus, _ := c.Partner("croesus")
	if croesus.Rate != 15 || croesus.Breaker.Window != 30*time.Second {
		t.Errorf("croesus takes its breaker from an alias and its own rate: got %+v", croesus)
	}
	show, _ := c.Campaign("show")
	if len(show.Scenes) != 2 || len(show.Scenes[0].Stages) != 2 || len(show.Scenes[1].Stages) != 3 || show.ClaimsPerUser != 3 {
		t.Errorf("show: got %+v", show)
	}
	for _, f := range c.Forecasts() {
		if !f.Kept() {
			t.Errorf("the promise of %s is not kept by %s: %+v", f.Campaign, f.Partner, f)
		}
	}
	for _, p := range c.Partners {
		if text := fmt.Sprintf("%v %+v %#v %s", p, *p, *p, p.Request.Headers); strings.Contains(text, leak) {
			t.Errorf("printing %s shows a secret: %s", p.Name, text)
		}
	}
}

func TestEnginesWithServers(t *testing.T) {
	engines := func(lines string) string { return strings.Replace(minimal, "partners:", lines+"\npartners:", 1) }
	c := mustParse(t, engines(`
durability: replicated
queue: {engine: rocketmq, nameservers: [10.0.0.1:9876, 10.0.0.2:9876], group: spring, queues: 16}
guard: {engine: memcached, servers: [10.0.0.3:11211], standby: 0}
ledger: {engine: postgres, dsn: "postgres://u:`+leak+`@db/manna"}
archive: {url: "s3://gifts/logs?endpoint=https://s3.example", access_key: a, secret_key: `+leak+`}`))
	if len(c.Queue.Nameservers) != 2 || c.Queue.Group != "spring" || c.Queue.Queues != 16 || c.Guard.Standby != 0 ||
		!c.Clustered() || c.Archive.URL != "s3://gifts/logs?endpoint=https://s3.example" || string(c.Archive.SecretKey) != leak {
		t.Errorf("got %+v %+v %+v %+v", c.Queue, c.Guard, c.Ledger, c.Archive)
	}
	if c.Log.SegmentAge != 2*time.Minute {
		t.Errorf("segments are sealed after %v, want two minutes: other nodes read them", c.Log.SegmentAge)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warned: %v", c.Warnings)
	}
	if text := fmt.Sprintf("%v %+v %#v", *c, *c, *c); strings.Contains(text, leak) {
		t.Errorf("printing shows a secret: %s", text)
	}
	for lines, want := range map[string]string{
		`queue: {engine: rocketmq, nameservers: [q:9876]}`:   "share stock, marks",
		`ledger: {engine: postgres, dsn: "postgres://db/m"}`: "no other node delivers",
		`guard: {engine: memcached, servers: [m:11211]}`:     "nodes that share a guard also share stock",
		`queue: {engine: rocketmq, nameservers: [q:9876]}
guard: {engine: memcached, servers: [m:11211]}
ledger: {engine: postgres, dsn: "postgres://db/m"}`: "there is no archive",
	} {
		c := mustParse(t, engines(lines))
		if !slices.ContainsFunc(c.Warnings, func(p Problem) bool { return strings.Contains(p.Message, want) }) {
			t.Errorf("%s: warned %v, want %q", lines, c.Warnings, want)
		}
	}
}

// Where several fronts share a queue, an item is the same in all gifts of a campaign: their
// orders have one id.
func TestItemsOfOneNameInACluster(t *testing.T) {
	const cluster = `
queue: {engine: rocketmq, nameservers: [q:9876]}
guard: {engine: memcached, servers: [m:11211]}
ledger: {engine: postgres, dsn: "postgres://db/m"}
`
	const text = `
partners:
  midas: {url: "http://a/grant", rate: 1/s, idempotent: true}
  juno: {url: "http://b/grant", rate: 1/s, idempotent: true}
campaigns:
  spring:
    opens: 2027-01-01T00:00:00Z
    closes: 2027-01-02T00:00:00Z
    gifts:
      vip: {stock: 1, items: [{item: coin, partner: midas, sku: C1}, {item: vip, partner: midas}]}
      duo: {stock: 1, items: [%s, {item: duo, partner: juno}]}
`
	for item, ok := range map[string]bool{
		"{item: coin, partner: midas, sku: C1}":                             true,
		"{item: coin, partner: midas, sku: C1, platforms: [ios]}":           true,
		"{item: coin, partner: midas, sku: C2}":                             false,
		"{item: coin, partner: juno, sku: C1}":                              false,
		"{item: coin, partner: midas, sku: C1, quantity: 2}":                false,
		"{item: coin, partner: midas, sku: C1, amount: 100, currency: CNY}": false,
		"{item: other, partner: juno, sku: C2, amount: 100, currency: CNY}": true,
	} {
		mustParse(t, fmt.Sprintf(text, item))
		_, err := Parse("manna.yaml", []byte(cluster+fmt.Sprintf(text, item)), func(string) (string, bool) { return "", false })
		if (err == nil) != ok || err != nil && (!strings.Contains(err.Error(), "manna.yaml:15") || !strings.Contains(err.Error(), "the item coin is something else in the gift vip")) {
			t.Errorf("%s: %v", item, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	c := mustParse(t, minimal)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(c.Data, c.Listen, c.Node == host, c.Durability, c.Queue, c.Guard, c.Ledger, c.Archive, c.Reconcile, c.Log, c.Limits, c.Shutdown, c.Auth)
	want := "manna-data {:8080 :8081} true local {embedded [] manna  8} {embedded [] manna: 0.5} {sqlite  manna} {  } {7 * * * * 100000} " +
		"{67108864 10m0s 500µs} {65536 8388608 8192 5s 15s 2m0s} 20s {<nil> []}\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	p := c.Partners[0]
	if p.Timeout != 5*time.Second || p.SettlesWithin != 15*time.Second || p.Lease() <= p.Timeout ||
		p.Breaker.Window < 4*p.Timeout || p.MaxInFlight != 1024 || p.RetryTotal() != time.Hour+12*time.Minute+36*time.Second {
		t.Errorf("got %+v", p)
	}
	k := c.Campaigns[0]
	if !reflect.DeepEqual(k.Scenes, []gift.Scene{{Stages: []string{""}}}) || k.ClaimsPerUser != 1 || k.Promise != 48*time.Hour || k.Segment != "" {
		t.Errorf("got %+v", k)
	}
	if k.Gifts[0].Items[0].Quantity != 1 {
		t.Errorf("quantity: got %d, want 1", k.Gifts[0].Items[0].Quantity)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", Errors(c.Warnings))
	}
}

func TestVariables(t *testing.T) {
	c := mustParse(t, `node: "${NODE}"
data: "/srv/$${x}/${NODE}"
partners:
  midas:
    url: "https://${HOST}/grant"
    secret: '${TOKEN}'
    rate: 3000/s
    idempotent: true
    request: {body: "{\"to\": {{json .user}}, \"key\": \"${TOKEN}\"}"}
`+minimal[strings.Index(minimal, "campaigns:"):])
	if c.Node != "n1" || c.Data != "/srv/${x}/n1" {
		t.Errorf("got node %q, data %q", c.Node, c.Data)
	}
	p := c.Partners[0]
	if p.URL != "https://partner.example/grant" || string(p.Secret) != leak || !strings.Contains(string(p.Request.Body), leak) {
		t.Error("the variables are not put in")
	}
	if got := c.Written("partners.midas.url", p.URL); got != "https://${HOST}/grant" {
		t.Errorf("written: got %q", got)
	}
	if got := c.Written("listen.public", ":8080"); got != ":8080" {
		t.Errorf("written: got %q", got)
	}
	if got := c.Written("x", "https://user:pw@host/x"); got != "https://[redacted]@host/x" {
		t.Errorf("written: got %q", got)
	}
}

// A value from the environment is in no error, wherever it is wrong.
func TestVariablesStayHidden(t *testing.T) {
	for _, line := range []string{
		`node: "a b ${SET}"`, `listen: {public: "${SET}"}`, `listen: {admin: "x:${SET}"}`,
		`archive: {url: "${SET}"}`, `archive: {url: "s3://${SET}"}`, `data: "${SET}${MISSING}"`,
		`ledger: {engine: postgres, dsn: "${SET}"}`, `shutdown: "${SET}"`, `reconcile: {cron: "${SET}"}`,
		`guard: {servers: ["${SET}"]}`, `auth: {jwt: {algorithms: [RS256], key_file: "${SET}"}}`,
		`auth: {jwt: {algorithms: ["${SET}"], key_file: "./${SET}/x"}}`,
		`partners: {a: {url: "${SET}", rate: "${SET}", query_url: "http://[${SET}"}}`,
		`partners: {a: {url: "http://x/", request: {body: "${SET}{{", headers: {"X-A": "{{${SET}}}"}}}}`,
		`partners: {a: {url: "http://x/", request: {body: "{{.${SET}}}"}}}`,
		`partners: {a: {url: "http://x/", request: {body: "{{${WORD}}}"}}}`, `partners: {a: {url: "http://x/", request: {body: "{{.${WORD}}}"}}}`,
		`campaigns: {a: {eligibility: {segment: "${SET}"}, opens: "${SET}"}}`,
		`campaigns: {a: {gifts: {g: {items: [{item: "${SET}", partner: "${SET}", sku: "${SET}"}]}}}}`,
	} {
		_, err := Parse("manna.yaml", []byte(line+"\n"), environment)
		if err == nil {
			t.Errorf("%s: is taken", line)
			continue
		}
		if strings.Contains(err.Error(), leak) || strings.Contains(err.Error(), leak[:12]) || strings.Contains(err.Error(), "leakedword") {
			t.Errorf("%s: shows the value:\n%v", line, err)
		}
	}
}

func TestLoad(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	if _, err := Load(missing); err == nil || !strings.Contains(err.Error(), "manna init "+missing) {
		t.Errorf("got %v, want the command that writes one", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a directory is taken")
	}
	large := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(large, []byte(minimal+strings.Repeat("# all comment\n", maxFile/10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("got %v", err)
	}
}

func TestByteOrderMarkAndCarriageReturns(t *testing.T) {
	mustParse(t, "\ufeff"+strings.ReplaceAll(minimal, "\n", "\r\n"))
}

func TestWarnings(t *testing.T) {
	c := mustParse(t, `partners:
  midas: {url: "https://partner.example/grant", rate: 3000/s, secret: hunter2}
  idle: {url: "https://idle.example/grant", rate: 1/s, idempotent: true}
campaigns:
  spring:
    opens: 2027-02-05T20:00:00+08:00
    closes: 2027-02-05T20:30:00+08:00
    claims_per_user: 3
    promise: 1h
    gifts:
      pack: {items: [{item: vip, partner: midas, platforms: [ios]}]}
      web: {stock: 5, items: [{item: vip, partner: midas, platforms: [web]}]}
`)
	var got []string
	for _, w := range c.Warnings {
		got = append(got, fmt.Sprintf("%d %s: %s", w.Line, w.Key, w.Message))
		if strings.Contains(w.Error(), "hunter2") {
			t.Errorf("the warning shows the secret: %v", w)
		}
	}
	want := []string{
		"2 partners.midas: cannot be asked and does not dedupe: each call without a clear answer waits for a person",
		"2 partners.midas.secret: stands in the file itself, where everyone who reads the file reads it",
		"2 partners.midas.secret: its key has 7 bytes, and one below 24 can be guessed",
		"3 partners.idle: no item of a campaign is delivered by this partner",
		"3 partners.idle.rate: is below 50/s, where 2 % is less than one call: no second has more than 1 call begun, and at the partner's door it may be 2, as long as the times on the way there differ by less than 1s",
		"8 campaigns.spring.claims_per_user: no scene has more than 1 to claim",
		"11 campaigns.spring.gifts.pack: has no stock: as many are given as are claimed, and nobody can say when they are delivered",
		"11 campaigns.spring.gifts.pack: has nothing for web, which other gifts of this campaign know",
		"11 campaigns.spring.gifts.pack.items[0].partner: tries for 1h12m36s in all, longer than the promise of 1h",
		"12 campaigns.spring.gifts.web: has nothing for ios, which other gifts of this campaign know",
		"12 campaigns.spring.gifts.web.items[0].partner: tries for 1h12m36s in all, longer than the promise of 1h",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestStarter(t *testing.T) {
	now := time.Date(2027, 2, 5, 20, 17, 3, 0, time.FixedZone("", 8*60*60))
	c := mustParse(t, string(Starter(now, "")))
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", Errors(c.Warnings))
	}
	k := c.Campaigns[0]
	if k.Opens.Format(time.RFC3339) != "2027-02-05T00:00:00+08:00" || k.Closes.Format(time.RFC3339) != "2027-03-07T00:00:00+08:00" {
		t.Errorf("got %v to %v", k.Opens, k.Closes)
	}
	p, ok := c.Partner("sim")
	if !ok || p.URL != "http://127.0.0.1:9090/grant" || p.QueryURL != "http://127.0.0.1:9090/orders" || !p.Idempotent || p.Rate != 500 {
		t.Errorf("got %+v", p)
	}
	if c.Listen != (Listen{"127.0.0.1:8080", "127.0.0.1:8081"}) {
		t.Errorf("got %+v", c.Listen)
	}
}

func TestProblem(t *testing.T) {
	c := mustParse(t, minimal)
	got := c.Problem("partners.midas.request.body", "is no JSON", "").Error()
	want := "manna.yaml:2:10: partners.midas.request.body: is no JSON\n   2 |   midas: {url: \"https://partner.example/grant\", rate: 3000/s, idempotent: true}\n     |          ^"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var line bytes.Buffer
	slog.New(slog.NewJSONHandler(&line, nil)).Info("m", "err", Errors{c.Problem("partners.midas.request.body", "is no JSON", "quote it"), c.Problem("data", "is full", "")})
	if want := `"err":"manna.yaml:2:10: partners.midas.request.body: is no JSON: quote it; manna.yaml: data: is full"}`; !strings.Contains(line.String(), want) {
		t.Errorf("in a log: got %s, want %s", line.String(), want)
	}
	if got := c.Problem("data", "is full", "make room").Error(); got != "manna.yaml: data: is full\n     = make room" {
		t.Errorf("got %q", got)
	}
}
