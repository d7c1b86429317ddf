package ledgertest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"manna/ledger"
)

func nodeNames(t *testing.T, o Opener) {
	c := newClock()
	l := o.open(t, "a", c.now)
	ctx := t.Context()
	first := join(t, l, "a")
	c.advance(240 * time.Hour)
	twin := ledger.Process{Node: "a", Home: "another-disk", Address: "elsewhere:8081"}
	_, err := l.Join(ctx, twin)
	wantErr(t, err, ledger.ErrNodeTaken)
	if s := err.Error(); !strings.Contains(s, "a:8081") || !strings.Contains(s, "disk-of-a") || !strings.Contains(s, "lost") {
		t.Fatalf("the error names neither the other nor the remedy: %v", err)
	}
	ok(t, l.Beat(ctx, first, 5)) // the first goes on

	// A new process at the same home is the node, and the one before is fenced.
	second := join(t, l, "a")
	if second.Epoch <= first.Epoch {
		t.Fatalf("epoch %d after %d", second.Epoch, first.Epoch)
	}
	wantErr(t, l.Beat(ctx, first, 6), ledger.ErrFenced)
	wantErr(t, l.Leave(ctx, first, 6), ledger.ErrFenced)
	ok(t, l.Beat(ctx, second, 7))

	// One that has left is no other's either: its log is its own.
	ok(t, l.Leave(ctx, second, 7))
	_, err = l.Join(ctx, twin)
	wantErr(t, err, ledger.ErrNodeTaken)
	second = join(t, l, "a")

	// Once it is declared lost, its name is free, and it is fenced if it lives.
	ok(t, l.Lose(ctx, "a", "ana"))
	wantErr(t, l.Beat(ctx, second, 8), ledger.ErrFenced)
	epoch, err := l.Join(ctx, twin)
	ok(t, err)
	if epoch <= second.Epoch {
		t.Fatalf("epoch %d after %d", epoch, second.Epoch)
	}
	for _, p := range []ledger.Process{{Node: "b"}, {Home: "h"}} {
		if _, err := l.Join(ctx, p); err == nil {
			t.Errorf("%+v has joined", p)
		}
	}
}

func nodesLive(t *testing.T, o Opener) {
	c := newClock()
	l := o.open(t, "a", c.now)
	ctx := t.Context()
	a, b := join(t, l, "a"), join(t, l, "b")
	c.advance(time.Minute)
	ok(t, l.Beat(ctx, a, 42))
	for range 2 { // the answer to the first may have been lost
		ok(t, l.Leave(ctx, b, 7))
	}
	wantErr(t, l.Beat(ctx, b, 8), ledger.ErrFenced)
	c.advance(time.Second)
	nodes, now, err := o.open(t, "c", c.now).Nodes(ctx)
	ok(t, err)
	equal(t, "nodes", nodes, []ledger.Node{
		{Name: "a", State: ledger.NodeUp, Epoch: a.Epoch, Home: "disk-of-a", Roles: []string{"front"}, Version: "1", Address: "a:8081",
			Started: start(), Seen: start().Add(time.Minute), LogEnd: 42},
		{Name: "b", State: ledger.NodeLeft, Epoch: b.Epoch, Home: "disk-of-b", Roles: []string{"front"}, Version: "1", Address: "b:8081",
			Started: start(), Seen: start().Add(time.Minute), LogEnd: 7},
	})
	equal(t, "silence of a", nodes[0].Silent(now), time.Second)
	wantErr(t, l.Retire(ctx, "a", "ana"), ledger.ErrHeld)
	ok(t, l.Retire(ctx, "b", "ana"))
	wantErr(t, l.Retire(ctx, "nobody", "ana"), ledger.ErrNotFound)
	wantErr(t, l.Lose(ctx, "nobody", "ana"), ledger.ErrNotFound)
	nodes, _, err = l.Nodes(ctx)
	ok(t, err)
	equal(t, "b", fmt.Sprint(nodes[1].State, " by ", nodes[1].By), "retired by ana")
	join(t, l, "b")
	nodes, _, err = l.Nodes(ctx)
	ok(t, err)
	equal(t, "b after it came back", fmt.Sprint(nodes[1].State, " by ", nodes[1].By), "up by ")
}

func contestedName(t *testing.T, o Opener) {
	l := o.open(t, "a", time.Now)
	var all sync.WaitGroup
	won := make(chan int, 8)
	for i := range 8 {
		all.Go(func() {
			_, err := l.Join(t.Context(), ledger.Process{Node: "a", Home: fmt.Sprint("disk-", i)})
			if err == nil {
				won <- i
			} else if !errors.Is(err, ledger.ErrNodeTaken) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	equal(t, "winners", len(won), 1)
}
