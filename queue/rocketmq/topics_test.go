package rocketmq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
)

// serve answers the requests on one connection to an address of its own.
func serve(t *testing.T, answer func(frame) frame) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		l.Close()
		cancel()
		work.Wait()
	})
	work.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		for {
			f, _, err := readFrame(conn)
			if err != nil {
				return
			}
			a := answer(f)
			a.Flag, a.Opaque = flagAnswer, f.Opaque
			b, err := a.append(nil)
			if err == nil {
				_, err = conn.Write(b)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	return l.Addr().String()
}

// brokersWithTopic are those of a cluster, with a topic that some of them have.
type brokersWithTopic struct {
	mu    sync.Mutex
	addrs map[string]string // by name
	route map[string]int    // how many queues the name server says that each has
	has   map[string]int    // how many it has
	perm  int               // the topic's; 0: to be read and written
}

// cluster is what asks them and their name server.
func (s *brokersWithTopic) cluster(t *testing.T) *cluster {
	s.addrs = make(map[string]string)
	for name := range s.has {
		s.addrs[name] = serve(t, func(f frame) frame { return s.asBroker(name, f) })
	}
	w := newWire(func(frame) {})
	addr := serve(t, s.asNameServer)
	t.Cleanup(w.close)
	return &cluster{wire: w, nameServers: []string{addr}}
}

func (s *brokersWithTopic) asBroker(name string, f frame) frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.Code == reqTopicConfig && s.has[name] == 0:
		return frame{Code: ansTopicUnknown, Remark: "No topic in this broker"}
	case f.Code == reqCreateTopic:
		var queues int
		fmt.Sscan(f.Fields["writeQueueNums"], &queues)
		s.has[name], s.route[name] = queues, queues
	}
	return frame{}
}

func (s *brokersWithTopic) asNameServer(f frame) frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	route := s.route
	if f.Fields["topic"] == everyBrokersTopic {
		route = map[string]int{"a": 1, "b": 1}
	}
	if len(route) == 0 {
		return frame{Code: ansTopicUnknown}
	}
	perm := permRead | permWrite
	if s.perm != 0 && f.Fields["topic"] != everyBrokersTopic {
		perm = s.perm
	}
	var addrs, queues []string
	for name, n := range route {
		addrs = append(addrs, fmt.Sprintf(`{"brokerName":%q,"cluster":"c","brokerAddrs":{"0":%q}}`, name, s.addrs[name]))
		queues = append(queues, fmt.Sprintf(`{"brokerName":%q,"readQueueNums":%d,"writeQueueNums":%d,"perm":%d}`, name, n, n, perm))
	}
	return frame{body: fmt.Appendf(nil, `{"brokerDatas":[%s],"queueDatas":[%s]}`, strings.Join(addrs, ","), strings.Join(queues, ","))}
}

