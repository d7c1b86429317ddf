package console

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// foreign is a claim that node b accepted, as the ledger has it.
func foreign(user string, at time.Time) ledger.ClaimRow {
	id := gift.NewCampaignID("spring").ClaimID("", user, "")
	return ledger.ClaimRow{
		ID: id, User: user, Campaign: "spring", Gift: "pack", ClaimedAt: at, DeliverBy: at.Add(time.Hour), Node: "b", At: fallbacklog.At(1, 1024),
		Orders: []gift.Order{{ID: id.OrderID("vip"), Item: "vip", Partner: "midas", Quantity: 1}},
	}
}

// event is what node's log says of the first order of a claim.
func event(c *ledger.ClaimRow, node string, kind fallbacklog.Kind, at time.Time, reference string) ledger.OrderEvent {
	return ledger.OrderEvent{
		Order: c.Orders[0].ID, Claim: c.ID, Campaign: c.Campaign, Partner: c.Orders[0].Partner,
		Node: node, At: fallbacklog.At(2, 1024), Time: at, Kind: kind, Attempts: 1, Reference: reference,
	}
}

// row is the ledger's answer for the first order of a claim.
func row(c *ledger.ClaimRow, asOf time.Time, events ...ledger.OrderEvent) ledger.OrderRow {
	claim := *c
	claim.Orders = nil
	return ledger.OrderRow{Order: c.Orders[0], Claim: claim, Events: events, AsOf: asOf}
}

