package reconcile

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"manna/internal/disk"
	"manna/ledger"
)

func contentOf(t *testing.T, d disk.Disk, path string) string {
	t.Helper()
	f, err := d.OpenRead(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		t.Fatal(err)
	}
	return string(b)
}

// The report says of each node how far its log was there, and as of when orders
// were judged: for people, and for programs.
func TestTheReportShowsHowFarEachLogWas(t *testing.T) {
	f := newFleet(t, "a", "b", "gone", "left-long-ago", "silent")
	defer f.close()
	f.claim("b", "ana")
	f.feed("b")
	f.arrive("b", "gone", "left-long-ago")
	f.registry.set(ledger.Node{Name: "left-long-ago", State: ledger.NodeLeft, LogEnd: f.nodes["left-long-ago"].log.End(), Seen: f.at})
	f.registry.set(ledger.Node{Name: "gone", State: ledger.NodeRetired})
	f.registry.set(ledger.Node{Name: "silent", State: ledger.NodeRetired})
	f.pass(30 * time.Minute)
	f.look()
	f.pass(37*time.Minute + 500*time.Millisecond)
	f.arrive("b")
	f.run(ten)
	text := contentOf(t, f.disk, "reports/a/2027-02-05T22.txt")
	want := `Logs of 4 nodes, judged by the lanes as they were at 2027-02-05 22:30:
  a              here
  b              up to 2027-02-05 23:07
  gone           up to 2027-02-05 22:00; the node is retired
  left-long-ago  all of it; the node has left
`
	if !strings.Contains(text, want) {
		t.Errorf("the text reads\n%s\nwant in it\n%s", text, want)
	}
	var doc struct {
		AsOf  time.Time `json:"as_of"`
		Nodes []map[string]any
	}
	if err := json.Unmarshal([]byte(contentOf(t, f.disk, "reports/a/2027-02-05T22.json")), &doc); err != nil {
		t.Fatal(err)
	}
	if want := ten.From.Add(30 * time.Minute); !doc.AsOf.Equal(want) || len(doc.Nodes) != 4 {
		t.Fatalf("as of %v, nodes %+v", doc.AsOf, doc.Nodes)
	}
	for i, want := range []map[string]any{
		{"node": "a", "state": "here", "as_of": "2027-02-05T23:07:00.5Z"},
		{"node": "b", "state": "arrived", "as_of": "2027-02-05T23:07:00.5Z", "heard": "2027-02-05T23:07:00.5Z"},
		{"node": "gone", "state": "retired", "as_of": "2027-02-05T22:00:00Z", "heard": "2027-02-05T22:00:00Z"},
		{"node": "left-long-ago", "state": "left", "as_of": "2027-02-05T22:00:00Z", "heard": "2027-02-05T22:00:00Z"},
	} {
		got, _ := json.Marshal(doc.Nodes[i])
		if want, _ := json.Marshal(want); string(got) != string(want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}

	f.registry.set(ledger.Node{Name: "silent", State: ledger.NodeUp})
	f.run(ten)
	text = contentOf(t, f.disk, "reports/a/2027-02-05T22.txt")
	for _, want := range []string{
		"Reconciliation 2027-02-05T22: INCOMPLETE\n",
		"Logs of 5 nodes, as of no moment that all of them bear out, so that nothing is known to be missing:\n",
		"  silent         NOT THERE\n",
		"  ! node silent: it has no log in the archive: see that it runs",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	t.Log("\n" + text)
	if doc := contentOf(t, f.disk, "reports/a/2027-02-05T22.json"); !strings.Contains(doc, `"state": "absent",`) || !strings.Contains(doc, `"why": "it has no log in the archive"`) {
		t.Errorf("the document reads\n%s", doc)
	}
}

// The report over one log has nothing of this.
func TestAReportOverOneLogNamesNoNodes(t *testing.T) {
	w := newWorld(t, nil)
	w.granted("u", eight)
	report := w.run(Slot(eight))
	for _, ending := range []string{textEnding, jsonEnding} {
		got := contentOf(t, disk.OS{}, filepath.Join(w.opts.Dir, report.Run+ending))
		if strings.Contains(got, "nodes") || strings.Contains(got, "as_of") {
			t.Errorf("the report reads\n%s", got)
		}
	}
}
