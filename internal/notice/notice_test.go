package notice

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// output is what was written, by whichever goroutine.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// said gives the lines written since it was asked last, without their time.
func (o *output) said() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var lines []string
	for line := range strings.Lines(o.b.String()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
		lines = append(lines, line)
	}
	o.b.Reset()
	return lines
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// secretly stands for a value that has a form of its own.
type secretly struct{}

func (secretly) LogValue() slog.Value {
	return slog.GroupValue(slog.Duration("age", time.Minute), slog.Time("never", time.Time{}))
}

func TestEveryLineHasOneForm(t *testing.T) {
	at := time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC)
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	var b bytes.Buffer
	log := slog.New(Handler(slog.NewJSONHandler(&b, &slog.HandlerOptions{ReplaceAttr: drop})))
	log.Info("two\n  lines", "retry_at", time.Time{}, "at", at, "pause", 1500*time.Millisecond,
		"err", errors.Join(errors.New("one"), fmt.Errorf("two\r\n = do this")), "text", "a\n\nb", "n", 7, "never", &time.Time{}, "v", secretly{})
	log.With("since", time.Time{}, "within", time.Second).WithGroup("g").Warn("m", "d", time.Hour)
	want := `{"level":"INFO","msg":"two; lines","at":"2027-02-05T12:00:00Z","pause":"1.5s","err":"one; two; = do this","text":"a; b","n":7,"v":{"age":"1m0s"}}
{"level":"WARN","msg":"m","within":"1s","g":{"d":"1h0m0s"}}
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if log.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("a level that the handler does not write is enabled")
	}
}

func TestManyOfALineAreOneInAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b output
		r := NewRepeated(slog.New(Handler(slog.NewTextHandler(&b, nil))), slog.LevelWarn, "order parked")
		for i := range 1000 {
			r.Tell("order", i)
		}
		same(t, "at once", b.said(), `level=WARN msg="order parked" order=0`)
		time.Sleep(Every + time.Second)
		synctest.Wait()
		same(t, "at the end of the interval", b.said(), `level=WARN msg="order parked" more=999 within=10s order=999`)
		r.Tell("order", 1000)
		same(t, "within the next", b.said())
		time.Sleep(Every)
		synctest.Wait()
		same(t, "at its end", b.said(), `level=WARN msg="order parked" more=1 within=10s order=1000`)
		time.Sleep(Every)
		synctest.Wait()
		same(t, "at the end of a quiet one", b.said())
		r.Tell("order", 1001)
		same(t, "a first one again", b.said(), `level=WARN msg="order parked" order=1001`)
	})
}

func TestEachIsThereInDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b output
		r := NewRepeated(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})), slog.LevelWarn, "m")
		r.Tell("order", 1)
		r.Tell("order", 2)
		same(t, "two", b.said(), `level=WARN msg=m order=1`, `level=DEBUG msg=m order=2`)
	})
}

func TestNoneIsLostOfManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b output
		r := NewRepeated(slog.New(slog.NewTextHandler(&b, nil)), slog.LevelWarn, "m")
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				for range 100 {
					r.Tell()
				}
			})
		}
		all.Wait()
		time.Sleep(Every)
		synctest.Wait()
		same(t, "lines", b.said(), "level=WARN msg=m", "level=WARN msg=m more=4999 within=10s")
	})
}
