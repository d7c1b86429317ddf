package producer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// readRecorded reads the claim that the guard knows of, wherever it is recorded.
func (f *Front) readRecorded(ctx context.Context, e *entitlement, at Recorded, p *patience) (Answer, error) {
	if at.Node != "" {
		return f.readForeign(ctx, e, at, p)
	}
	a, err := f.readAt(e.id, at.At)
	if err == nil {
		err = f.complete(ctx, &a, p)
	}
	if err == nil {
		f.replication.hold(ctx, at.At)
	}
	return a, err
}

// errForgotten: the guard knows of a claim that no log has, of a disk that was lost or
// of another cluster. It is only a hint, and eats nobody's claim.
var errForgotten = errors.New("no log has the claim that the guard knows of")

// readForeign reads a claim that another node has recorded: in the ledger, or where
// that does not have it yet, in the repeat itself, if it says enough.
func (f *Front) readForeign(ctx context.Context, e *entitlement, at Recorded, p *patience) (Answer, error) {
	if f.elsewhere == nil {
		return Answer{}, fmt.Errorf("it is recorded on node %s at %v, which this node cannot read", at.Node, at.At)
	}
	s, err := f.elsewhere.claim(ctx, e.id, p)
	if errors.Is(err, ledger.ErrNotFound) && f.elsewhere.lacks(ctx, at, p) {
		// It may have been taken in between the two.
		if s, err = f.elsewhere.claim(ctx, e.id, p); errors.Is(err, ledger.ErrNotFound) {
			return Answer{}, errForgotten
		}
	}
	if err == nil {
		return f.answerOf(&s)
	}
	if a, ok := f.foretell(e); ok {
		return a, nil
	}
	return Answer{}, &gift.Error{Code: gift.Unavailable, Detail: "the claim was accepted by another node and cannot be read here yet; come again", RetryAfter: time.Second}
}

// foretell tells what another node has accepted, where the entitlement leaves no
// choice: no other gift, no substitute, nothing that differs by platform. The
// receipt only those can make who know when it was accepted.
func (f *Front) foretell(e *entitlement) (Answer, bool) {
	c := e.campaign
	if c == nil || e.scene == nil || e.gift == nil || c.Varies() {
		return Answer{}, false
	}
	// Accepted by now, and before the window closed: no order ends later.
	at := f.now().UTC().Truncate(time.Millisecond)
	if at.After(c.Closes) {
		at = c.Closes.UTC()
	}
	claim := c.NewClaim(e.id, e.scene.Name, e.stage, e.user, e.gift, "", nil, at)
	return Answer{Claim: claim, AsOf: c.Opens.UTC()}, true
}

// readAt reads the claim recorded at a position, with its orders' states now.
func (f *Front) readAt(id gift.ClaimID, at fallbacklog.Position) (Answer, error) {
	rec, err := f.log.Read(at)
	if err != nil {
		return Answer{}, err
	}
	if rec.Claim == nil || rec.Claim.ID != id {
		return Answer{}, fmt.Errorf("record %v is not claim %v", at, id)
	}
	a := Answer{Claim: rec.Claim, States: make([]gift.State, len(rec.Claim.Orders)), Receipt: f.receipts.of(rec.Claim)}
	for i, o := range rec.Claim.Orders {
		rows, err := f.log.Lookup(o.ID)
		if err != nil {
			return Answer{}, err
		}
		a.States[i], _ = fallbacklog.StateOf(rows)
	}
	return a, nil
}

