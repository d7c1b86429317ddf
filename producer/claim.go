package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
)

// Request asks for a gift. Scene, Stage and Gift may be empty where there is only
// one; Platform and Target where the gift does not need them.
type Request struct {
	Campaign string
	Scene    string
	Stage    string
	Gift     string
	User     string
	Platform string
	Target   json.RawMessage // a JSON object of at most gift.MaxTarget bytes
}

// Answer is an accepted claim and where its orders stand.
type Answer struct {
	Claim *gift.Claim
	// States are those of Claim.Orders, in their order; nil where the claim was
	// accepted just now, and all are.
	States    []gift.State
	Duplicate bool // the claim had been accepted before
	// Receipt is "" where another node accepted the claim and only that is known.
	Receipt string
	// AsOf: whatever had happened to the orders before is in States; zero where
	// everything is.
	AsOf time.Time

	// elsewhere: this node recorded the claim too, with a gift that it did not get.
	elsewhere bool
}

// Settled reports whether every order of the claim is final.
func (a *Answer) Settled() bool {
	for _, s := range a.States {
		if !s.Final() {
			return false
		}
	}
	return a.States != nil
}

// state is the state of order i.
func (a *Answer) state(i int) gift.State {
	if a.States == nil {
		return gift.StateAccepted
	}
	return a.States[i]
}

// Claim accepts a claim and returns when it is durable, or gives the recorded one
// where it had been accepted before. It trusts the caller about the user. Every
// error is a *gift.Error.
func (f *Front) Claim(ctx context.Context, req Request) (Answer, error) {
	if err := checkTarget(req.Target); err != nil {
		return Answer{}, err
	}
	return f.claim(ctx, &req)
}

// claim is Claim for a request whose target has been checked.
func (f *Front) claim(ctx context.Context, req *Request) (Answer, error) {
	if err := f.enter(1); err != nil {
		f.metrics.refused(err)
		return Answer{}, err
	}
	defer f.leave(1)
	began := time.Now()
	answer, err := f.accept(ctx, req, &patience{})
	f.metrics.claimed(&answer, err, began)
	return answer, err
}

// accept is the claim path; the package comment numbers its steps.
func (f *Front) accept(ctx context.Context, req *Request, p *patience) (Answer, error) {
	now := f.now()
	e, err := f.snapshot.Load().entitle(req, now)
	if err != nil {
		return f.late(ctx, &e, err, p)
	}
	for {
		r, err := f.reserve(ctx, &e, p)
		if err == nil && r.Recorded.Node != "" {
			answer, err := f.repeat(ctx, &e, r.Recorded, p)
			if !errors.Is(err, errForgotten) {
				return answer, err
			}
			r, err = f.local.Reserve(ctx, e.id, e.siblings(), e.campaign.ClaimsPerUser)
			if err != nil {
				return Answer{}, f.ours("claim again what no log has", err)
			}
		}
		switch {
		case err != nil:
			return Answer{}, err
		case r.Busy != nil:
			if err := p.wait(ctx, r.Busy); err != nil {
				return Answer{}, f.ours("wait for a repeat of the claim", err)
			}
			continue
		case !r.Held:
			return f.repeat(ctx, &e, r.Recorded, p)
		}
		return f.record(ctx, &e, now, p)
	}
}

// reserve asks the guard. One that is down, or has forgotten what it was told, does not
// stop a claim: the ledger is asked for a moment in its place, for two nodes that record
// one claim may give different gifts by it.
func (f *Front) reserve(ctx context.Context, e *entitlement, p *patience) (Reservation, error) {
	r, err := f.guard.Reserve(ctx, e.id, e.siblings(), e.campaign.ClaimsPerUser)
	if err == nil && !r.Unsure {
		return r, nil
	}
	if refused, ok := errors.AsType[*gift.Error](err); ok {
		return r, refused
	}
	if ctx.Err() != nil {
		f.guard.Release(e.id)
		return Reservation{}, f.ours("reserve the claim", ctx.Err())
	}
	if err != nil {
		f.metrics.guardless.Inc()
		f.guardless.Tell("claim_id", e.id, "err", err)
	}
	if at, ok := f.recorded(ctx, e.id, p); ok {
		f.guard.Release(e.id)
		return Reservation{Recorded: at}, nil
	}
	return Reservation{Held: true}, nil
}

// recorded asks the ledger, in the guard's place, whether another node has recorded a
// claim. What it cannot tell in a moment counts as no.
func (f *Front) recorded(ctx context.Context, id gift.ClaimID, p *patience) (at Recorded, ok bool) {
	if f.elsewhere == nil {
		return at, false
	}
	s, err := f.elsewhere.claim(ctx, id, p)
	return Recorded{Node: s.Claim.Node, At: s.Claim.At}, err == nil && s.Claim.Node != f.log.Node()
}

