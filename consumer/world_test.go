package consumer_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"manna/breaker"
	"manna/consumer"
	"manna/delivery"
	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/promises"
	"manna/queue/embedded"
)

const patience = 30 * time.Second

// world is a log with claims, lanes and scripted partners around a consumer.
type world struct {
	t        *testing.T
	dir      string
	log      *fallbacklog.Log
	queue    *embedded.Queue
	partners []*consumer.Partner
	scripted []*partnertest.Partner
	rates    map[string]gift.Rate
	accepted map[gift.ClaimID]bool
	refused  chan gift.ClaimID // claims of which every order was refused
	logger   *slog.Logger      // nil: what the consumer says is not looked at
	consumer *consumer.Consumer
	stop     func()
	from     fallbacklog.Position // what came before is of no interest to settled
}

// seat is how a partner is configured in the world.
type seat struct {
	idempotent, queries bool
	rate                gift.Rate
	timeout             time.Duration
	retry               []time.Duration
	openFor             time.Duration
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), rates: make(map[string]gift.Rate), accepted: make(map[gift.ClaimID]bool), refused: make(chan gift.ClaimID, 1000)}
	w.open()
	t.Cleanup(func() { w.close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.log, err = fallbacklog.Open(fallbacklog.Options{Dir: filepath.Join(w.dir, "log"), Node: "a", SegmentBytes: fallbacklog.MinSegment}); err != nil {
		w.t.Fatal(err)
	}
	if w.queue, err = embedded.Open(w.t.Context(), embedded.Options{Log: w.log, Dir: filepath.Join(w.dir, "lanes")}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) close() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
	if w.log == nil {
		return
	}
	if err := w.queue.Close(context.Background()); err != nil {
		w.t.Error(err)
	}
	if err := w.log.Close(); err != nil {
		w.t.Error(err)
	}
	w.log = nil
}

// partner adds a scripted partner.
func (w *world) partner(name string, script partnertest.Script, s seat) *partnertest.Partner {
	w.t.Helper()
	script.Name = name
	p := partnertest.Start(w.t, script)
	if s.rate == 0 {
		s.rate = 2000
	}
	if s.timeout == 0 {
		s.timeout = 250 * time.Millisecond
	}
	if s.retry == nil {
		s.retry = []time.Duration{20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 400 * time.Millisecond, 400 * time.Millisecond}
	}
	if s.openFor == 0 {
		s.openFor = 100 * time.Millisecond
	}
	o := delivery.HTTPOptions{Name: name, URL: p.URL + "/grant", Idempotent: s.idempotent, Timeout: s.timeout, MaxInFlight: 50}
	if s.queries {
		o.QueryURL = p.URL + "/orders"
	}
	a, err := delivery.NewHTTP(o)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := breaker.New("partner/"+name, breaker.Settings{Window: max(4*s.timeout, time.Second), FailureRatio: 0.6, MinCalls: 20, SlowCall: s.timeout, OpenFor: s.openFor, Timeout: s.timeout})
	if err != nil {
		w.t.Fatal(err)
	}
	w.partners = append(w.partners, &consumer.Partner{Name: name, Adapter: a, Rate: s.rate, MaxInFlight: 50, Retry: s.retry, Breaker: b})
	w.scripted = append(w.scripted, p)
	w.rates[name] = s.rate
	return p
}

// claim accepts n claims of one order for each partner named.
func (w *world) claim(n int, partners ...string) []gift.OrderID {
	w.t.Helper()
	campaign := gift.Campaign{Name: "k", ID: gift.NewCampaignID("k"), Promise: time.Hour}
	g := &gift.Gift{Name: "g"}
	for _, p := range partners {
		g.Items = append(g.Items, gift.Item{Name: "item-" + p, Partner: p, Quantity: 1, Amount: 100, Currency: "CNY"})
	}
	var recs []*fallbacklog.Record
	var orders []gift.OrderID
	for range n {
		user := fmt.Sprint("u", len(w.accepted))
		id := campaign.ID.ClaimID("", user, "")
		claim := campaign.NewClaim(id, "", "", user, g, "", nil, time.Now().UTC())
		w.accepted[id] = true
		recs = append(recs, &fallbacklog.Record{Kind: fallbacklog.Claimed, Claim: claim})
		for _, o := range claim.Orders {
			orders = append(orders, o.ID)
		}
	}
	if err := w.log.Append(w.t.Context(), recs...); err != nil {
		w.t.Fatal(err)
	}
	return orders
}

// run starts the consumer.
func (w *world) run() {
	w.t.Helper()
	c, err := consumer.New(consumer.Options{
		Log: w.log, Queue: w.queue, Partners: w.partners,
		Returned: func(s *fallbacklog.Stock) { w.refused <- s.Claim }, Logger: w.logger,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.consumer = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// settled waits until so many orders have become final.
func (w *world) settled(orders int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	final := make(map[gift.OrderID]bool)
	r := w.log.Reader(w.from, fallbacklog.Granted, fallbacklog.Refused, fallbacklog.Parked)
	defer r.Close()
	for len(final) < orders {
		rec, err := r.Next(ctx)
		if err != nil {
			w.t.Fatalf("%d of %d orders are final: %v", len(final), orders, err)
		}
		final[rec.Event.Order] = true
	}
}

// check closes the world and holds the promises against the partners' books.
func (w *world) check() *promises.Verdict {
	w.t.Helper()
	w.close()
	v := w.verdict()
	for _, p := range v.Promises {
		if !p.Kept {
			w.t.Errorf("promise %d, %s: %s", p.Number, p.Name, p.Detail)
		}
	}
	for _, example := range v.Examples {
		w.t.Log(example)
	}
	return v
}

// verdict holds the promises against the partners' books.
func (w *world) verdict() *promises.Verdict {
	w.t.Helper()
	e := promises.Evidence{
		Logs:  []iter.Seq2[*fallbacklog.Record, error]{fallbacklog.Records(disk.OS{}, filepath.Join(w.dir, "log"))},
		Rates: w.rates, Accepted: w.accepted,
	}
	for _, p := range w.scripted {
		e.Books = append(e.Books, p.Books())
	}
	return promises.Check(e)
}