// Read gives a claim with its orders' states now. The error has the code
// gift.NotFound where no log has such a claim, and gift.Unavailable where only other
// nodes' logs could have it and the ledger does not answer.
func (f *Front) Read(ctx context.Context, id gift.ClaimID) (Answer, error) {
	rows, err := f.log.Lookup(id)
	if err != nil {
		return Answer{}, err
	}
	if i := slices.IndexFunc(rows, func(r fallbacklog.Row) bool { return r.Kind == fallbacklog.Claimed && r.OfClaim }); i >= 0 {
		return f.readOwn(ctx, id, rows[i].At)
	}
	if f.elsewhere == nil {
		return Answer{}, gift.Errorf(gift.NotFound, "there is no claim %v", id)
	}
	s, err := f.elsewhere.claim(ctx, id, nil)
	switch {
	case err == nil:
		return f.answerOf(&s)
	case !errors.Is(err, ledger.ErrNotFound):
		return Answer{}, unread(fmt.Sprintf("claim %v", id))
	}
	switch _, ok, err := f.guard.Find(ctx, id); {
	case err != nil:
		return Answer{}, unread(fmt.Sprintf("claim %v", id))
	case ok:
		return Answer{}, &gift.Error{Code: gift.Unavailable, Detail: "the claim was accepted a moment ago and cannot be read here yet; come again", RetryAfter: time.Second}
	}
	return Answer{}, gift.Errorf(gift.NotFound, "there is no claim %v", id)
}

// readOwn reads a claim of this node's log.
func (f *Front) readOwn(ctx context.Context, id gift.ClaimID, at fallbacklog.Position) (Answer, error) {
	a, err := f.readAt(id, at)
	if err == nil {
		err = f.complete(ctx, &a, nil)
	}
	return a, err
}

// complete adds to a claim of this node's log what other nodes' logs say of its
// orders: in a cluster that is where outcomes are. Where they say that the claim got
// another gift, which a node recorded that the guard did not keep from it, the answer is
// about that. Where the ledger does not say, it is as old as the claim, unless the log
// itself has the end.
func (f *Front) complete(ctx context.Context, a *Answer, p *patience) error {
	granted := !slices.ContainsFunc(a.States, func(s gift.State) bool { return s != gift.StateGranted })
	if f.elsewhere == nil || granted {
		return nil
	}
	a.AsOf = a.Claim.ClaimedAt
	s, err := f.elsewhere.claim(ctx, a.Claim.ID, p)
	if err != nil {
		return nil
	}
	a.AsOf = latest(a.AsOf, s.AsOf)
	own := ledger.ClaimRow{Node: f.log.Node(), Orders: a.Claim.Orders}
	if s.Claim.Node != own.Node && ledger.Supersedes(&s.Claim, &own, s.Events) {
		if *a, err = f.answerOf(&s); err == nil {
			a.elsewhere = true
		}
		return err
	}
	return f.fold(a, &s)
}

// answerOf is the answer about a claim that only the ledger has.
func (f *Front) answerOf(s *ledger.ClaimStanding) (Answer, error) {
	c := &s.Claim
	claim := &gift.Claim{ID: c.ID, Campaign: c.Campaign, Scene: c.Scene, Stage: c.Stage, User: c.User, Gift: c.Gift, ClaimedAt: c.ClaimedAt, DeliverBy: c.DeliverBy, Orders: c.Orders}
	a := Answer{Claim: claim, States: make([]gift.State, len(claim.Orders)), Receipt: f.receipts.of(claim), AsOf: latest(c.ClaimedAt, s.AsOf)}
	return a, f.fold(&a, s)
}

// fold tells the states of a claim's orders by what this node's log and the ledger
// know of them together.
func (f *Front) fold(a *Answer, s *ledger.ClaimStanding) error {
	for i, o := range a.Claim.Orders {
		own, err := f.log.Told(o.ID)
		if err != nil {
			return err
		}
		a.States[i] = f.together(own, s.Events[o.ID]).State
	}
	return nil
}

// together tells where an order stands by its story in this node's log and what the
// ledger knows. The ledger may have some of the story too; that changes nothing.
func (f *Front) together(own *fallbacklog.Story, events []ledger.OrderEvent) ledger.OrderState {
	return ledger.Fold(append(ledger.EventsOf(f.log.Node(), own.Records), events...))
}