func TestStoriesOverSeveralLogs(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	asOf := now.Add(-time.Second)
	for name, c := range map[string]struct {
		here   bool                                    // this node's log has the claim
		ahead  bool                                    // the other node's clock is
		then   func(d *desk, c *gift.Claim)            // what this node's log has besides
		ledger func(s *shared, claim *ledger.ClaimRow) // what the ledger has
		status int
		state  gift.State
		lines  string // what and @node, "" being this one
		asOf   any
		words  []string
	}{
		"claimed here, granted there": {
			here: true, ledger: func(s *shared, c *ledger.ClaimRow) {
				s.orders[c.Orders[0].ID] = row(c, asOf, event(c, "b", fallbacklog.Granted, now.Add(time.Minute), "R"))
			},
			status: http.StatusOK, state: gift.StateGranted, lines: "accepted@ granted@b", asOf: asOf, words: []string{"reference R"}},
		"what the ledger has of this node's log, that has better": {
			here: true, then: func(d *desk, c *gift.Claim) { d.happens(fallbacklog.Granted, c, fallbacklog.Event{Reference: "mine"}) },
			ledger: func(s *shared, c *ledger.ClaimRow) {
				s.orders[c.Orders[0].ID] = row(c, asOf, event(c, "a", fallbacklog.Deferred, now.Add(time.Minute), ""))
			},
			status: http.StatusOK, state: gift.StateGranted, lines: "accepted@ granted@", asOf: asOf, words: []string{"reference mine"}},
		"claimed there, and nothing since": {
			ledger: func(s *shared, c *ledger.ClaimRow) { s.orders[c.Orders[0].ID] = row(c, asOf) },
			status: http.StatusOK, state: gift.StateAccepted, lines: "accepted@b", asOf: asOf, words: []string{"user u claimed pack"}},
		"claimed there by a clock that is ahead, granted elsewhere": {
			ledger: func(s *shared, c *ledger.ClaimRow) {
				s.orders[c.Orders[0].ID] = row(c, asOf, event(c, "c", fallbacklog.Granted, c.ClaimedAt.Add(-time.Minute), "R"))
			},
			status: http.StatusOK, state: gift.StateGranted, lines: "accepted@b granted@c", asOf: asOf},
		"claimed there, granted here": {
			then:   func(d *desk, c *gift.Claim) { d.happens(fallbacklog.Granted, c, fallbacklog.Event{Reference: "mine"}) },
			ledger: func(s *shared, c *ledger.ClaimRow) { s.orders[c.Orders[0].ID] = row(c, asOf) },
			status: http.StatusOK, state: gift.StateGranted, lines: "accepted@b granted@", asOf: asOf},
		"claimed there by a clock that is ahead, granted here": {
			ahead: true, then: func(d *desk, c *gift.Claim) { d.happens(fallbacklog.Granted, c, fallbacklog.Event{Reference: "mine"}) },
			ledger: func(s *shared, c *ledger.ClaimRow) { s.orders[c.Orders[0].ID] = row(c, asOf) },
			status: http.StatusOK, state: gift.StateGranted, lines: "accepted@b granted@", asOf: asOf},
		"events of several nodes, by their times": {
			ledger: func(s *shared, c *ledger.ClaimRow) {
				s.orders[c.Orders[0].ID] = row(c, time.Time{},
					event(c, "c", fallbacklog.Granted, c.ClaimedAt.Add(3*time.Second), "R"), event(c, "b", fallbacklog.Attempted, c.ClaimedAt.Add(time.Second), ""), event(c, "b", fallbacklog.Unknown, c.ClaimedAt.Add(2*time.Second), ""))
			},
			status: http.StatusOK, state: gift.StateGranted, lines: "accepted@b attempted@b unknown@b granted@c"},
		"parked by who had not heard of the refusal": {
			ledger: func(s *shared, c *ledger.ClaimRow) {
				s.orders[c.Orders[0].ID] = row(c, time.Time{},
					event(c, "b", fallbacklog.Refused, c.ClaimedAt.Add(time.Second), ""), event(c, "c", fallbacklog.Parked, c.ClaimedAt.Add(5*time.Minute), ""))
			},
			status: http.StatusOK, state: gift.StateRefused, lines: "accepted@b refused@b parked@c", words: []string{"the partner will not grant it"}},
		"refused without a call": {
			ledger: func(s *shared, c *ledger.ClaimRow) {
				e := event(c, "b", fallbacklog.Refused, c.ClaimedAt.Add(time.Second), "")
				e.Attempts, e.Code, e.Reason = 0, ledger.GivenElsewhere, "it gets another"
				s.orders[c.Orders[0].ID] = row(c, time.Time{}, e)
			},
			status: http.StatusOK, state: gift.StateRefused, lines: "accepted@b refused@b",
			words: []string{"midas was never called: given_elsewhere: it gets another", "refused before its partner was called"}},
		"claimed here, and the ledger is away": {
			here: true, ledger: func(s *shared, _ *ledger.ClaimRow) { s.fail = errServer },
			status: http.StatusOK, state: gift.StateAccepted, lines: "accepted@", asOf: "the claim"},
		"claimed here, and the ledger knows nothing yet": {
			here: true, ledger: func(*shared, *ledger.ClaimRow) {}, status: http.StatusOK, state: gift.StateAccepted, lines: "accepted@", asOf: "the claim"},
		"not here, and the ledger is away": {
			ledger: func(s *shared, _ *ledger.ClaimRow) { s.fail = errServer }, status: http.StatusServiceUnavailable,
			words: []string{"not in the log of node a", "the ledger does not answer", "connection refused"}},
		"nowhere": {
			ledger: func(*shared, *ledger.ClaimRow) {}, status: http.StatusNotFound, words: []string{"nor in the ledger yet", "manna claim"}},
		"an outcome whose claim has not arrived": {
			ledger: func(s *shared, c *ledger.ClaimRow) {
				r := row(c, asOf, event(c, "c", fallbacklog.Granted, now, "R"))
				r.Claim.ClaimedAt = time.Time{}
				s.orders[c.Orders[0].ID] = r
			},
			status: http.StatusServiceUnavailable, words: []string{"has not been taken in yet"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, s := openShared(t)
			s.orders = make(map[gift.OrderID]ledger.OrderRow)
			claim := foreign("u", now.Add(-time.Minute))
			if c.ahead {
				claim = foreign("u", now.Add(time.Hour))
			}
			of := claimOf(&claim)
			if c.here {
				of, _ = d.claim("u")
				claim.ID, claim.Orders = of.ID, of.Orders
			}
			if c.then != nil {
				c.then(d, of)
			}
			c.ledger(s, &claim)
			r := d.call(c.status, "GET", "/v1/admin/orders/"+claim.Orders[0].ID.String(), "")
			says(t, "the story", r.text, c.words...)
			if s.endless {
				t.Error("the ledger was asked without a bound")
			}
			if strings.Contains(r.text, "nil") {
				t.Errorf("it says what only a program understands: %s", r.text)
			}
			if c.status != http.StatusOK {
				if c.status == http.StatusServiceUnavailable && r.header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				return
			}
			same(t, "state", r.body["state"], any(c.state.String()))
			var lines []string
			for _, l := range r.body["lines"].([]any) {
				l := l.(map[string]any)
				node, _ := l["node"].(string)
				lines = append(lines, l["what"].(string)+"@"+node)
			}
			same(t, "lines", strings.Join(lines, " "), c.lines)
			want := c.asOf
			switch at := c.asOf.(type) {
			case time.Time:
				want = at.Format(time.RFC3339Nano)
			case string:
				want = of.ClaimedAt.Format(time.RFC3339Nano)
			}
			same(t, "as_of", r.body["as_of"], want)
		})
	}
}

