package consumer_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
	"manna/ledger/ledgertest"
)

// memory is a ledger of several nodes in this process: what lanes need of one.
type memory struct {
	mu      sync.Mutex
	logs    map[string]*takenIn
	marks   map[gift.OrderID]map[int]ledger.Standing
	refunds map[refundOf]ledger.Refund
	choices map[gift.ClaimID]madeChoice
}

// refundOf is what a refund is unique by: it is the nth of a claim and a gift.
type refundOf struct {
	claim gift.ClaimID
	gift  string
	nth   int
}

type madeChoice struct {
	ledger.Choice
	made time.Time
}

// takenIn is what is known of a node's log.
type takenIn struct {
	place  ledger.Place
	claims []ledger.ClaimRow
	events []ledger.OrderEvent
}

// memoryView is a memory as one node has it open. What it does not play it lacks.
type memoryView struct {
	ledger.Cluster
	*memory
	now func() time.Time
}

func newMemory() *memory {
	return &memory{logs: make(map[string]*takenIn), marks: make(map[gift.OrderID]map[int]ledger.Standing), refunds: make(map[refundOf]ledger.Refund), choices: make(map[gift.ClaimID]madeChoice)}
}

func (m *memory) open(now func() time.Time) ledger.Cluster { return &memoryView{memory: m, now: now} }

func TestMemoryPlaysItsParts(t *testing.T) {
	fresh := func(testing.TB) ledgertest.Opener {
		m := newMemory()
		return func(_ testing.TB, _ string, now func() time.Time) ledger.Cluster { return m.open(now) }
	}
	ledgertest.RunOutcomes(t, fresh)
	ledgertest.RunMarks(t, fresh)
	ledgertest.RunChoices(t, fresh)
	ledgertest.RunRefunds(t, fresh)
}

func (v *memoryView) Close() error        { return nil }
func (v *memoryView) WantsOutcomes() bool { return true }

func (v *memoryView) log(node string) *takenIn {
	if v.logs[node] == nil {
		v.logs[node] = new(takenIn)
	}
	return v.logs[node]
}

func (v *memoryView) Place(_ context.Context, node string) (ledger.Place, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.log(node).place, nil
}

func (v *memoryView) Apply(_ context.Context, b *ledger.Batch) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	log := v.log(b.Node)
	if log.place.Position != b.From {
		return ledger.ErrMoved
	}
	for _, e := range b.Events {
		i := slices.IndexFunc(log.events, func(o ledger.OrderEvent) bool { return o.Order == e.Order && o.Sort() == e.Sort() })
		if i < 0 {
			log.events = append(log.events, e)
		} else if e.Replaces(&log.events[i]) {
			log.events[i] = e
		}
	}
	log.claims = append(log.claims, b.Claims...)
	for _, r := range b.Returned {
		r.Count = 0
		v.take(r)
	}
	log.place = b.Through
	return nil
}

func (v *memoryView) Seen(_ context.Context, node string, asOf time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if log := v.log(node); asOf.After(log.place.AsOf) {
		log.place.AsOf = asOf
	}
	return nil
}

func (v *memoryView) Reset(_ context.Context, node string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.logs, node)
	return nil
}

// find gives the claim that a question is about, and the events of its orders by node.
func (v *memoryView) find(is func(*ledger.ClaimRow) bool) (claim *ledger.ClaimRow, asOf time.Time, events map[gift.OrderID][]ledger.OrderEvent) {
	events = make(map[gift.OrderID][]ledger.OrderEvent)
	var records []ledger.ClaimRow
	for i, node := range slices.Sorted(maps.Keys(v.logs)) {
		log := v.logs[node]
		if at := log.place.AsOf; i == 0 || at.Before(asOf) {
			asOf = at
		}
		for j := range log.claims {
			if is(&log.claims[j]) {
				records = append(records, log.claims[j])
			}
		}
		for _, e := range log.events {
			events[e.Order] = append(events[e.Order], e)
		}
	}
	for _, of := range events {
		slices.SortFunc(of, func(a, b ledger.OrderEvent) int {
			return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Sort(), b.Sort()))
		})
	}
	if stands := ledger.Stands(records, events); stands >= 0 {
		claim = &records[stands]
	}
	return claim, asOf, events
}

