package fallbacklog

import (
	"fmt"
	"time"

	"manna/gift"
)

// Story is where an order stands, told by its records in one log, or in one order.
// Live lanes, recovery and readers of a log all build it with Apply. What several
// nodes' logs come to together ledger.Fold tells, which goes by clocks between them
// and lets a refusal stand.
type Story struct {
	Claim *gift.Claim
	Order gift.Order
	State gift.State
	// Open: an attempt began that has no outcome yet. After a crash that attempt
	// is in doubt.
	Open bool
	// Doubt: an attempt may have been applied and nothing said since tells. It
	// outlasts parking and reissue.
	Doubt     bool
	Attempts  int
	Queries   int
	Began     time.Time // of the last attempt
	Due       time.Time // of the next, where the order is deferred or unknown
	Reference string
	Voucher   string
	Code      string // of the last outcome that was no grant
	Reason    string
	Run       string    // what reissued it last
	Updated   time.Time // time of the last record
	Origin    Position  // of the claim
	Records   []*Record // all of the order's records, oldest first
}

// Apply takes the order's next record in. A grant is never undone, whatever
// comes after it.
func (s *Story) Apply(rec *Record) {
	s.Records = append(s.Records, rec)
	s.Updated = rec.Time
	e := rec.Event
	if rec.Kind == Claimed || e == nil {
		if s.State == 0 {
			s.State = gift.StateAccepted
		}
		return
	}
	if rec.Kind == Reissued {
		// What is known of the order does not change; it is only on its way again,
		// and one that had been parked begins anew, unless it has been attempted since.
		s.Run, s.Due = e.Run, e.Due
		if s.State == gift.StateParked {
			s.State, s.Code, s.Reason = gift.StateAccepted, "", ""
			if !s.Open {
				s.Attempts, s.Queries = 0, 0
			}
		}
		return
	}
	s.Attempts, s.Queries = e.Attempts, e.Queries
	if !e.Began.IsZero() {
		s.Began = e.Began
	}
	s.Open = rec.Kind == Attempted
	if s.State == gift.StateGranted {
		return
	}
	if s.Open {
		s.Doubt = true
		return
	}
	s.State, s.Due, s.Code, s.Reason = rec.Kind.State(), e.Due, e.Code, e.Reason
	switch rec.Kind {
	case Granted:
		s.Doubt, s.Reference, s.Voucher = false, e.Reference, e.Voucher
	case Refused, Deferred:
		s.Doubt = false
	case Unknown:
		s.Doubt = true
	}
}

// StateOf tells an order's state from its index rows alone, in the order in
// which they were appended. open: an attempt began that has no outcome yet.
func StateOf(rows []Row) (state gift.State, open bool) {
	var s Story
	var rec Record
	var event Event
	for _, r := range rows {
		rec.Kind, rec.Event = r.Kind, nil
		if r.Kind != Claimed {
			rec.Event = &event
		}
		s.Apply(&rec)
		s.Records = s.Records[:0]
	}
	return s.State, s.Open
}

// Order tells the story of an order. ErrNotFound where the log has no claim with
// this order.
func (l *Log) Order(id gift.OrderID) (*Story, error) {
	s, err := l.Told(id)
	if err == nil && s.Claim == nil {
		return nil, fmt.Errorf("order %v: %w", id, ErrNotFound)
	}
	return s, err
}

// Told is Order for a log that may not have the claim: what this node has done
// about an order of another's. Its Claim is nil then, and without any record its
// State is 0.
func (l *Log) Told(id gift.OrderID) (*Story, error) {
	rows, err := l.Lookup(id)
	if err != nil {
		return nil, err
	}
	return l.story(id, rows)
}

func (l *Log) story(id gift.OrderID, rows []Row) (*Story, error) {
	s := &Story{Order: gift.Order{ID: id}}
	for _, row := range rows {
		if row.OfClaim {
			break // the id is a claim's
		}
		rec, err := l.Read(row.At)
		if err != nil {
			return nil, err
		}
		if rec.Claim != nil && s.Claim == nil {
			s.Claim, s.Origin = rec.Claim, rec.At
			s.Order, _ = rec.Claim.Order(id)
		}
		s.Apply(rec)
	}
	return s, nil
}

// Claim reads a claim and tells the stories of its orders. ErrNotFound where the
// log does not have it.
func (l *Log) Claim(id gift.ClaimID) (*gift.Claim, []*Story, error) {
	claim, err := l.claimed(id)
	if err != nil {
		return nil, nil, err
	}
	var stories []*Story
	for _, o := range claim.Orders {
		s, err := l.Order(o.ID)
		if err != nil {
			return nil, nil, err
		}
		stories = append(stories, s)
	}
	return claim, stories, nil
}

func (l *Log) claimed(id gift.ClaimID) (*gift.Claim, error) {
	rows, err := l.Lookup(id)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row.Kind == Claimed {
			rec, err := l.Read(row.At)
			if err != nil {
				return nil, err
			}
			return rec.Claim, nil
		}
	}
	return nil, fmt.Errorf("claim %v: %w", id, ErrNotFound)
}