// TestTopicsAreMadeAnewWhereTheyAreGone: a topic that a broker has lost is made there,
// as wide as it was and whatever the name server remembers, and nowhere else.
func TestTopicsAreMadeAnewWhereTheyAreGone(t *testing.T) {
	for name, c := range map[string]struct {
		route, has, want map[string]int
		doubt            error
		told             string
	}{
		"nobody has it": {
			route: map[string]int{}, has: map[string]int{"a": 0, "b": 0}, want: map[string]int{"a": 4, "b": 4},
			doubt: errors.New("the broker did not answer"), told: `brokers="a, b"`,
		},
		"one has lost it, and the name server does not know": {
			route: map[string]int{"a": 6, "b": 6}, has: map[string]int{"a": 6, "b": 0}, want: map[string]int{"a": 6, "b": 6},
			doubt: &answerError{"b:1", ansTopicUnknown, "topic not exist"}, told: "brokers=b",
		},
		"all is well": {
			route: map[string]int{"a": 6, "b": 6}, has: map[string]int{"a": 6, "b": 6}, want: map[string]int{"a": 6, "b": 6},
			doubt: &answerError{"b:1", ansTopicUnknown, "topic not exist"},
		},
		"nobody says that it is gone": {
			route: map[string]int{"a": 6, "b": 6}, has: map[string]int{"a": 6, "b": 0}, want: map[string]int{"a": 6, "b": 0},
			doubt: errors.New("the broker did not answer"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &brokersWithTopic{route: c.route, has: c.has}
			var log bytes.Buffer
			p := newProvision(s.cluster(t), slog.New(slog.NewTextHandler(&log, nil)))
			p.known["t"] = present
			if !p.missed("t", c.doubt) {
				p.doubt("t")
			}
			for range 2 {
				if err := p.provide(t.Context(), 4, "t"); err != nil {
					t.Fatal(err)
				}
			}
			if !maps.Equal(s.has, c.want) {
				t.Errorf("the brokers have %v queues, want %v", s.has, c.want)
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			if c.told == "" && log.Len() > 0 || c.told != "" && (len(lines) != 1 || !strings.Contains(lines[0], "level=ERROR") || !strings.Contains(lines[0], c.told)) {
				t.Errorf("told is %q, want one error with %q", lines, c.told)
			}
		})
	}
}

// TestDoubtfulTopicsAreUsed while nobody can say more: the brokers may be well while
// the name servers are away.
func TestDoubtfulTopicsAreUsed(t *testing.T) {
	lasting := &brokersWithTopic{route: map[string]int{"a": 6, "b": 6}, has: map[string]int{"a": 6, "b": 6}, perm: permRead}
	w := newWire(func(frame) {})
	t.Cleanup(w.close)
	at := func(addr string) *cluster { return &cluster{wire: w, nameServers: []string{addr}} }
	for name, c := range map[string]struct {
		cluster *cluster
		was     standing
		want    error
	}{
		"the name server is away":              {at(nobody(t)), doubtful, nil},
		"it has been started again":            {at(serve(t, func(frame) frame { return frame{Code: ansTopicUnknown} })), doubtful, nil},
		"it says that they are closed":         {lasting.cluster(t), doubtful, errClosedTopic},
		"they were never seen":                 {at(nobody(t)), unseen, ErrAway},
		"a broker has lost them":               {at(nobody(t)), missing, ErrAway},
		"nobody knows who has lost them where": {at(serve(t, func(frame) frame { return frame{Code: ansTopicUnknown} })), missing, ErrAway},
	} {
		p := newProvision(c.cluster, slog.New(slog.DiscardHandler))
		p.known["t"] = c.was
		if err := p.provide(t.Context(), 4, "t"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		want := c.was
		if c.want == nil {
			want = present
		}
		if got := p.standing("t"); got != want {
			t.Errorf("%s: standing %d, want %d", name, got, want)
		}
	}
	// Whoever does not wait for the answer does not go on.
	p := newProvision(at(nobody(t)), slog.New(slog.DiscardHandler))
	p.known["t"] = doubtful
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.provide(ctx, 4, "t"); err == nil || p.standing("t") != doubtful {
		t.Errorf("a context that has ended: %v, standing %d", err, p.standing("t"))
	}
}

// TestTopicsAreDoubtedOnlyWhenSeen: before they have been there, nothing is lost.
func TestTopicsAreDoubtedOnlyWhenSeen(t *testing.T) {
	p := newProvision(nil, slog.New(slog.DiscardHandler))
	p.doubt("t")
	p.missed("t", errNoTopic)
	if got := p.standing("t"); got != unseen {
		t.Errorf("a topic that nobody has seen is in standing %d", got)
	}
	p.known["t"] = present
	if gone := p.missed("t", errors.New("no answer")); gone || p.standing("t") != present {
		t.Errorf("any error says that a topic is gone: standing %d", p.standing("t"))
	}
	p.doubt("t")
	if got := p.standing("t"); got != doubtful {
		t.Errorf("after a doubt it is in standing %d", got)
	}
	p.missed("t", errNoTopic)
	p.doubt("t")
	if got := p.standing("t"); got != missing {
		t.Errorf("gone and then doubted it is in standing %d, want missing", got)
	}
}
