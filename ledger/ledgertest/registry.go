package ledgertest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"manna/fallbacklog"
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

// copiedHomes has a home in several places: the one that is alive goes on, and another
// may follow it when that is silent.
func copiedHomes(t *testing.T, o Opener) {
	c := newClock()
	l := o.open(t, "a", c.now)
	ctx := t.Context()
	process := func(place string) ledger.Process {
		return ledger.Process{Node: "a", Home: "disk-of-a", Place: place, Address: "a:8081"}
	}
	epoch, err := l.Join(ctx, process("here"))
	ok(t, err)
	first := ledger.Holder{Node: "a", Epoch: epoch}
	for range 5 {
		c.advance(ledger.BeatWithin - time.Second)
		_, err = l.Join(ctx, process("a copy"))
		wantErr(t, err, ledger.ErrNodeBeats)
		wantErr(t, err, ledger.ErrNodeTaken)
		ok(t, l.Beat(ctx, first, 5))
	}
	// A process in the same place need not wait: its lock is enough.
	epoch, err = l.Join(ctx, process("here"))
	ok(t, err)
	wantErr(t, l.Beat(ctx, first, 5), ledger.ErrFenced)
	// Moved to another disk or machine, the node is silent meanwhile.
	c.advance(ledger.BeatWithin)
	moved, err := l.Join(ctx, process("another disk"))
	ok(t, err)
	if moved <= epoch {
		t.Errorf("epoch %d after %d", moved, epoch)
	}
	// Who does not tell is not compared, as an older release; nor is who left in order.
	_, err = l.Join(ctx, process(""))
	ok(t, err)
	epoch, err = l.Join(ctx, process("here"))
	ok(t, err)
	ok(t, l.Leave(ctx, ledger.Holder{Node: "a", Epoch: epoch}, 5))
	_, err = l.Join(ctx, process("another disk"))
	ok(t, err)
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
			Started: start(), Seen: start().Add(time.Minute), LogEnd: 7, Ended: true},
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

// shortLogs: a process at the home of the node whose log ends before the node's did is
// a copy that was brought back, and gets in on a person's word only, as another log.
func shortLogs(t *testing.T, o Opener) {
	const end = fallbacklog.Position(5<<32 | 9000)
	nodes := 0
	for name, c := range map[string]struct {
		leave func(t *testing.T, l ledger.Cluster, h ledger.Holder)
		log   fallbacklog.Position // the process's that comes
		err   error
	}{
		"it is up":                      {stays, end - 1, ledger.ErrLogShort},
		"it is up, and the log is not":  {stays, end, nil},
		"it left":                       {leaves, end - 1, ledger.ErrLogShort},
		"it left, and the log is whole": {leaves, end, nil},
		"it left, and the log went on":  {leaves, end + 1, nil},
		"a segment is missing":          {leaves, 4<<32 | 20000, ledger.ErrLogShort},
		"the log was removed":           {leaves, 1<<32 | 1024, ledger.ErrLogShort},
		"it does not tell":              {leaves, 0, nil},
		"it is retired":                 {retired, end - 1, ledger.ErrLogShort},
		"it is lost":                    {lost, end - 1, nil},
		"it is lost, and the log whole": {lost, end, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := o.open(t, "a", time.Now)
			ctx := t.Context()
			nodes++
			node := fmt.Sprint("a-", nodes)
			p := ledger.Process{Node: node, Home: "disk", End: 1<<32 | 1024}
			epoch, err := l.Join(ctx, p)
			ok(t, err)
			h := ledger.Holder{Node: node, Epoch: epoch}
			ok(t, l.Beat(ctx, h, end))
			key := ledger.StockKey{Campaign: "spring", Gift: node}
			_, err = l.Lease(ctx, key, h, ledger.Ask{Total: 100, UpTo: 60})
			ok(t, err)
			c.leave(t, l, h)
			before := nodeNamed(t, l, node)
			p.End = c.log
			next, err := l.Join(ctx, p)
			short := c.log != 0 && c.log < end
			after := nodeNamed(t, l, node)
			_, leases := held(t, l, key)
			if c.err != nil {
				wantErr(t, err, c.err)
				for _, remedy := range []string{"manna log restore", "name of its own", "manna node lose " + node} {
					if !strings.Contains(err.Error(), remedy) {
						t.Errorf("the error does not say %q: %v", remedy, err)
					}
				}
				equal(t, "the node", after, before)
				equal(t, "leases", leases, map[string]int64{node: 60})
				// The word that lets it in.
				ok(t, l.Lose(ctx, node, "ana"))
				next, err = l.Join(ctx, p)
				after = nodeNamed(t, l, node)
				_, leases = held(t, l, key)
			}
			ok(t, err)
			if next <= h.Epoch {
				t.Errorf("epoch %d after %d", next, h.Epoch)
			}
			switch {
			case short:
				equal(t, "the end of the log", after.LogEnd, c.log)
				equal(t, "leases", leases, map[string]int64{ledger.Former(node, h.Epoch): 60})
			default:
				equal(t, "the end of the log", after.LogEnd, max(end, c.log))
				equal(t, "leases", leases, map[string]int64{node: 60})
			}
			// From here on it is held to its own log.
			p.End = after.LogEnd
			_, err = l.Join(ctx, p)
			ok(t, err)
		})
	}
}

func stays(*testing.T, ledger.Cluster, ledger.Holder) {}

func leaves(t *testing.T, l ledger.Cluster, h ledger.Holder) {
	t.Helper()
	ok(t, l.Leave(t.Context(), h, 5<<32|9000))
}

func retired(t *testing.T, l ledger.Cluster, h ledger.Holder) {
	t.Helper()
	leaves(t, l, h)
	ok(t, l.Retire(t.Context(), h.Node, "ana"))
}

func lost(t *testing.T, l ledger.Cluster, h ledger.Holder) {
	t.Helper()
	ok(t, l.Lose(t.Context(), h.Node, "ana"))
}

func nodeNamed(t *testing.T, l ledger.Cluster, name string) ledger.Node {
	t.Helper()
	nodes, _, err := l.Nodes(t.Context())
	ok(t, err)
	for _, n := range nodes {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("no node %s", name)
	return ledger.Node{}
}
