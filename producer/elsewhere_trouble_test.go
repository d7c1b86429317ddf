package producer

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"manna/gift"
	"manna/internal/disk/crashdisk"
	"manna/internal/notice"
)

// What a front says of a ledger that was away ends when that does, also where nobody reads
// another node's claim since; and one that comes and goes is a line or two.
func TestLedgerThatIsBackIsNoTrouble(t *testing.T) {
	for name, unserved := range map[string]bool{"served": false, "unserved": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				books, said := newBooks(), &output{}
				f := openNode(t, "b", crashdisk.New(1), "/data", func(o *Options) {
					o.Elsewhere, o.Unserved = books, unserved
					o.Logger = slog.New(slog.NewTextHandler(said, nil))
				})
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- f.Run(ctx) }()
				read := func() { f.call("GET", "/v1/claims/"+gift.ClaimID{7}.String(), "") }
				books.is(errLedger, false)
				read()
				time.Sleep(time.Minute)
				synctest.Wait()
				want(t, "notes while it is away", len(f.Notes()), 1)
				books.is(nil, false)
				time.Sleep(probeEvery + time.Millisecond)
				synctest.Wait()
				want(t, "notes when it is back", len(f.Notes()), 0)
				want(t, "lines", said.count("level="), 2)
				calls := books.calls.Load()
				time.Sleep(time.Minute)
				want(t, "calls of one that answers", books.calls.Load(), calls)
				for i := range 60 {
					books.is([]error{errLedger, nil}[i%2], false)
					read()
					time.Sleep(restFor)
				}
				time.Sleep(notice.Every)
				synctest.Wait()
				if lines := said.count("level="); lines > 2+2+4 || said.last("level=INFO") != said.last("level=") {
					t.Errorf("%d lines, and the last is %s", lines, said.last("level="))
				}
				stop()
				want(t, "how it ended", <-ended, nil)
			})
		})
	}
}

// Who could change it before the line is written could also tell that first.
func TestLedgerDoesNotChangeWhileItIsTold(t *testing.T) {
	var o *outside
	lines := 0
	o = newOutside(&books{}, slog.New(slog.NewTextHandler(during(func() {
		if lines++; o.mu.TryLock() {
			o.mu.Unlock()
			t.Error("it may change while a line is written")
		}
	}), nil)))
	o.note(errLedger)
	o.note(nil)
	want(t, "lines of two changes", lines, 2)
}

// during is where lines go to: it is called while one is written.
type during func()

func (d during) Write(p []byte) (int, error) {
	d()
	return len(p), nil
}

// output is what is logged.
type output struct {
	mu    sync.Mutex
	lines []string
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, string(p))
	return len(p), nil
}

// count and last are of the lines with a text.
func (o *output) count(text string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range o.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (o *output) last(text string) (last string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range o.lines {
		if strings.Contains(line, text) {
			last = line
		}
	}
	return last
}
