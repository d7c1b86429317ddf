package demo

import (
	"errors"
	"strings"
	"testing"
	"time"

	"manna/internal/promises"
	"manna/reconcile"
)

func exampleResult() *Result {
	return &Result{
		Verdict: promises.Verdict{
			Claims: 800, Orders: 1000,
			Partners: []promises.Partner{{Partner: "good", Rate: 25, Granted: 790, Books: 791, PeakPerSecond: 26}},
			Promises: []promises.Promise{
				{Number: 1, Name: "accepted means delivered", Kept: true, Detail: "none lost"},
				{Number: 2, Name: "one claim, one gift", Detail: "1 doubled"},
			},
			Examples: []string{"order 1 stands twice in the books of good"},
		},
		Duplicates: 200, Requests: 1003, Kills: 1, Seed: 7, AcceptS: 14.2, ElapsedS: 48.7,
		Reconcile: &reconcile.Report{Expected: 1000, Actual: 988, Classes: reconcile.Counts{Refused: 8, Parked: 3, Missing: 1}, Reissued: 1},
	}
}

func TestText(t *testing.T) {
	var b strings.Builder
	if err := exampleResult().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `
1003 requests: 800 claims with 1000 orders accepted, 200 answered as duplicates, in 14 s; all delivered after 49 s
1 SIGKILLs were survived

partner      rate   log: granted  books: orders     peak/s
good         25/s            790            791         26

reconciliation: expected 1000, actual 988, in flight 0, refused 8, parked 3, missing 1, reissued 1

✓ 1. accepted means delivered: none lost
✗ 2. one claim, one gift: 1 doubled
    order 1 stands twice in the books of good
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestTextNamesWhatIsKept(t *testing.T) {
	r := exampleResult()
	r.KeptIn = "look"
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if want := "everything is kept in look: try manna log cat --dir look/data/log --kind parked\n"; !strings.HasSuffix(b.String(), want) {
		t.Errorf("got\n%s\nwithout %q at its end", b.String(), want)
	}
}

type fullDisk struct{}

var errFull = errors.New("no space left")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestTextReportsAFailedWrite(t *testing.T) {
	if err := exampleResult().WriteText(fullDisk{}); !errors.Is(err, errFull) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

// A document must not name files that went with the demo's directory.
func TestResultNamesReportsOnlyWhereTheyAreKept(t *testing.T) {
	for keep, want := range map[string]string{"": "", "look": "look/data/reports/all"} {
		r := &run{Options: Options{Claims: 100, Keep: keep, Seed: 7}, plan: newPlan(100, 7), books: &server{name: "data"}, began: time.Now()}
		r.crowd = newCrowd(r.plan, []string{"http://127.0.0.1:1"})
		got := r.result(&promises.Verdict{}, reconcile.Report{Expected: 5, Files: "look/data/reports/all"}, time.Second)
		if got.Reconcile.Files != want || got.KeptIn != keep || got.Reconcile.Expected != 5 {
			t.Errorf("kept in %q: the document names %q and %q", keep, got.Reconcile.Files, got.KeptIn)
		}
	}
}
