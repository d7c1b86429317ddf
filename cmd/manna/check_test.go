package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"manna/internal/node"
)

// command runs one command line in this process.
func command(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// writeConfig writes a configuration whose /srv/manna is below a directory of the
// test's own.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manna.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/srv/manna", dataOf(file))), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func dataOf(file string) string { return filepath.Join(filepath.Dir(file), "data") }

const checked = `node: a
data: /srv/manna
partners:
  midas:
    url: https://user:hunter2@midas.example/grant
    query_url: https://midas.example/orders
    rate: 100/s
    max_in_flight: 20
    timeout: 2s
    secret: "${CHECK_TEST_SECRET}"
    request: {headers: {Authorization: "Bearer ${CHECK_TEST_SECRET}"}}
  points: {url: "https://points.example/grant", idempotent: true, rate: 3000/m, retry: []}
campaigns:
  spring:
    opens: 2027-02-05T20:00:00+08:00
    closes: 2027-02-05T20:30:00+08:00
    scenes: [rain-2000, {name: rain-2100, stages: [one, two]}]
    promise: 2h
    gifts:
      pack:
        stock: 360000
        low_stock: {under: 10%, give: card}
        items:
          - {item: vip, partner: midas, sku: V30, platforms: [android, ios]}
          - {item: web, partner: midas, amount: 8800, currency: CNY, platforms: [web]}
      card: {stock: 90000, items: [{item: coins, partner: points, quantity: 100}]}
  autumn:
    opens: 2027-09-30T23:00:00Z
    closes: 2027-10-01T01:00:00Z
    gifts:
      leaf: {items: [{item: leaf, partner: midas}]}
`

func TestCheckText(t *testing.T) {
	t.Setenv("CHECK_TEST_SECRET", "a-secret-that-nobody-sees")
	file := writeConfig(t, checked)
	code, out, errOut := command(t, "check", file)
	if code != exitDone || errOut != "" {
		t.Errorf("got exit code %d and %q", code, errOut)
	}
	want := file + ` is valid.

Node a keeps its data in ` + dataOf(file) + `; public API on :8080, admin on :8081.
Durability local; queue embedded, guard embedded, ledger sqlite; archive none; reconciles at "7 * * * *" UTC.
Claims from nobody: there is no auth, so only serve --dev runs.

Directories and servers
  data  directory  ok  ` + dataOf(file) + ` will be made

Campaigns
  spring: 2027-02-05 20:00:00 to 20:30:00 +08:00 (30m), promise 2h
    scenes   rain-2000, rain-2100 [one two]
    claims   everyone, 2 in a scene
    gift     pack, stock 360,000; below 36,000 left card instead
             vip: 1 × V30 from midas, on android ios
             web: 1 of 8,800 CNY from midas, on web
    gift     card, stock 90,000
             coins: 100 from points
  autumn: 2027-09-30 23:00:00 to 2027-10-01 01:00:00 +00:00 (2h), promise 48h
    claims   everyone, 1 in a scene
    gift     leaf, stock unlimited
             leaf: 1 from midas

Lanes
  PARTNER  RATE   IN FLIGHT  FULL RATE IF ANSWERED IN  TIMEOUT  RETRIES          BREAKER OPENS                                      IF UNCLEAR
  midas    100/s  20         200ms                     2s       6 over 1h12m36s  at 50% of 20+ calls in 20s, for 15s; slow is 1s    ask
  points   50/s   125        2.5s                      5s       none             at 50% of 20+ calls in 50s, for 15s; slow is 2.5s  repeat

Promises, if the whole stock is claimed at once
  PARTNER  CAMPAIGN  ORDERS     WAITING  TAKES   PROMISE  
  midas    spring    360,000    360,000  1h      2h       kept
  midas    autumn    unlimited  ?        ?       48h      cannot be bounded: a gift has no stock
  points   spring    90,000     90,000   30m     2h       kept

1 warning
` + file + `:31:13: campaigns.autumn.gifts.leaf: has no stock: as many are given as are claimed, and nobody can say when they are delivered
  31 |       leaf: {items: [{item: leaf, partner: midas}]}
     |             ^
     = write stock: and how many there are
`
	if squeeze(out) != squeeze(want) {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

// squeeze makes runs of spaces one, so that a column may be as wide as it is.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.Join(strings.Fields(l), " ")
	}
	return strings.Join(lines, "\n")
}

func TestCheckJSON(t *testing.T) {
	t.Setenv("CHECK_TEST_SECRET", "a-secret-that-nobody-sees")
	code, out, errOut := command(t, "check", "--json", "--config", writeConfig(t, checked))
	if code != exitDone || errOut != "" {
		t.Fatalf("got exit code %d and %q", code, errOut)
	}
	for _, secret := range []string{"nobody-sees", "hunter2"} {
		if strings.Contains(out, secret) {
			t.Errorf("the document shows a secret: %s", out)
		}
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if !r.OK || len(r.Campaigns) != 2 || len(r.Lanes) != 2 || len(r.Promises) != 3 || len(r.Warnings) != 1 {
		t.Errorf("got %s", out)
	}
	want := promiseReport{Partner: "midas", Campaign: "spring", Orders: 360_000, Waiting: 360_000, TakesS: 3600, PromiseS: 7200, Kept: true}
	if got := r.Promises[0]; len(got.With) > 0 || got.TakesS != want.TakesS || got.Orders != want.Orders || got.PromiseS != want.PromiseS || !got.Kept {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCheckBrokenPromise(t *testing.T) {
	t.Setenv("CHECK_TEST_SECRET", "a-secret-that-nobody-sees")
	file := writeConfig(t, strings.Replace(checked, "stock: 360000", "stock: 720001", 1))
	code, out, _ := command(t, "check", file)
	if code != exitWrong {
		t.Errorf("got exit code %d, want %d", code, exitWrong)
	}
	for _, want := range []string{"CANNOT BE KEPT: needs 101/s, less stock, or a promise of 2h", "FAILED: 1 promise cannot be kept."} {
		if !strings.Contains(out, want) {
			t.Errorf("got\n%s\nwithout %q", out, want)
		}
	}
	code, out, _ = command(t, "check", "--json", file)
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitWrong || r.OK || r.Promises[0].Kept || r.Promises[0].Needs != "101/s" {
		t.Errorf("got exit code %d, %v, %s", code, err, out)
	}
}

func TestCheckInvalid(t *testing.T) {
	text := strings.NewReplacer("rate: 100/s", "rate: 100", "sku: V30", "skq: V30").Replace(checked)
	file := writeConfig(t, text)
	code, out, errOut := command(t, "check", file)
	if code != exitWrong || out != "" {
		t.Errorf("got exit code %d and %q", code, out)
	}
	for _, want := range []string{
		file + `:7:11: partners.midas.rate: "100" is no rate`, "     |           ^^^\n", "did you mean 100/s?", "did you mean sku?",
		"the environment has no variable CHECK_TEST_SECRET", file + " is refused: 4 errors",
	} {
		if !strings.Contains(errOut, want) {
			t.Errorf("got\n%s\nwithout %q", errOut, want)
		}
	}
	code, out, errOut = command(t, "check", "--json", file)
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitWrong || errOut != "" || r.OK || len(r.Errors) != 4 || r.Errors[0].Line != 7 {
		t.Errorf("got exit code %d, %v, %s%s", code, err, out, errOut)
	}
}

// What only the adapter finds out has its place in the file too.
func TestCheckBody(t *testing.T) {
	file := writeConfig(t, strings.Replace(checked, `secret: "${CHECK_TEST_SECRET}"
    request: {headers: {Authorization: "Bearer ${CHECK_TEST_SECRET}"}}`, `request:
      body: '{"to": "{{.user}}"}'`, 1))
	code, _, errOut := command(t, "check", file)
	if code != exitWrong || !strings.Contains(errOut, file+":11:13: partners.midas.request.body: ") || !strings.Contains(errOut, "{{json .user}}") {
		t.Errorf("got exit code %d and\n%s", code, errOut)
	}
}

func TestCheckMissing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.yaml")
	code, _, errOut := command(t, "check", file)
	if code != exitWrong || !strings.Contains(errOut, "manna init "+file) {
		t.Errorf("got exit code %d and %q", code, errOut)
	}
	code, out, _ := command(t, "check", "--json", file)
	if code != exitWrong || !json.Valid([]byte(out)) || !strings.Contains(out, "does not exist") {
		t.Errorf("got exit code %d and %q", code, out)
	}
	if code, _, _ := command(t, "check", "a", "b"); code != exitUsage {
		t.Errorf("two files: got exit code %d, want %d", code, exitUsage)
	}
}

// TestCheckDirectories: serve could not work there, and check says so of each key.
func TestCheckDirectories(t *testing.T) {
	t.Setenv("CHECK_TEST_SECRET", "a-secret-that-nobody-sees")
	taken := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	archive := "\narchive: {url: file://" + filepath.ToSlash(taken) + "/archive}"
	file := writeConfig(t, strings.Replace(checked, "data: /srv/manna", "data: "+taken+"/data"+archive, 1))
	code, out, _ := command(t, "check", file)
	if code != exitWrong {
		t.Errorf("got exit code %d, want %d", code, exitWrong)
	}
	for _, want := range []string{"data directory FAILED in " + taken, "name one in data: that this process can write to", "archive directory FAILED", "archive: {url:", "FAILED: data, archive cannot be used now."} {
		if !strings.Contains(squeeze(out), want) {
			t.Errorf("got\n%s\nwithout %q", out, want)
		}
	}
	code, out, _ = command(t, "check", "--json", file)
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitWrong || r.OK || len(r.Engines) != 2 {
		t.Fatalf("got exit code %d, %v, %s", code, err, out)
	}
	for i, key := range []string{"data", "archive"} {
		if v := r.Engines[i]; v.Key != key || v.OK || !strings.Contains(v.Problem, taken) {
			t.Errorf("got %+v, want %s refused", v, key)
		}
	}
	if code, out, _ := command(t, "check", "--offline", file); code != exitDone || strings.Contains(out, "Directories and servers") {
		t.Errorf("offline: got exit code %d and\n%s", code, out)
	}
	file = writeConfig(t, strings.Replace(checked, "data: /srv/manna", "data: /srv/manna\narchive: {url: file:///srv/manna/archive}", 1))
	if code, out, _ := command(t, "check", file); code != exitDone || !strings.Contains(squeeze(out), "archive directory ok file://") {
		t.Errorf("an archive that will be made: got exit code %d and\n%s", code, out)
	}
	if _, err := os.Stat(dataOf(file)); err == nil {
		t.Error("a check makes directories")
	}
}

// What a person should see to is told, and refuses nothing.
func TestCheckNotes(t *testing.T) {
	var b bytes.Buffer
	r := report{Engines: []node.Verdict{{Key: "queue", Engine: "rocketmq", OK: true, Found: "b=1", Notes: []string{"one is away", "so is another"}}}}
	r.printEngines(&b)
	want := " queue rocketmq ok b=1\n note one is away\n note so is another\n"
	if got := squeeze(b.String()); got != squeeze(want) {
		t.Errorf("got\n%s", b.String())
	}
}
