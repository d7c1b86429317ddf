package breaker

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"
)

func TestText(t *testing.T) {
	in := Snapshot{Name: "queue", Mode: HeldClosed, State: HalfOpen, Calls: 3, Failures: 2, Since: time.Unix(0, 0).UTC()}
	text, err := json.Marshal(in)
	if want := `{"name":"queue","mode":"held_closed","state":"half_open","calls":3,"failures":2,"since":"1970-01-01T00:00:00Z"}`; err != nil || string(text) != want {
		t.Errorf("a snapshot reads %s, %v, want %s", text, err, want)
	}
	var out Snapshot
	if err := json.Unmarshal(text, &out); err != nil || out != in {
		t.Errorf("and back: %+v, %v, want %+v", out, err, in)
	}
	if err := new(Mode).UnmarshalText([]byte("open")); err == nil {
		t.Error("\"open\" is taken for a mode")
	}
	if err := new(State).UnmarshalText([]byte("half-open")); err == nil {
		t.Error("\"half-open\" is taken for a state")
	}
	if got, want := Mode(9).String()+" "+State(9).String(), "Mode(9) State(9)"; got != want {
		t.Errorf("unknown values read %s, want %s", got, want)
	}
}

func TestHeldOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		call(t, b, Failure, 3)
		under := begin(t, b)
		b.Hold(HeldOpen)
		stands(t, b, HeldOpen, Open)
		refused(t, b)
		under.Done(Failure)
		time.Sleep(time.Second)
		refused(t, b)
		b.Hold(Automatic)
		stands(t, b, Automatic, Closed)
		counts(t, b, 4, 4)
		call(t, b, Success, 1)
	})
}

// Held open is a lid: beneath it the automatic breaker keeps its own time.
func TestHeldOpenKeepsWhatIsBeneath(t *testing.T) {
	for held, want := range map[time.Duration]State{14 * time.Second: Open, 16 * time.Second: HalfOpen} {
		synctest.Test(t, func(t *testing.T) {
			told := 0
			b := make1(t, usual(), OnChange(func(Snapshot) { told++ }))
			trip(t, b)
			retry := b.Snapshot().RetryAt
			b.Hold(HeldOpen)
			since := b.Snapshot().Since
			if got := b.Snapshot().RetryAt; !got.IsZero() {
				t.Errorf("held open it says RetryAt %v, want none", got)
			}
			time.Sleep(held)
			synctest.Wait()
			refused(t, b)
			if got := b.Snapshot().Since; told != 2 || !got.Equal(since) {
				t.Errorf("OnChange was told %d times and Since is %v, want 2 and %v: what happens beneath is no change", told, got, since)
			}
			b.Hold(Automatic)
			stands(t, b, Automatic, want)
			if want == Open {
				if got := b.Snapshot().RetryAt; !got.Equal(retry) {
					t.Errorf("RetryAt = %v, want %v as before the hold", got, retry)
				}
				return
			}
			call(t, b, Success, 1)
			stands(t, b, Automatic, Closed)
		})
	}
}

func TestHeldClosed(t *testing.T) {
	for name, before := range map[string]func(*testing.T, *Breaker){
		"closed":    func(*testing.T, *Breaker) {},
		"open":      trip,
		"half-open": halfOpen,
		"probe out": func(t *testing.T, b *Breaker) { halfOpen(t, b); begin(t, b) },
		"held open": func(_ *testing.T, b *Breaker) { b.Hold(HeldOpen) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := make1(t, usual())
				before(t, b)
				b.Hold(HeldClosed)
				stands(t, b, HeldClosed, Closed)
				call(t, b, Failure, 100)
				call(t, b, Success, 50)
				time.Sleep(4 * time.Second) // past any lease
				synctest.Wait()
				stands(t, b, HeldClosed, Closed)
				counts(t, b, 150, 100) // a person sees what the calls bring
				under := begin(t, b)
				b.Hold(Automatic)
				stands(t, b, Automatic, Closed)
				counts(t, b, 0, 0)
				under.Done(Failure) // was forced through, too
				call(t, b, Failure, 9)
				stands(t, b, Automatic, Closed)
				call(t, b, Failure, 1)
				stands(t, b, Automatic, Open)
			})
		})
	}
}

func TestHoldAgainChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		b := make1(t, usual(), OnChange(func(Snapshot) { told++ }))
		call(t, b, Failure, 5)
		b.Hold(Automatic)
		b.Hold(HeldClosed)
		call(t, b, Failure, 5)
		b.Hold(HeldClosed)
		counts(t, b, 10, 10)
		if told != 1 {
			t.Errorf("OnChange was called %d times, want 1", told)
		}
	})
}
