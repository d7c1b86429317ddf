package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"manna/breaker"
	"manna/console"
	"manna/fallbacklog"
	"manna/ledger"
)

// board is a ledger that has what was set on other nodes.
type board struct {
	ledger.Cluster
	set []ledger.Switch
	err error
}

func (b *board) Switches(context.Context) ([]ledger.Switch, error) { return b.set, b.err }

func TestSwitchesOfOtherNodes(t *testing.T) {
	const unset = "a switch that was set on another node cannot be set here; it is tried again"
	const unread = "the switches that are set on other nodes cannot be read; it is tried again"
	at := func(name, mode string) ledger.Switch {
		return ledger.Switch{Switch: fallbacklog.Switch{Name: name, Mode: mode, Who: "ana", Why: "a drill"}, Time: time.Now(), Node: "b"}
	}
	for name, c := range map[string]struct {
		board func() *board
		said  map[string]int // lines in half a minute
		mode  breaker.Mode
	}{
		"one is taken over": {func() *board {
			return &board{set: []ledger.Switch{at("partner/p", "held_open"), at("partner/other", "held_open")}}
		},
			map[string]int{"switch was set on another node": 1}, breaker.HeldOpen},
		"one cannot be set":  {func() *board { return &board{set: []ledger.Switch{at("partner/p", "ajar")}} }, map[string]int{unset: 3}, breaker.Automatic},
		"the ledger is away": {func() *board { return &board{err: fmt.Errorf("%w: refused", ledger.ErrUnavailable)} }, nil, breaker.Automatic},
		"the ledger refuses": {func() *board { return &board{err: errors.New("permission denied")} }, map[string]int{unread: 3}, breaker.Automatic},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				said := &said{}
				logger := slog.New(slog.NewJSONHandler(said, nil))
				log, err := fallbacklog.Open(fallbacklog.Options{Dir: t.TempDir(), Node: "a"})
				if err != nil {
					t.Fatal(err)
				}
				defer log.Close()
				b, err := breaker.New("partner/p", sendingSettings())
				if err != nil {
					t.Fatal(err)
				}
				n := &Node{logger: logger, log: log, shared: c.board(), switches: console.NewSwitches(log, nil)}
				if err := n.breakers.Add(b); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 29500*time.Millisecond)
				defer cancel()
				if err := n.watchSwitches(ctx); err != nil {
					t.Fatal(err)
				}
				for _, message := range []string{"switch was set on another node", unset, unread} {
					if got := len(said.lines(t, message)); got != c.said[message] {
						t.Errorf("%d lines say %q, want %d", got, message, c.said[message])
					}
				}
				if got := b.Snapshot().Mode; got != c.mode {
					t.Errorf("the switch is %v, want %v", got, c.mode)
				}
				time.Sleep(time.Minute) // the last line's interval ends
			})
		})
	}
}
