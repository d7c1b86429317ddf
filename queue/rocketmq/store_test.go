package rocketmq

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"manna/fallbacklog"
)

// reading is a stream that has come to offset 100 of its queue, with one message held
// and one waiting.
func reading(t *testing.T) (s *stream, log *bytes.Buffer) {
	t.Helper()
	log = new(bytes.Buffer)
	logger := slog.New(slog.NewTextHandler(log, nil))
	q := &Queue{opts: Options{Node: "a", Logger: logger}, marks: new(marks)}
	q.topics = newProvision(nil, logger)
	names, err := topicsOf("manna", "midas")
	if err != nil {
		t.Fatal(err)
	}
	q.topics.known[names.of[firsts]] = present
	l := newLane(q, "midas", names)
	s = &stream{lane: l, shard: shard{topic: names.of[firsts], broker: "b", id: 3}, begun: true, committed: 98, room: make(chan struct{}, 1)}
	l.add(s)
	s.window.base = 98
	s.take(0, pulled{msgs: []stored{storedAt(t, 98, 7000), storedAt(t, 99, 7400)}, next: 100, end: 100})
	if m, _, err := l.choose(); m == nil || err != nil {
		t.Fatalf("nothing to receive: %v", err)
	}
	if s.window.next() != 100 || s.waiting != 1 || log.Len() > 0 {
		t.Fatalf("it is at %d with %d waiting: %s", s.window.next(), s.waiting, log)
	}
	return s, log
}

func storedAt(t *testing.T, offset, log int64) stored {
	t.Helper()
	m := samples()["first"].m
	body, err := appendBody(nil, &m, "a", string(fallbacklog.AppendClaim(nil, m.Claim)))
	if err != nil {
		t.Fatal(err)
	}
	return stored{offset: offset, log: log, body: body}
}

// TestQueuesOfAnotherStore: a queue that ends before the place, or that has grown
// beyond it anew, is read from its beginning, which is told loudly.
func TestQueuesOfAnotherStore(t *testing.T) {
	for name, c := range map[string]struct {
		p    pulled
		want int64
		told []string
	}{
		"it goes on":                  {pulled{msgs: []stored{storedAt(t, 100, 7800)}, next: 101, end: 101}, 101, nil},
		"it is empty":                 {pulled{moved: true, next: 0}, 0, []string{"level=ERROR", "manna-first-midas/b/3", "place=100", "max=0"}},
		"it ends before":              {pulled{moved: true, next: 40, end: 40}, 0, []string{"level=ERROR", "place=100", "max=40"}},
		"it has come beyond":          {pulled{msgs: []stored{storedAt(t, 100, 600)}, next: 101, end: 300}, 0, []string{"level=ERROR", "place=100", "max=300"}},
		"it begins and ends before":   {pulled{moved: true, next: 40, begin: 8, end: 40}, 8, []string{"level=ERROR", "place=100", "max=40"}},
		"its old ones are removed":    {pulled{moved: true, next: 500, begin: 500, end: 900}, 500, []string{"level=ERROR", "removed", "place=100", "to=500"}},
		"there is nothing new for it": {pulled{next: 100, end: 100}, 100, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, log := reading(t)
			s.take(s.epoch, c.p)
			if got := s.window.next(); got != c.want {
				t.Errorf("it goes on at %d, want %d", got, c.want)
			}
			if slices.ContainsFunc(c.told, func(part string) bool { return !strings.Contains(log.String(), part) }) || len(c.told) == 0 && log.Len() > 0 {
				t.Errorf("told is %q, want %q", log, c.told)
			}
			// What was received of the old store is let go, and counts for no place of the new.
			for p := range heldParcels(t, s) {
				p.release()
			}
			if c.told != nil && s.window.base != c.want {
				t.Errorf("the place is %d, want %d", s.window.base, c.want)
			}
		})
	}
}

// heldParcels takes what is left in a stream's buffer.
func heldParcels(t *testing.T, s *stream) map[*parcel]bool {
	t.Helper()
	all := make(map[*parcel]bool)
	for len(s.buffer) > 0 {
		m, _, err := s.lane.choose()
		if m == nil || err != nil {
			t.Fatalf("a message in memory is not received: %v", err)
		}
		all[m.Handle.(*parcel)] = true
	}
	return all
}

// TestTopicThatIsGone: the queue is read from its beginning and the topics are made
// anew; it is told once, however often the broker says so.
func TestTopicThatIsGone(t *testing.T) {
	s, log := reading(t)
	old := s.epoch
	for range maxWindow {
		s.window.add() // so many that it waits for room
	}
	place := s.window.next()
	for len(s.room) > 0 {
		<-s.room
	}
	if s.gone(errors.New("no answer")); s.window.next() != place || log.Len() > 0 {
		t.Fatalf("any refusal has it start over: at %d, %s", s.window.next(), log)
	}
	for range 3 {
		s.gone(&answerError{"b:1", ansTopicUnknown, "topic not exist"})
	}
	if s.window.next() != 0 || strings.Count(log.String(), "level=ERROR") != 1 {
		t.Errorf("it is at %d, and told is %q; want 0, once", s.window.next(), log)
	}
	if got := s.lane.queue.topics.standing(s.shard.topic); got != missing {
		t.Errorf("the topics are in standing %d, want missing", got)
	}
	if len(s.room) != 1 {
		t.Error("whoever waits for room waits on")
	}
	if len(s.lane.regrouped) != 1 {
		t.Error("nobody is told to make them")
	}
	if err := s.lane.postpone(context.Background(), s.buffer[0].msg, evening); err == nil {
		t.Error("a message is sent to topics that are not there")
	}
	// What a pull brought that was under way tells of the old store.
	s.take(old, pulled{msgs: []stored{storedAt(t, 100, 7800)}, next: 101, end: 101})
	if s.window.next() != 0 {
		t.Errorf("it goes on at %d by an answer from before", s.window.next())
	}
}
