package ledgertest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/ledger"
)

func pagesOfClaims(t *testing.T, e Engine) {
	l := open(t, e, "a", time.Now)
	var recs []*fallbacklog.Record
	for i := range 60 {
		// Several at one moment, so that pages end among equal times.
		recs = append(recs, claim("ann", fmt.Sprint("rain-", i), start().Add(time.Duration(i/4)*time.Second)))
		recs = append(recs, claim("bob", fmt.Sprint("rain-", i), start()))
	}
	ok(t, l.Apply(t.Context(), batch("a", 0, recs...)))
	want := rowsOf("a", recs)
	for _, limit := range []int{1, 3, 4, 59, 60, 61} {
		equal(t, fmt.Sprint("claims in pages of ", limit), allClaims(t, l, "ann", limit), want["ann"])
	}
	none, asOf, next, err := l.UserClaims(t.Context(), "nobody", ledger.Cursor{}, 0)
	ok(t, err)
	if len(none) > 0 || !next.IsZero() || !asOf.Equal(recs[len(recs)-2].Time) {
		t.Fatalf("claims of nobody: %v, next %v, as of %v", none, next, asOf)
	}
}

func strangeUsers(t *testing.T, e Engine) {
	l := open(t, e, "a", time.Now)
	users := []string{"a", "A", "a ", "'; DROP TABLE claims; --", `"`, "%", "_", "\\", "ä", "a\u0308", "用户", "🎁", "?1", strings.Repeat("é", 64), strings.Repeat("x", 128)}
	var recs []*fallbacklog.Record
	for _, u := range users {
		recs = append(recs, claim(u, "rain", start()))
	}
	ok(t, l.Apply(t.Context(), batch("a", 0, recs...)))
	want := rowsOf("a", recs)
	if len(want) != len(users) {
		t.Fatalf("%d users in the test, want %d", len(want), len(users))
	}
	equalClaims(t, l, want)
}

func repeatedClaims(t *testing.T, e Engine) {
	l := open(t, e, "a", time.Now)
	early, late := start(), start().Add(time.Minute)
	// In one log the first record counts, whatever the clock said.
	ok(t, l.Apply(t.Context(), batch("a", 0, claim("ann", "one", late), claim("ann", "one", early), claim("ann", "two", late))))
	ok(t, l.Apply(t.Context(), batch("a", 3, claim("ann", "one", early))))
	// Of several logs the earliest counts.
	ok(t, l.Apply(t.Context(), batch("b", 0, claim("ann", "two", early), claim("ann", "one", late.Add(1)))))
	for limit := 1; limit <= 3; limit++ {
		var got []string
		for _, c := range allClaims(t, l, "ann", limit) {
			got = append(got, fmt.Sprint(c.Scene, " ", c.Node, " ", c.At, " ", c.ClaimedAt.Sub(start())))
		}
		equal(t, "claims", got, []string{"one a 0:0 1m0s", "two b 0:0 0s"})
	}
}

func strangeCursors(t *testing.T, e Engine) {
	l := open(t, e, "a", time.Now)
	_, _, _, err := l.UserClaims(t.Context(), "ann", ledger.Cursor{Time: start(), Key: "log/1"}, 1)
	wantErr(t, err, ledger.ErrCursor)
	for _, s := range []string{"x", "12", "12~", "~a", "1e9~a", "12~" + strings.Repeat("a", 300)} {
		_, err := ledger.ParseCursor(s)
		wantErr(t, err, ledger.ErrCursor)
	}
}

func switches(t *testing.T, e Engine) {
	l := open(t, e, "a", time.Now)
	none, err := l.Switches(t.Context())
	ok(t, err)
	equal(t, "switches of an empty ledger", len(none), 0)
	at := start()
	ok(t, l.Apply(t.Context(), batch("a", 0,
		switched("queue", "held_open", at.Add(time.Hour)), // the clock was wrong, the log's order is not
		switched("partner/midas", "held_open", at),
		switched("queue", "automatic", at.Add(time.Second)))))
	ok(t, l.Apply(t.Context(), batch("b", 0,
		switched("partner/midas", "held_closed", at.Add(time.Minute)),
		switched("queue", "held_closed", at))))
	got, err := l.Switches(t.Context())
	ok(t, err)
	var lines []string
	for _, s := range got {
		lines = append(lines, fmt.Sprint(s.Name, " ", s.Mode, " ", s.Who, " ", s.Why, " ", s.Node, " ", s.Time.Sub(at)))
	}
	equal(t, "switches", lines, []string{"partner/midas held_closed ana drill b 1m0s", "queue automatic ana drill a 1s"})
	// Every change is in the audit, the newest first.
	entries, next, err := l.AuditLog(t.Context(), ledger.AuditFilter{Action: ledger.ActionSwitch, Target: "queue"}, 0)
	ok(t, err)
	lines = nil
	for _, e := range entries {
		lines = append(lines, fmt.Sprint(e.Who, " ", e.Action, " ", e.Target, " ", e.Detail, " ", e.Node))
	}
	equal(t, "audit", lines, []string{"ana switch queue held_open: drill a", "ana switch queue automatic: drill a", "ana switch queue held_closed: drill b"})
	equal(t, "cursor behind the last entry", next, ledger.Cursor{})
}