// record appends a reserved claim.
func (f *Front) record(ctx context.Context, e *entitlement, now time.Time, patient *patience) (Answer, error) {
	recorded := false
	defer func() {
		if !recorded {
			f.guard.Release(e.id)
		}
	}()
	p, err := f.prepare(ctx, e, now, patient)
	if err != nil {
		return Answer{}, err
	}
	if err := f.log.Append(ctx, &p.record); err != nil {
		p.undo(err)
		return Answer{}, f.ours("append the claim", err)
	}
	// Commit point: the claim is accepted.
	f.guard.Commit(e.id, p.record.At)
	f.newest.raise(p.record.At)
	recorded = true
	f.replication.hold(ctx, p.record.At)
	return f.accepted(p.record.Claim), nil
}

// pending is a claim that has its reservation and its stock, and is about to be
// appended.
type pending struct {
	record fallbacklog.Record
	taken  *counter
}

// prepare takes stock for a reserved claim and builds its record.
func (f *Front) prepare(ctx context.Context, e *entitlement, now time.Time, p *patience) (*pending, error) {
	given, err := f.stock.take(ctx, e, p)
	if err != nil {
		return nil, err
	}
	// What callers read in milliseconds is what the receipt is made of.
	at := now.UTC().Truncate(time.Millisecond)
	claim := e.campaign.NewClaim(e.id, e.scene.Name, e.stage, e.user, given, e.platform, e.target, at)
	return &pending{
		record: fallbacklog.Record{Kind: fallbacklog.Claimed, Time: at, Claim: claim},
		taken:  f.stock.of(claim.Campaign, claim.Gift),
	}, nil
}

// undo gives the stock of a claim back whose append failed, if it is certain that
// nothing was written. Where it is not, the next start counts what is there.
func (p *pending) undo(err error) {
	for _, nothing := range []error{disk.ErrFull, fallbacklog.ErrTooLarge, fallbacklog.ErrClosed, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, nothing) && !errors.Is(err, fallbacklog.ErrPoisoned) {
			p.taken.Add(-1)
			return
		}
	}
}

// accepted is the answer to a claim that was recorded just now.
func (f *Front) accepted(claim *gift.Claim) Answer {
	return Answer{Claim: claim, Receipt: f.receipts.of(claim)}
}

// repeat is the answer to a claim that had been recorded, here or on another node.
func (f *Front) repeat(ctx context.Context, e *entitlement, at Recorded, p *patience) (Answer, error) {
	answer, err := f.readRecorded(ctx, e, at, p)
	if errors.Is(err, errForgotten) {
		return Answer{}, err
	}
	if err != nil {
		return Answer{}, f.ours(fmt.Sprintf("read claim %v again", e.id), err)
	}
	answer.Duplicate = true
	return answer, nil
}

// late is the answer to a claim that may not be made now: the recorded claim where
// it was made before, else the refusal. What was accepted stays accepted, whatever
// a reload has closed or taken away since.
func (f *Front) late(ctx context.Context, e *entitlement, refusal error, p *patience) (Answer, error) {
	if e.id.IsZero() {
		return Answer{}, refusal
	}
	at, ok, err := f.guard.Find(ctx, e.id)
	if err != nil {
		at, ok = f.recorded(ctx, e.id, p)
	}
	if ok {
		answer, err := f.repeat(ctx, e, at, p)
		if !errors.Is(err, errForgotten) {
			return answer, err
		}
	}
	return Answer{}, refusal
}

// ours turns an error that is not the caller's into what the caller is told, and
// logs what it was.
func (f *Front) ours(doing string, err error) error {
	if refused, ok := errors.AsType[*gift.Error](err); ok {
		return refused
	}
	told := &gift.Error{Code: gift.Unavailable, Detail: "the claim could not be handled now; come again", RetryAfter: soon()}
	switch {
	case errors.Is(err, disk.ErrFull):
		told.Detail = "this node has no room left; come again"
	case errors.Is(err, fallbacklog.ErrTooLarge):
		return gift.Errorf(gift.BadRequest, "the claims are too large to be recorded in one commit: send fewer at a time, or smaller targets")
	case errors.Is(err, fallbacklog.ErrPoisoned), errors.Is(err, fallbacklog.ErrClosed):
		told.Detail = "this node is going down; come again"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return told // the caller has gone
	}
	f.unhandled.Tell("cannot", doing, "err", err)
	return told
}

// soon is a pause that spreads callers who come again.
func soon() time.Duration { return time.Duration(1+rand.IntN(5)) * time.Second }
