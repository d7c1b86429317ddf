package notice

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatComesAndGoesIsALineInAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b output
		c := NewChanging(slog.New(Handler(slog.NewTextHandler(&b, nil))))
		begin := func(n int) { c.Tell(slog.LevelError, "away", "n", n) }
		end := func(n int) { c.Tell(slog.LevelInfo, "back", "n", n) }
		begin(0)
		same(t, "its beginning", b.said(), "level=ERROR msg=away n=0")
		time.Sleep(Every / 2)
		end(0)
		same(t, "its end", b.said(), "level=INFO msg=back n=0")
		for i := range 30 {
			begin(i + 1)
			end(i + 1)
		}
		begin(31)
		same(t, "many", b.said())
		time.Sleep(Every/2 + time.Second)
		synctest.Wait()
		same(t, "at the end of the interval", b.said(), "level=ERROR msg=away more=61 within=10s n=31")
		begin(32)
		end(32)
		same(t, "within the next", b.said())
		time.Sleep(Every)
		synctest.Wait()
		same(t, "over at its end", b.said(), "level=INFO msg=back more=2 within=10s n=32")
		time.Sleep(10 * Every)
		synctest.Wait()
		same(t, "nothing has changed since", b.said())
		begin(33)
		end(33)
		same(t, "after quiet ones", b.said(), "level=ERROR msg=away n=33", "level=INFO msg=back n=33")
		time.Sleep(Every)
	})
}

func TestEachChangeIsThereInDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b output
		c := NewChanging(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
		for range changesAtOnce + 1 {
			c.Tell(slog.LevelWarn, "m")
		}
		same(t, "lines", b.said(), "level=WARN msg=m", "level=WARN msg=m", "level=DEBUG msg=m")
		time.Sleep(2 * Every)
	})
}

func TestWhatAPersonDidIsTheLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b output
		c := NewChanging(slog.New(slog.NewTextHandler(&b, nil)))
		for n := range changesAtOnce + 1 {
			c.Tell(slog.LevelWarn, "open", "n", n)
		}
		same(t, "before", b.said(), "level=WARN msg=open n=0", "level=WARN msg=open n=1")
		c.TellNow(slog.LevelInfo, "held")
		same(t, "at once", b.said(), "level=INFO msg=held")
		time.Sleep(2 * Every)
		synctest.Wait()
		same(t, "afterwards", b.said())
	})
}