func movedBatch(t *testing.T, e Engine) {
	l := e.Open(t, "a", time.Now)
	ok(t, l.Apply(t.Context(), batch("a", 0, claim("ann", "one", start()))))
	for _, from := range []fallbacklog.Position{0, 2, 1 << 40} {
		wantErr(t, l.Apply(t.Context(), batch("a", from, claim("ann", "two", start()), switched("queue", "held_open", start()))), ledger.ErrMoved)
	}
	check := func() {
		t.Helper()
		at, err := l.Position(t.Context(), "a")
		ok(t, err)
		equal(t, "position", at, 1)
		equal(t, "claims", len(allClaims(t, l, "ann", 10)), 1)
		s, err := l.Switches(t.Context())
		ok(t, err)
		equal(t, "switches", len(s), 0)
	}
	check()
	place, err := l.Place(t.Context(), "a")
	ok(t, err)
	ok(t, l.Close())
	l = open(t, e, "a", time.Now)
	check()
	again, err := l.Place(t.Context(), "a")
	ok(t, err)
	equal(t, "place after reopening", again, place)
	rec := claim("ann", "one", start())
	equal(t, "mark", again.Mark, ledger.MarkOf(rec))
	nowhere, err := l.Place(t.Context(), "nobody")
	ok(t, err)
	equal(t, "place of an unknown node", nowhere, ledger.Place{})
}

func oldestTime(t *testing.T, e Engine) {
	l := open(t, e, "a", time.Now)
	asOf := func() time.Time {
		t.Helper()
		_, asOf, _, err := l.UserClaims(t.Context(), "ann", ledger.Cursor{}, 1)
		ok(t, err)
		return asOf
	}
	equal(t, "as of, of an empty ledger", asOf(), time.Time{})
	ok(t, l.Apply(t.Context(), batch("a", 0, claim("ann", "one", start()))))
	ok(t, l.Apply(t.Context(), batch("b", 0, claim("ann", "two", start().Add(time.Minute)))))
	equal(t, "as of", asOf(), start())
	ok(t, l.Seen(t.Context(), "a", start().Add(time.Hour)))
	equal(t, "as of", asOf(), start().Add(time.Minute))
}

func resetOne(t *testing.T, e Engine) {
	l := open(t, e, "a", time.Now)
	b := []*fallbacklog.Record{claim("ann", "one", start().Add(time.Minute)), switched("queue", "held_closed", start())}
	ok(t, l.Apply(t.Context(), batch("a", 0, claim("ann", "one", start()), claim("ann", "two", start()), switched("queue", "held_open", start().Add(1)))))
	ok(t, l.Apply(t.Context(), batch("b", 0, b...)))
	ok(t, l.Reset(t.Context(), "a"))
	equalClaims(t, l, rowsOf("b", b))
	s, err := l.Switches(t.Context())
	ok(t, err)
	if len(s) != 1 || s[0].Mode != "held_closed" {
		t.Fatalf("switches %v, want b's", s)
	}
	for node, want := range map[string]fallbacklog.Position{"a": 0, "b": 2} {
		at, err := l.Position(t.Context(), node)
		ok(t, err)
		equal(t, "position of "+node, at, want)
	}
	ok(t, l.Reset(t.Context(), "b"))
	equal(t, "claims after both were reset", len(allClaims(t, l, "ann", 10)), 0)
}

func closed(t *testing.T, e Engine) {
	l := e.Open(t, "a", time.Now)
	ok(t, l.Ping(t.Context()))
	ok(t, l.Close())
	if err := l.Ping(t.Context()); err == nil {
		t.Fatal("a closed ledger answers")
	}
	if err := l.Apply(t.Context(), batch("a", 0)); err == nil {
		t.Fatal("a closed ledger takes a batch")
	}
}