func (v *memoryView) Order(_ context.Context, id gift.OrderID) (ledger.OrderRow, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	is := func(o gift.Order) bool { return o.ID == id }
	claim, asOf, events := v.find(func(c *ledger.ClaimRow) bool { return slices.ContainsFunc(c.Orders, is) })
	known := events[id]
	if claim == nil && len(known) == 0 {
		return ledger.OrderRow{}, fmt.Errorf("order %v: %w", id, ledger.ErrNotFound)
	}
	row := ledger.OrderRow{Order: gift.Order{ID: id}, OrderState: ledger.Fold(known), Events: known, AsOf: asOf}
	if claim == nil {
		row.Order.Partner, row.Claim.ID, row.Claim.Campaign = known[0].Partner, known[0].Claim, known[0].Campaign
		return row, nil
	}
	row.Order = claim.Orders[slices.IndexFunc(claim.Orders, is)]
	row.Claim, row.Claim.Orders = *claim, nil
	if row.Updated.IsZero() {
		row.Updated = claim.ClaimedAt
	}
	return row, nil
}

func (v *memoryView) Claim(_ context.Context, id gift.ClaimID) (ledger.ClaimStanding, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	claim, asOf, events := v.find(func(c *ledger.ClaimRow) bool { return c.ID == id })
	if claim == nil {
		return ledger.ClaimStanding{}, fmt.Errorf("claim %v: %w", id, ledger.ErrNotFound)
	}
	s := ledger.ClaimStanding{Claim: *claim, Events: events, AsOf: asOf}
	for _, o := range claim.Orders {
		state := ledger.Fold(events[o.ID])
		if state.Updated.IsZero() {
			state.Updated = claim.ClaimedAt
		}
		s.Orders = append(s.Orders, state)
	}
	return s, nil
}

func (v *memoryView) highest(order gift.OrderID) (s ledger.Standing, found bool) {
	parked := 0
	for _, number := range slices.Sorted(maps.Keys(v.marks[order])) {
		mark := v.marks[order][number]
		if mark.Concluded == gift.StateParked {
			parked = number
		}
		if s.Concluded != gift.StateGranted {
			s, found = mark, true
		}
	}
	s.Parked = parked
	return s, found
}

func (v *memoryView) put(s ledger.Standing) {
	if v.marks[s.Mark.Order] == nil {
		v.marks[s.Mark.Order] = make(map[int]ledger.Standing)
	}
	v.marks[s.Mark.Order][s.Mark.Number] = s
}

func (v *memoryView) Mark(_ context.Context, attempts []ledger.Attempt) ([]ledger.Standing, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(attempts) > ledger.MaxMarks {
		return nil, errors.New("too many")
	}
	var standings []ledger.Standing
	for _, a := range attempts {
		if a.Number < 1 {
			return nil, errors.New("numbers begin at 1")
		}
		s, found := v.highest(a.Order)
		if !found || s.Concluded != gift.StateGranted && s.Mark.Number < a.Number {
			v.put(ledger.Standing{Mark: a})
			s = ledger.Standing{Won: true, Mark: a}
		}
		standings = append(standings, s)
	}
	return standings, nil
}

func (v *memoryView) Conclude(_ context.Context, ends []ledger.Conclusion) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range ends {
		if e.State < gift.StateDeferred || e.State > gift.StateParked {
			return errors.New("that is no end")
		}
		s, found := v.marks[e.Order][e.Number]
		if !found {
			s.Mark = e.Attempt
		}
		if s.Concluded != gift.StateGranted && s.Concluded != e.State {
			s.Concluded, s.Time = e.State, v.now().UTC()
			v.put(s)
		}
	}
	return nil
}

