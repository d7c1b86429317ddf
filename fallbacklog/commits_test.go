package fallbacklog_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"manna/fallbacklog"
)

// A commit lets those join who are about to append, and waits for nobody else.
func TestACommitWaitsForNobodyWhoIsNotThere(t *testing.T) {
	l, err := fallbacklog.Open(fallbacklog.Options{Dir: t.TempDir(), Node: "a", Linger: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Append(t.Context(), claimRecord("alone")); err != nil {
		t.Error(err)
	}
	const goroutines, each = 32, 20
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				if err := l.Append(t.Context(), claimRecord(fmt.Sprint(g, "-", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r := l.Reader(0)
	defer r.Close()
	got := 0
	for ; ; got++ {
		if _, err := r.TryNext(); err != nil {
			break
		}
	}
	if want := 1 + goroutines*each; got != want {
		t.Errorf("%d records are read back, want %d", got, want)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
