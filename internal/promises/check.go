package promises

import (
	"fmt"
	"iter"
	"strings"

	"manna/delivery/partnertest"
	"manna/fallbacklog"
	"manna/gift"
)

// Evidence is what the promises are checked from.
type Evidence struct {
	// Logs are the records of each node's log. They are read side by side, by the
	// records' times, for what one says of an order may follow on what another does.
	Logs []iter.Seq2[*fallbacklog.Record, error]
	// Books are the partners' own, by partner.
	Books []*partnertest.Books
	// Rates are the calls a second that each partner was promised.
	Rates map[string]gift.Rate
	// Accepted are the claims that callers were told were accepted; nil where
	// nobody kept count.
	Accepted map[gift.ClaimID]bool
	// Campaigns give the stock. May be empty.
	Campaigns []*gift.Campaign
	// SoldOut are the gifts, as campaign/gift, that some caller was told were sold
	// out at the end.
	SoldOut map[string]bool
}

// Promise is one promise and whether it was kept.
type Promise struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
	Kept   bool   `json:"kept"`
	Detail string `json:"detail"`
}

// Partner is what one partner's books say.
type Partner struct {
	Partner        string    `json:"partner"`
	Rate           gift.Rate `json:"rate"`
	Granted        int       `json:"granted"` // orders that the log calls granted
	PeakPerSecond  int       `json:"peak_per_second"`
	OverrunSeconds int       `json:"overrun_seconds"`
	Books          int       `json:"books"` // orders in the books
}

// Verdict is the outcome of a check.
type Verdict struct {
	Claims         int       `json:"claims"`
	Orders         int       `json:"orders"`
	Granted        int       `json:"granted"`
	Refused        int       `json:"refused"`
	Parked         int       `json:"parked"`
	Unsettled      int       `json:"unsettled"`
	Lost           int       `json:"lost"`
	Doubled        int       `json:"doubled"`
	Unexplained    int       `json:"unexplained"`
	OverrunSeconds int       `json:"overrun_seconds"`
	Oversold       int       `json:"oversold"`
	Partners       []Partner `json:"partners"`
	Promises       []Promise `json:"promises"`
	Examples       []string  `json:"examples,omitempty"` // at most maxExamples breaks, in words
}

const maxExamples = 20

// Kept reports whether all promises were kept.
func (v *Verdict) Kept() bool {
	for _, p := range v.Promises {
		if !p.Kept {
			return false
		}
	}
	return true
}

// order is what the logs say of one.
type order struct {
	partner uint16
	state   gift.State
	open    bool
	claim   *claimed // nil while no log has it
}

// claimed is what is given by a claim.
type claimed struct {
	gift    string // campaign/gift
	orders  int
	refused int
	granted bool     // one of them at least
	other   *claimed // what another node gives by the same claim, if that is another gift
}

// has reports whether a gift is given by the claim.
func (c *claimed) has(gift string) bool {
	for ; c != nil; c = c.other {
		if c.gift == gift {
			return true
		}
	}
	return false
}

// gifts are those of which an order was granted.
func (c *claimed) gifts() (granted []string) {
	for ; c != nil; c = c.other {
		if c.granted {
			granted = append(granted, c.gift)
		}
	}
	return granted
}

type check struct {
	Evidence
	v       Verdict
	orders  map[gift.OrderID]*order
	claims  map[gift.ClaimID]*claimed
	lanes   []string
	lane    map[string]uint16
	taken   map[string]int64 // claims by campaign/gift, less those returned
	damage  []string
	missing int // accepted claims that are not in the log
}

// Check judges the evidence. Damage in a log is part of the verdict; whatever
// could be read is judged all the same.
func Check(e Evidence) *Verdict {
	c := &check{Evidence: e, orders: make(map[gift.OrderID]*order), claims: make(map[gift.ClaimID]*claimed), lane: make(map[string]uint16), taken: make(map[string]int64)}
	merge(e.Logs, c.take, func(err error) { c.damage = append(c.damage, err.Error()) })
	for id := range e.Accepted {
		if c.claims[id] == nil {
			c.missing++
			c.example("claim %v was answered 202 and is not in the log", id)
		}
	}
	c.judgeBooks()
	c.judge()
	return &c.v
}

func (c *check) take(rec *fallbacklog.Record) {
	switch {
	case rec.Claim != nil:
		made := &claimed{gift: rec.Claim.Campaign + "/" + rec.Claim.Gift, orders: len(rec.Claim.Orders)}
		switch known := c.claims[rec.Claim.ID]; {
		case known == nil:
			c.claims[rec.Claim.ID] = made
		case known.has(made.gift):
			return // a repeat that a lost guard let in: same ids, no new obligation
		default:
			made.other, known.other = known.other, made
		}
		c.taken[made.gift]++
		for _, o := range rec.Claim.Orders {
			known := c.orders[o.ID]
			if known == nil {
				known = &order{}
				c.orders[o.ID] = known
				known.apply(rec) // else its outcome came first, by another node's clock
			}
			if known.claim == nil {
				known.partner, known.claim = c.number(o.Partner), made
			}
		}
	case rec.Event != nil:
		known := c.orders[rec.Event.Order]
		if known == nil {
			known = &order{partner: c.number(rec.Event.Partner)}
			c.orders[rec.Event.Order] = known
		}
		known.apply(rec)
	case rec.Kind == fallbacklog.Returned:
		c.taken[rec.Stock.Campaign+"/"+rec.Stock.Gift] -= rec.Stock.Count
	}
}