// The stock of a claim that was refused may be another's by now.
func TestWhatWasRefusedOnAnotherNodeIsNotTakenUpAgain(t *testing.T) {
	d, s := openShared(t)
	made, order := d.claim("u")
	d.happens(fallbacklog.Parked, made, fallbacklog.Event{Attempts: 3})
	claim := ledger.ClaimRow{ID: made.ID, Campaign: made.Campaign, Gift: made.Gift, ClaimedAt: made.ClaimedAt, Orders: made.Orders, Node: "a"}
	s.orders = map[gift.OrderID]ledger.OrderRow{
		order.ID: row(&claim, time.Time{}, event(&claim, "b", fallbacklog.Refused, made.ClaimedAt.Add(-time.Minute), "")),
	}
	path := "/v1/admin/orders/" + order.ID.String() + "/reissue"
	says(t, "a reissue", d.call(http.StatusBadRequest, "POST", path, `{"why":"x"}`).text, "is refused")
	same(t, "records", len(d.records(fallbacklog.Reissued)), 0)
	delete(s.orders, order.ID)
	d.call(http.StatusOK, "POST", path, `{"why":"x"}`)
	same(t, "records", len(d.records(fallbacklog.Reissued)), 1)
}

func TestClaimOfAnotherNode(t *testing.T) {
	d, s := openShared(t)
	at := time.Now().UTC().Add(-time.Minute).Truncate(time.Millisecond)
	claim := foreign("u", at)
	path := "/v1/admin/claims/" + claim.ID.String()
	says(t, "one that is nowhere", d.call(http.StatusNotFound, "GET", path, "").text, "manna order")
	s.fail = errServer
	says(t, "with the ledger away", d.call(http.StatusServiceUnavailable, "GET", path, "").text, "the ledger does not answer")
	s.fail = nil
	s.claims = map[gift.ClaimID]ledger.ClaimStanding{claim.ID: {Claim: claim}}
	s.orders = map[gift.OrderID]ledger.OrderRow{claim.Orders[0].ID: row(&claim, at)}
	r := d.call(http.StatusOK, "GET", path, "")
	same(t, "state", r.body["state"], any("accepted"))
	says(t, "the claim", r.text, `"user":"u"`, `"node":"b"`, `"as_of"`)
	s.orders[claim.Orders[0].ID] = row(&claim, at, event(&claim, "c", fallbacklog.Granted, at.Add(time.Second), "R"))
	same(t, "state once it is granted", d.call(http.StatusOK, "GET", path, "").body["state"], any("settled"))

	// Only the node that has the claim has its target.
	r = d.call(http.StatusBadRequest, "POST", "/v1/admin/orders/"+claim.Orders[0].ID.String()+"/reissue", `{"why":"x"}`)
	says(t, "a reissue of it", r.text, "claimed at node b", "ask there")
	same(t, "records", len(d.records(fallbacklog.Reissued)), 0)
	if s.endless {
		t.Error("the ledger was asked without a bound")
	}
}

// What a person asks for is the gift that the user gets, not what this node recorded when
// the guard did not keep another from it.
func TestClaimWithTwoGiftsIsToldAsTheOneItGets(t *testing.T) {
	d, s := openShared(t)
	made, passed := d.claim("u")
	other := foreign("u", made.ClaimedAt.Add(time.Second))
	other.ID, other.Gift = made.ID, "other"
	other.Orders[0].ID = made.ID.OrderID("other")
	refused := ledger.OrderEvent{Order: passed.ID, Claim: made.ID, Node: "c", Kind: fallbacklog.Refused, Time: other.ClaimedAt, Code: ledger.GivenElsewhere}
	granted := event(&other, "c", fallbacklog.Granted, other.ClaimedAt, "R")
	s.orders = map[gift.OrderID]ledger.OrderRow{other.Orders[0].ID: row(&other, time.Time{}, granted)}
	standing := ledger.ClaimStanding{Claim: other}
	s.claims = map[gift.ClaimID]ledger.ClaimStanding{made.ID: standing}
	path := "/v1/admin/claims/" + made.ID.String()
	same(t, "gift while nothing came of either", d.call(http.StatusOK, "GET", path, "").body["gift"], any(made.Gift))
	standing.Events = map[gift.OrderID][]ledger.OrderEvent{passed.ID: {refused}, granted.Order: {granted}}
	s.claims[made.ID] = standing
	r := d.call(http.StatusOK, "GET", path, "")
	same(t, "gift", r.body["gift"], any("other"))
	same(t, "state", r.body["state"], any("settled"))
	says(t, "the claim", r.text, "reference R")
	s.fail = errServer
	same(t, "gift with the ledger away", d.call(http.StatusOK, "GET", path, "").body["gift"], any(made.Gift))
}