// unread is the answer where only the ledger could know.
func unread(what string) error {
	return &gift.Error{Code: gift.Unavailable, Detail: what + " is not in this node's log, and what other nodes have cannot be read now; come again", RetryAfter: soon()}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// OrderRead is how an order reads over HTTP, for users and for operators alike.
type OrderRead struct {
	OrderID   gift.OrderID `json:"order_id"`
	ClaimID   gift.ClaimID `json:"claim_id"`
	Campaign  string       `json:"campaign"`
	Scene     string       `json:"scene"`
	User      string       `json:"user"`
	Gift      string       `json:"gift"`
	Item      string       `json:"item"`
	Partner   string       `json:"partner"`
	State     gift.State   `json:"state"`
	Attempts  int          `json:"attempts"`
	Reference string       `json:"reference,omitempty"`
	Voucher   string       `json:"voucher,omitempty"`
	Code      string       `json:"code,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	// NextAttemptAt is when a deferred or unknown order is due again.
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
	ClaimedAt     time.Time `json:"claimed_at"`
	UpdatedAt     time.Time `json:"updated_at"`
	// AsOf: whatever had happened before is in the answer; zero where everything is.
	AsOf time.Time `json:"as_of,omitzero"`
}

// ReadOrder tells where an order stands.
func ReadOrder(s *fallbacklog.Story) OrderRead {
	o := OrderRead{
		OrderID: s.Order.ID, ClaimID: s.Claim.ID, Campaign: s.Claim.Campaign, Scene: s.Claim.Scene, User: s.Claim.User,
		Gift: s.Claim.Gift, Item: s.Order.Item, Partner: s.Order.Partner, State: s.State, Attempts: s.Attempts,
		Reference: s.Reference, Voucher: s.Voucher, Code: s.Code, Reason: s.Reason,
		ClaimedAt: s.Claim.ClaimedAt, UpdatedAt: s.Updated,
	}
	if !s.State.Final() {
		o.NextAttemptAt = s.Due
	}
	return o
}

// readOrder tells where an order stands; its errors are those of Read.
func (f *Front) readOrder(ctx context.Context, id gift.OrderID) (OrderRead, error) {
	own, err := f.log.Told(id)
	if err != nil {
		return OrderRead{}, err
	}
	if own.Claim != nil && (f.elsewhere == nil || own.State == gift.StateGranted) {
		return ReadOrder(own), nil
	}
	missing := gift.Errorf(gift.NotFound, "there is no order %v", id)
	if f.elsewhere == nil {
		return OrderRead{}, missing
	}
	row, err := f.elsewhere.order(ctx, id)
	switch known := own.Claim != nil; {
	case err != nil && known:
		o := ReadOrder(own)
		o.AsOf = o.ClaimedAt
		return o, nil
	case err == nil && (known || !row.Claim.ClaimedAt.IsZero()):
		return f.orderOf(own, &row), nil
	case errors.Is(err, ledger.ErrNotFound) && len(own.Records) == 0:
		return OrderRead{}, missing
	}
	// The ledger does not answer, or it has not got the order's claim yet.
	return OrderRead{}, unread(fmt.Sprintf("order %v", id))
}

// orderOf tells where an order stands by what this node's log and the ledger know
// together. What an order is, the own log's claim says, where there is one.
func (f *Front) orderOf(own *fallbacklog.Story, row *ledger.OrderRow) OrderRead {
	c, s := &row.Claim, f.together(own, row.Events)
	o := OrderRead{
		OrderID: row.Order.ID, ClaimID: c.ID, Campaign: c.Campaign, Scene: c.Scene, User: c.User, Gift: c.Gift,
		Item: row.Order.Item, Partner: row.Order.Partner, ClaimedAt: c.ClaimedAt,
	}
	if own.Claim != nil {
		o = ReadOrder(own)
	}
	o.State, o.Attempts, o.Reference, o.Voucher, o.Code, o.Reason = s.State, s.Attempts, s.Reference, s.Voucher, s.Code, s.Reason
	o.NextAttemptAt, o.UpdatedAt, o.AsOf = s.Due, latest(o.ClaimedAt, s.Updated), latest(o.ClaimedAt, row.AsOf)
	return o
}
