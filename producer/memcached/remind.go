package memcached

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/memcache"
)

const (
	// lookEvery is how often a server is asked whether it still knows what it was told.
	lookEvery = time.Second
	// lookAgain is how long it is left alone where claims wait for it to be sure.
	lookAgain = 50 * time.Millisecond
	// doubtFor is how long a node's word that a server has forgotten holds, unless it is
	// given again: until all other nodes have looked, and given theirs.
	doubtFor = 3 * time.Second
	// tellers is how many claims are told to one server at a time.
	tellers = 8
)

// Remind implements producer.SharedGuard.
func (g *Guard) Remind(ctx context.Context, own iter.Seq2[gift.ClaimID, fallbacklog.Position]) {
	var work sync.WaitGroup
	for server := range g.memories {
		work.Go(func() { g.watch(ctx, server, own) })
	}
	work.Wait()
}

// watch looks at one server again and again.
func (g *Guard) watch(ctx context.Context, server int, own iter.Seq2[gift.ClaimID, fallbacklog.Position]) {
	m := g.memories[server]
	for ctx.Err() == nil {
		g.look(ctx, server, own)
		select {
		case <-m.unsure:
			select {
			case <-time.After(lookAgain):
			case <-ctx.Done():
			}
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// look finds out what a server does not know, and tells it. Where a call fails, the next
// look does that.
func (g *Guard) look(ctx context.Context, server int, own iter.Seq2[gift.ClaimID, fallbacklog.Position]) {
	m := g.memories[server]
	failures := m.failures()
	m.advance(g.takeLook)
	owed := m.owed.Swap(none)
	err := g.mend(ctx, server, &owed, own)
	if err != nil {
		m.owe(fallbacklog.Position(owed))
		return
	}
	doubted, err := g.has(ctx, m.doubtKey)
	switch {
	case doubted:
		m.sureAt.Store(-1)
	case err == nil:
		m.sureAt.Store(failures)
	}
}

// mend tells a server what it lacks, from the position owed on or, where it has forgotten
// everything, from 0; and gives it this process's word that it has.
func (g *Guard) mend(ctx context.Context, server int, owed *uint64, own iter.Seq2[gift.ClaimID, fallbacklog.Position]) error {
	m := g.memories[server]
	had, err := g.wordOf(ctx, m.wordKey)
	if err != nil {
		return err
	}
	from := *owed
	switch {
	case had == word{}:
		from, *owed = 0, 0
	case had.incarnation != g.incarnation:
		// What that process recorded last it may not have told. No other node has taken
		// it meanwhile: its reservations are there.
		from = min(from, had.through)
		m.through = max(m.through, had.through)
	}
	if *owed != none {
		m.sureAt.Store(-1)
		if err := g.doubt(ctx, m); err != nil {
			return err
		}
	}
	if from != none {
		if err := g.remind(ctx, server, fallbacklog.Position(from), own, *owed != none); err != nil {
			return err
		}
	}
	now := word{g.incarnation, m.through, had.ended}
	if had.incarnation != g.incarnation && had != (word{}) {
		now.ended = strings.Join(append([]string{had.incarnation}, firstOf(had.ended, keepEnded-1)...), ",")
	}
	if now != had {
		return g.opts.Client.Set(ctx, m.wordKey, []byte(now.String()), 0)
	}
	return nil
}

// remind tells a server this node's claims from a position on, and keeps up the doubt
// about it meanwhile where there is one.
func (g *Guard) remind(ctx context.Context, server int, from fallbacklog.Position, own iter.Seq2[gift.ClaimID, fallbacklog.Position], doubt bool) error {
	type claim struct {
		id gift.ClaimID
		at fallbacklog.Position
	}
	m := g.memories[server]
	began, claims := time.Now(), 0
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	untold := make(chan claim)
	var telling sync.WaitGroup
	for range tellers {
		telling.Go(func() {
			for c := range untold {
				if err := g.tell(work, c.id, c.at); err != nil {
					stop(err)
				} else {
					m.raise(c.at)
				}
			}
		})
	}
	doubted := began
	for id, at := range own {
		if at < from || g.opts.Client.Home(g.key(id)) != server {
			continue
		}
		if now := time.Now(); doubt && now.Sub(doubted) > doubtFor/4 {
			if err := g.doubt(work, m); err != nil {
				stop(err)
			}
			doubted = now
		}
		if work.Err() != nil {
			break
		}
		untold <- claim{id, at}
		claims++
	}
	close(untold)
	telling.Wait()
	if work.Err() != nil {
		return context.Cause(work)
	}
	if claims > 0 {
		g.opts.Logger.Info("told the guard claims of this node's log that it did not know, or may not have known", "server", m.address, "claims", claims, "took", time.Since(began))
	}
	return nil
}

// doubt tells all nodes not to rely on a server.
func (g *Guard) doubt(ctx context.Context, m *memory) error {
	return g.opts.Client.Set(ctx, m.doubtKey, []byte("d"), doubtFor)
}

// has reports whether a key is there.
func (g *Guard) has(ctx context.Context, key string) (bool, error) {
	_, err := g.opts.Client.Get(ctx, key)
	if errors.Is(err, memcache.ErrMiss) {
		return false, nil
	}
	return err == nil, err
}

// keepEnded is how many processes that have ended a word names.
const keepEnded = 8

// word is what a node's process says of what it has told a server: everything that
// earlier processes recorded, and of its own what is before a position. Zero where there
// is none.
type word struct {
	incarnation string
	through     uint64
	ended       string // incarnations before it, the last first, with commas between
}

func (w word) String() string {
	return w.incarnation + " " + strconv.FormatUint(w.through, 10) + " " + w.ended
}

// firstOf gives the first n names of a list with commas.
func firstOf(list string, n int) []string {
	if list == "" {
		return nil
	}
	names := strings.Split(list, ",")
	return names[:min(len(names), n)]
}

func wordKey(prefix string, tag int, node string) string {
	return fmt.Sprintf("%st:{%d}:%s", prefix, tag, node)
}

// wordOf reads a node's word.
func (g *Guard) wordOf(ctx context.Context, key string) (w word, err error) {
	item, err := g.opts.Client.Get(ctx, key)
	if errors.Is(err, memcache.ErrMiss) {
		return w, nil
	}
	if err != nil {
		return w, err
	}
	fields := strings.Split(string(item.Value), " ")
	if len(fields) == 3 {
		w = word{incarnation: fields[0], ended: fields[2]}
		w.through, err = strconv.ParseUint(fields[1], 10, 64)
	}
	if w.incarnation == "" || err != nil {
		return word{}, fmt.Errorf("key %s: %.80q is no word of ours: give this cluster a prefix of its own, or servers", key, item.Value)
	}
	return w, nil
}

// gone reports whether another node's reservation is of a process that has ended, and
// all that it recorded has been told by one that came after it. Of a process that ended
// before it gave a word nobody knows; what that left ends with its lease.
func (g *Guard) gone(ctx context.Context, id gift.ClaimID, e entry) (bool, error) {
	w, err := g.wordOf(ctx, wordKey(g.opts.Prefix, g.memoryOf(id).tag, e.node))
	incarnation, _, ok := strings.Cut(e.token, tokenMark)
	return ok && slices.Contains(firstOf(w.ended, keepEnded), incarnation), err
}
