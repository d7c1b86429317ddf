package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/disk/crashdisk"
)

func TestTheDocumentHasTheNamesThatOthersRead(t *testing.T) {
	w := newWorld(t, nil)
	w.granted("u", eight)
	w.claim("lost", eight)
	report := w.run(Slot(eight))
	b, err := os.ReadFile(filepath.Join(w.opts.Dir, "2027-02-05T20.json"))
	w.must(err)
	var doc map[string]any
	w.must(json.Unmarshal(b, &doc))
	for _, name := range []string{"run", "from", "to", "complete", "incomplete", "expected", "actual", "in_flight", "reissued", "classes", "discrepancies"} {
		if doc[name] == nil {
			t.Errorf("%q is missing or null", name)
		}
	}
	classes, _ := doc["classes"].(map[string]any)
	for class := Unexpected; class <= Matched; class++ {
		if _, ok := classes[class.String()]; !ok {
			t.Errorf("class %v is missing", class)
		}
	}
	if len(classes) != int(Matched) {
		t.Errorf("there are %d classes, want %d", len(classes), int(Matched))
	}
	first := doc["discrepancies"].([]any)[0].(map[string]any)
	for _, name := range []string{"id", "class", "order_id", "partner", "age_s", "amount"} {
		if first[name] == nil {
			t.Errorf("a discrepancy has no %q", name)
		}
	}
	if doc["run"] != "2027-02-05T20" || doc["from"] != "2027-02-05T20:00:00Z" || doc["to"] != "2027-02-05T21:00:00Z" || first["class"] != "missing" {
		t.Errorf("the document reads\n%s", b)
	}
	again, err := ReadReport(disk.OS{}, w.opts.Dir, report.Run)
	w.must(err)
	if again.Classes != report.Classes || again.Discrepancies[0].ID != report.Discrepancies[0].ID {
		t.Errorf("read back:\n got %+v\nwant %+v", again, report)
	}
	runs, err := ListReports(disk.OS{}, w.opts.Dir)
	w.must(err)
	if len(runs) != 1 || runs[0] != report.Run {
		t.Errorf("the reports are %v", runs)
	}
	if _, err := ReadReport(disk.OS{}, w.opts.Dir, "../reports/2027-02-05T20"); !errors.Is(err, ErrNoReport) {
		t.Errorf("got %v, want ErrNoReport", err)
	}
}

func TestABreakKeepsItsID(t *testing.T) {
	id := newClaim("u", eight).Claim.Orders[0].ID
	if got, want := discrepancyID(Missing, id), discrepancyID(Missing, id); got != want || len(got) != 16 {
		t.Fatalf("got %q and %q", got, want)
	}
	if discrepancyID(Missing, id) == discrepancyID(InDoubt, id) || discrepancyID(Missing, id) == discrepancyID(Missing, gift.OrderID{}) {
		t.Fatal("other breaks have the same id")
	}
}

func TestTheText(t *testing.T) {
	w := newWorld(t, nil)
	for _, user := range users(30) {
		w.granted(user, eight)
	}
	c := w.claim("mismatched", eight)
	w.append(about(c, fallbacklog.Granted, eight, fallbacklog.Event{Amount: 5, Reference: "R"}))
	for _, user := range []string{"x", "y"} {
		w.append(about(newClaim(user, eight), fallbacklog.Granted, eight, fallbacklog.Event{Reference: "R"}))
	}
	w.claim("lost", eight)
	w.run(Slot(eight))
	b, err := os.ReadFile(filepath.Join(w.opts.Dir, "2027-02-05T20.txt"))
	w.must(err)
	text := string(b)
	for _, want := range []string{
		"Reconciliation 2027-02-05T20: complete\n",
		"Orders claimed 2027-02-05 20:00 to 2027-02-05 21:00 UTC; taken 2027-02-05 22:00:00 in ",
		"  expected                 32\n",
		"  actual                   31  ██████████████████████████████████████▊   96.9 %\n",
		"  expected − actual − in flight − refused − parked = 1 (missing 1, unknown 0)\n",
		"  reissued 1; gate open: 0 first deliveries wait in the lanes, under 100000\n",
		"  ALARM: 2 granted without a claim, 0 granted more than once\n",
		"  4 discrepancies:\n",
		"990 claimed, 5 granted",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "DOES NOT ADD UP") {
		t.Errorf("the text doubts its own figures:\n%s", text)
	}
	for line := range strings.Lines(text) {
		if strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
			t.Errorf("blanks at the end of %q", line)
		}
	}
	t.Log("\n" + text)
}

func TestFiguresForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", math.MaxInt64: "9,223,372,036,854,775,807"} {
		if got := grouped(n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, c := range []struct {
		n, all int64
		want   string
	}{{0, 10, "    "}, {10, 10, "████"}, {5, 10, "██  "}, {1, 1 << 40, "▏   "}, {1, 0, "    "}, {20, 10, "████"}} {
		if got := meter(c.n, c.all, 4); got != c.want || utf8.RuneCountInString(got) != 4 {
			t.Errorf("%d of %d: got %q, want %q", c.n, c.all, got, c.want)
		}
	}
}

func TestMetricsTellTheLastRun(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(o *Options) { o.Metrics = registry })
	w.claim("lost", eight)
	w.append(about(newClaim("stranger", eight), fallbacklog.Granted, eight, fallbacklog.Event{Reference: "R"}))
	w.run(Slot(eight))
	families, err := registry.Gather()
	w.must(err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += "/" + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"manna_reconcile_last_success_timestamp_seconds": float64(w.now().Unix()),
		"manna_reconcile_orders/missing":                 1, "manna_reconcile_orders/unexpected": 1, "manna_reconcile_orders/matched": 0,
		"manna_reconcile_alarms_total/unexpected": 1, "manna_reconcile_alarms_total/duplicate": 0,
		"manna_reconcile_reissued_total": 1, "manna_reconcile_failures_total": 0,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v (there: %v), want %v", name, value, ok, want)
		}
	}
	// A second reconciler may follow the first on the same registry.
	w.rec.Close()
	if w.rec, err = New(w.opts); err != nil {
		t.Fatal(err)
	}
}

func TestAReportIsThereWholeOrNotAtAll(t *testing.T) {
	d := crashdisk.New(7)
	if err := cleanReports(d, "/reports"); err != nil {
		t.Fatal(err)
	}
	write := func(d disk.Disk, expected int64) error {
		f, err := createReport(d, "/reports", "2027-02-05T20")
		if err != nil {
			return err
		}
		defer f.abandon()
		if _, err := fmt.Fprintln(f.lines, expected); err != nil {
			return err
		}
		return f.commit(&Report{Run: "2027-02-05T20", Expected: expected, Taken: time.Unix(0, 0)})
	}
	if err := write(d, 1); err != nil {
		t.Fatal(err)
	}
	// Every write, sync and rename of the second one fails in turn, and the power
	// goes with it.
	for _, op := range []crashdisk.Op{crashdisk.OpWrite, crashdisk.OpSync, crashdisk.OpRename, crashdisk.OpSyncDir} {
		for n := 1; n <= 4; n++ {
			copied := d.Kill()
			copied.FailAt(op, n, errors.New("broken"), false)
			err := write(copied, 2)
			after := copied.Crash(0.5)
			report, readErr := ReadReport(after, "/reports", "2027-02-05T20")
			if readErr != nil {
				t.Fatalf("%v %d: there is no report: %v", op, n, readErr)
			}
			if err == nil && report.Expected != 2 || report.Expected != 1 && report.Expected != 2 {
				t.Fatalf("%v %d: the report expects %d after %v", op, n, report.Expected, err)
			}
			lines, readErr := after.OpenRead("/reports/2027-02-05T20.ndjson")
			if readErr != nil {
				t.Fatalf("%v %d: there are no lines: %v", op, n, readErr)
			}
			var first [1]byte
			if _, err := lines.ReadAt(first[:], 0); err != nil || int64(first[0]-'0') < report.Expected {
				t.Fatalf("%v %d: the lines are of look %q, the report of look %d", op, n, first, report.Expected)
			}
			lines.Close()
			if err := cleanReports(after, "/reports"); err != nil {
				t.Fatal(err)
			}
			names, err := after.List("/reports")
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if strings.HasSuffix(name, tempEnding) {
					t.Fatalf("%v %d: %s was left behind", op, n, name)
				}
			}
			if err := write(after, 3); err != nil {
				t.Fatalf("%v %d: the next report: %v", op, n, err)
			}
		}
	}
}