func (v *memoryView) Release(_ context.Context, attempts []ledger.Attempt) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range attempts {
		if s := v.marks[a.Order][a.Number]; s.Repeats(a) && s.Concluded == 0 {
			delete(v.marks[a.Order], a.Number)
		}
	}
	return nil
}

func (v *memoryView) Highest(_ context.Context, orders []gift.OrderID) (map[gift.OrderID]ledger.Standing, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	highest := make(map[gift.OrderID]ledger.Standing)
	for _, id := range orders {
		if s, found := v.highest(id); found {
			highest[id] = s
		}
	}
	return highest, nil
}

func (v *memoryView) Sweep(_ context.Context, before time.Time, _ int) (removed int64, _ error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for order, marks := range v.marks {
		last := 0
		for number, s := range marks {
			last = max(last, number)
			if !s.Time.Before(before) {
				last = 1 << 30 // something was noted since
			}
		}
		if grant, _ := v.highest(order); last < 1<<30 && (marks[last].Concluded.Final() || grant.Concluded == gift.StateGranted && last == grant.Mark.Number) {
			removed += int64(len(marks))
			delete(v.marks, order)
		}
	}
	return removed, nil
}

func (v *memoryView) take(r ledger.Refund) { v.takeNth(r, 1) }

func (v *memoryView) takeNth(r ledger.Refund, nth int) {
	k := refundOf{r.Claim, r.Gift, nth}
	if _, known := v.refunds[k]; !known {
		v.refunds[k] = r
	}
}

func (v *memoryView) Choose(_ context.Context, choices []ledger.Choice) (stand []ledger.Choice, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(choices) > ledger.MaxChoices {
		return nil, fmt.Errorf("%d choices", len(choices))
	}
	for _, c := range choices {
		if _, ok := v.choices[c.Claim]; !ok {
			v.choices[c.Claim] = madeChoice{c, v.now()}
		}
		stand = append(stand, v.choices[c.Claim].Choice)
	}
	return stand, nil
}

func (v *memoryView) SweepChoices(_ context.Context, before time.Time, limit int) (removed int64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, c := range v.choices {
		if c.made.Before(before) && removed < int64(limit) {
			delete(v.choices, id)
			removed++
		}
	}
	return removed, nil
}

func (v *memoryView) Refund(_ context.Context, refunds []ledger.Refund) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range refunds {
		v.take(r)
	}
	return nil
}

// RefundRefused weighs all claims each time, so that none is left.
func (v *memoryView) RefundRefused(context.Context, int) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, _, events := v.find(func(*ledger.ClaimRow) bool { return false })
	open := func(o gift.Order) bool {
		is := func(k fallbacklog.Kind) bool {
			return slices.ContainsFunc(events[o.ID], func(e ledger.OrderEvent) bool { return e.Kind == k })
		}
		return !is(fallbacklog.Refused) || is(fallbacklog.Granted)
	}
	records := make(map[refundOf]int) // of a claim and a gift
	for _, log := range v.logs {
		for _, c := range log.claims {
			k := refundOf{claim: c.ID, gift: c.Gift}
			records[k]++
			nth := records[k]
			if slices.ContainsFunc(c.Orders, open) {
				nth-- // one of them is given, or may be
			}
			if nth > 0 {
				v.takeNth(ledger.Refund{StockKey: ledger.StockKey{Campaign: c.Campaign, Gift: c.Gift}, Claim: c.ID, Count: 1}, nth)
			}
		}
	}
	return 0, nil
}

// Weigh has nothing to note: RefundRefused weighs all.
func (v *memoryView) Weigh(context.Context, []gift.ClaimID) error { return nil }

func (v *memoryView) Leases(_ context.Context, k ledger.StockKey) (p ledger.Pool, _ []ledger.Lease, _ error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.refunds {
		if r.StockKey == k {
			p.Refunded += r.Count
		}
	}
	return p, nil, nil
}
