package node

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"manna/breaker"
	"manna/internal/memcache"
	"manna/internal/memcache/memcachetest"
	"manna/internal/notice"
)

// A server that hardly anybody needs opens no breaker; what is noted of it all the same
// ends when its calls succeed.
func TestServerOfAStoreThatFailsIsNoted(t *testing.T) {
	for name, count := range map[string]int{"the only one": 1, "one of three": 3} {
		t.Run(name, func(t *testing.T) {
			var fakes []*memcachetest.Fake
			var addresses []string
			for range count {
				fakes = append(fakes, memcachetest.StartFake(t))
				addresses = append(addresses, fakes[len(fakes)-1].Addr)
			}
			client, err := memcache.New(memcache.Options{Name: "guard", Servers: addresses, Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			key := "k"
			for client.Home(key) != count-1 {
				key += "k"
			}
			s := &store{client: client, name: "guard", means: "claims go on"}
			// A call each second, and two looks.
			second := func() {
				client.Get(t.Context(), key)
				s.look()
				s.look()
			}
			says := func(what, want string) {
				t.Helper()
				if got := s.note(); got != want {
					t.Errorf("%s: it says %q, want %q", what, got, want)
				}
			}
			away := "guard: memcached " + addresses[count-1] + " is away: claims go on"
			says("before the first look", "")
			for range storeLooks {
				second()
			}
			says("while all is well", "")
			fakes[count-1].Fail(func(string, string) memcachetest.Fault { return memcachetest.Lose })
			second()
			says("after one that failed", "")
			second()
			second()
			if breakers := client.Breakers(); breakers[len(breakers)-1].Snapshot().State != breaker.Closed {
				t.Fatal("its breaker is open: not what this is about")
			}
			says("when it is away", away)
			fakes[count-1].Fail(nil)
			for range storeLooks/2 + 1 {
				second()
			}
			says("when it is back", "")

			// Of one that is needed the breaker says so at once.
			fakes[count-1].Fail(func(string, string) memcachetest.Fault { return memcachetest.Lose })
			for err = nil; !errors.Is(err, breaker.ErrOpen); _, err = client.Get(t.Context(), key) {
			}
			says("with its breaker open", away)
			client.Breakers()[0].Hold(breaker.HeldOpen)
			says("held open by a person", "guard: its breaker is open, mode held_open: claims go on")
		})
	}
}

// A breaker that waits for a call that nobody makes is nobody's trouble.
func TestBreakerThatNobodyTriesIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := breaker.New("guard", sendingSettings())
		if err != nil {
			t.Fatal(err)
		}
		is := func(what string, state breaker.State, want bool) {
			t.Helper()
			if s := b.Snapshot(); s.State != state || refuses(s) != want {
				t.Errorf("%s: it is %s, trouble %v; want %s, %v", what, s.State, refuses(s), state, want)
			}
		}
		is("new", breaker.Closed, false)
		for range sendingSettings().MinCalls {
			call, err := b.Allow()
			if err != nil {
				t.Fatal(err)
			}
			call.Done(breaker.Failure)
		}
		is("after failures", breaker.Open, true)
		time.Sleep(sendingSettings().OpenFor + time.Millisecond)
		synctest.Wait()
		is("to be tried", breaker.HalfOpen, true)
		time.Sleep(probedWithin)
		is("not tried for a while", breaker.HalfOpen, false)
	})
}

// A breaker that opens again and again is a few lines; what a person does is one each.
func TestBreakerThatFlapsIsAFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := &said{}
		n := &Node{logger: slog.New(slog.NewJSONHandler(said, nil))}
		settings := breaker.Settings{Window: time.Second, FailureRatio: 0.5, MinCalls: 5, OpenFor: 250 * time.Millisecond, Timeout: 250 * time.Millisecond}
		b, err := breaker.New("quota", settings, breaker.OnChange(newBreakerLog(n.logger).changed))
		if err != nil {
			t.Fatal(err)
		}
		try := func(result breaker.Result) {
			if call, err := b.Allow(); err == nil {
				call.Done(result)
			}
			time.Sleep(settings.OpenFor / 4)
		}
		long := func(result breaker.Result) {
			for range 1000 { // somewhat more than a minute
				try(result)
			}
		}
		long(breaker.Failure)
		if lines := said.lines(t, "breaker"); len(lines) != 1 || lines[0]["state"] != "open" || lines[0]["level"] != "WARN" {
			t.Errorf("of one that stays open: %v", lines)
		}
		long(breaker.Success)
		if lines := said.lines(t, "breaker"); len(lines) != 2 || lines[1]["state"] != "closed" || lines[1]["level"] != "INFO" {
			t.Errorf("when it is closed: %v", lines)
		}
		for range 100 { // each opens it and closes it, and takes almost a second
			for range 7 {
				try(breaker.Failure)
			}
			for b.Snapshot().State != breaker.Closed {
				try(breaker.Success)
			}
		}
		time.Sleep(2 * notice.Every)
		lines := said.lines(t, "breaker")
		if len(lines) < 2+3 || len(lines) > 2+2+30 {
			t.Errorf("%d lines:\n%s", len(lines), said)
		}
		if last := lines[len(lines)-1]; last["state"] != "closed" || last["more"] == nil {
			t.Errorf("the last is %v", last)
		}
		for range 3 {
			b.Hold(breaker.HeldOpen)
			b.Hold(breaker.Automatic)
		}
		if held := said.lines(t, "breaker")[len(lines):]; len(held) != 6 {
			t.Errorf("%d lines of six changes that a person made: %v", len(held), held)
		}
		time.Sleep(2 * notice.Every)
	})
}
