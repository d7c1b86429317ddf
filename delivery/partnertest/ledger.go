package partnertest

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"manna/gift"
)

// MaxOrders bounds the orders that a partner knows.
const MaxOrders = 10_000_000

const maxText = 128 // bytes kept of a user or sku

// entry is an order that the partner has heard of.
type entry struct {
	id      gift.OrderID
	user    string
	sku     string
	amount  int64
	firstAt int64 // since the partner began
	count   int32 // how often it was applied
	calls   int32
	queries int32
	refused bool
}

func (e *entry) reference(n int32) string {
	text := "P-" + e.id.String()
	if n > 1 {
		text += "-" + strconv.Itoa(int(n))
	}
	return text
}

// ledger gathers the books.
type ledger struct {
	began time.Time

	mu        sync.Mutex
	keeper    *rateKeeper
	door      arrivals
	stalls    []Stall
	truncated bool
	calls     map[string]int64
	index     map[gift.OrderID]int32
	entries   []entry
}

func newLedger() *ledger {
	return &ledger{
		began: time.Now(), keeper: newRateKeeper(0),
		calls: make(map[string]int64), index: make(map[gift.OrderID]int32),
	}
}

func (l *ledger) now() int64 { return int64(time.Since(l.began)) }

// arrive records a call at the door and says whether it is above the rate. A
// partner that was itself not running within the last second blames nobody.
func (l *ledger) arrive() (over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.now()
	if !l.door.add(at) {
		l.truncated = true
	}
	over = l.keeper.over(at)
	if n := len(l.stalls); n > 0 && at-int64(l.stalls[n-1].To) < int64(time.Second) {
		return false
	}
	return over
}

func (l *ledger) setRate(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keeper.rate != rate {
		l.keeper = newRateKeeper(rate)
	}
}

func (l *ledger) stall(from, to int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.stalls) == maxStalls {
		l.truncated = true
		return
	}
	l.stalls = append(l.stalls, Stall{Duration(from), Duration(to)})
}

func (l *ledger) note(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[kind]++
}

// hear finds or opens the order's entry and counts the call; 0 where there is no
// room for another order.
func (l *ledger) hear(o order) (call int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, known := l.index[o.id]
	if !known {
		if len(l.entries) == MaxOrders {
			l.truncated = true
			return 0
		}
		i = int32(len(l.entries))
		l.index[o.id] = i
		l.entries = append(l.entries, entry{id: o.id, user: clip(o.User), sku: clip(o.SKU), amount: o.Amount})
	}
	l.entries[i].calls++
	return int(l.entries[i].calls)
}

// settle applies an order that was heard: grants it, or refuses it for good. It
// answers with the entry as it is then, and whether it had been granted before.
func (l *ledger) settle(id gift.OrderID, dedupe, refuse bool, extra int64) (e entry, repeated bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := &l.entries[l.index[id]]
	switch {
	case at.refused || refuse && at.count == 0:
		at.refused = true
	case at.count > 0 && dedupe:
		repeated = true
	default:
		at.count++
		if at.count == 1 {
			at.firstAt = l.now()
			at.amount += extra
		}
	}
	return *at, repeated
}

// query finds an order and counts the query.
func (l *ledger) query(id gift.OrderID) (e entry, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, known := l.index[id]
	if !known {
		return entry{}, false
	}
	l.entries[i].queries++
	return l.entries[i], true
}

// books copies everything out, a batch of orders at a time so that calls are not
// held up.
func (l *ledger) books(name string, rate float64) *Books {
	l.mu.Lock()
	b := &Books{
		Partner: name, Rate: rate, StartedAt: l.began.UTC(), Truncated: l.truncated,
		Calls: maps.Clone(l.calls), Stalls: slices.Clone(l.stalls), door: l.door.snapshot(),
	}
	l.mu.Unlock()
	const batch = 8192
	for from, more := 0, true; more; from += batch {
		l.mu.Lock()
		to := min(from+batch, len(l.entries))
		more = to < len(l.entries)
		entries := slices.Clone(l.entries[from:to])
		l.mu.Unlock()
		for i := range entries {
			e := &entries[i]
			if e.count == 0 {
				continue
			}
			b.Grants = append(b.Grants, Grant{
				OrderID: e.id, Count: int(e.count), FirstAt: b.StartedAt.Add(time.Duration(e.firstAt)),
				Reference: e.reference(1), Amount: e.amount, SKU: e.sku, User: e.user,
			})
		}
	}
	b.finish()
	return b
}

func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return s
}