// apply takes a record in. A grant is never undone, and a refusal by nothing else:
// what another node's log has of the order later was written by who did not know.
func (o *order) apply(rec *fallbacklog.Record) {
	if o.state == gift.StateGranted || o.state == gift.StateRefused && rec.Kind != fallbacklog.Granted {
		return
	}
	s := fallbacklog.Story{State: o.state, Open: o.open}
	s.Apply(rec)
	o.state, o.open = s.State, s.Open
}

func (c *check) number(partner string) uint16 {
	n, ok := c.lane[partner]
	if !ok {
		n = uint16(len(c.lanes))
		c.lane[partner] = n
		c.lanes = append(c.lanes, partner)
	}
	return n
}

// judgeBooks goes through what the partners say they granted.
func (c *check) judgeBooks() {
	granted := make(map[uint16]int)
	books := make(map[string]*partnertest.Books)
	for _, b := range c.Books {
		books[b.Partner] = b
	}
	for id, o := range c.orders {
		c.v.Orders++
		b := books[c.lanes[o.partner]]
		count := 0
		if b != nil {
			count = b.Count(id)
		}
		switch o.state {
		case gift.StateGranted:
			c.v.Granted++
			granted[o.partner]++
			if o.claim != nil {
				o.claim.granted = true
			}
			if b != nil && count == 0 {
				c.v.Lost++
				c.example("order %v is granted in the log and not in the books of %s", id, c.lanes[o.partner])
			}
		case gift.StateRefused:
			c.v.Refused++
			if o.claim != nil {
				o.claim.refused++
			}
			if count > 0 {
				c.v.Unexplained++
				c.example("order %v is refused in the log and granted in the books of %s", id, c.lanes[o.partner])
			}
		case gift.StateParked:
			c.v.Parked++
		default:
			c.v.Unsettled++
			c.example("order %v of %s is still %v", id, c.lanes[o.partner], o.state)
		}
	}
	for _, b := range c.Books {
		rate := c.Rates[b.Partner]
		p := Partner{Partner: b.Partner, Rate: rate, Books: len(b.Grants), Granted: granted[c.number(b.Partner)]}
		p.PeakPerSecond, p.OverrunSeconds = b.Peak(float64(rate))
		for _, g := range b.Grants {
			if g.Count > 1 {
				c.v.Doubled++
				c.example("order %v is %d times in the books of %s", g.OrderID, g.Count, b.Partner)
			}
			o := c.orders[g.OrderID]
			if o == nil || o.partner != c.lane[b.Partner] || o.claim == nil {
				c.v.Unexplained++
				c.example("order %v is in the books of %s and no claim explains it", g.OrderID, b.Partner)
			}
		}
		if b.Truncated {
			c.damage = append(c.damage, "the books of "+b.Partner+" are truncated")
		}
		c.v.OverrunSeconds += p.OverrunSeconds
		c.v.Partners = append(c.v.Partners, p)
	}
}

func (c *check) judge() {
	v := &c.v
	v.Claims = len(c.claims)
	v.Lost += c.missing
	for id, made := range c.claims {
		if gifts := made.gifts(); len(gifts) > 1 {
			v.Doubled += len(gifts) - 1
			c.example("claim %v was given %s", id, strings.Join(gifts, " and "))
		}
	}
	given := c.given()
	var unsold []string
	for _, k := range c.Campaigns {
		for _, g := range k.Gifts {
			name := k.Name + "/" + g.Name
			if more := given[name] - g.Stock; g.Stock > 0 && more > 0 {
				v.Oversold += int(more)
				c.example("%s: %d more than its stock were given", name, more)
			} else if left := g.Stock - c.taken[name]; g.Stock > 0 && left > 0 && c.SoldOut[name] {
				unsold = append(unsold, fmt.Sprintf("%s was called sold out with %d left", name, left))
			}
		}
	}
	tell := func(name string, kept bool, format string, args ...any) {
		v.Promises = append(v.Promises, Promise{Number: len(v.Promises) + 1, Name: name, Kept: kept, Detail: fmt.Sprintf(format, args...)})
	}
	tell("accepted means delivered or accounted for", v.Lost == 0 && v.Unsettled == 0,
		"%d orders: %d granted, %d refused, %d parked; %d unsettled, %d lost", v.Orders, v.Granted, v.Refused, v.Parked, v.Unsettled, v.Lost)
	tell("one claim, one gift", v.Doubled == 0, "%d doubled: orders in the partners' books, or claims given several gifts", v.Doubled)
	tell("no partner is overrun", v.OverrunSeconds == 0, "%d seconds above a partner's rate", v.OverrunSeconds)
	tell("nothing without a claim", v.Unexplained == 0, "%d grants in the books that no claim explains", v.Unexplained)
	stock := fmt.Sprintf("%d given beyond the stock", v.Oversold)
	for _, s := range unsold {
		stock += "; " + s
	}
	tell("stock is never exceeded and never lost", v.Oversold == 0 && len(unsold) == 0, "%s", stock)
	damage := "the log reads back whole"
	if len(c.damage) > 0 {
		damage = c.damage[0]
	}
	tell("damage is loud", len(c.damage) == 0, "%s", damage)
}

// given counts the claims by which something is given: those that were not refused
// whole.
func (c *check) given() map[string]int64 {
	given := make(map[string]int64)
	for _, made := range c.claims {
		for ; made != nil; made = made.other {
			if made.refused < made.orders {
				given[made.gift]++
			}
		}
	}
	return given
}

func (c *check) example(format string, args ...any) {
	if len(c.v.Examples) < maxExamples {
		c.v.Examples = append(c.v.Examples, fmt.Sprintf(format, args...))
	}
}
