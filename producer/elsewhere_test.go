package producer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk/crashdisk"
	"manna/ledger"
)

// What the guard knows is a hint. A claim that no log has, for its disk was lost or the
// guard is another cluster's, is made anew and not eaten.
func TestClaimThatOnlyTheGuardKnowsIsMadeAnew(t *testing.T) {
	only := Request{Campaign: "spring", User: "u"}
	for name, lost := range map[string]func(*books){
		"its log has been taken in without it": func(l *books) { l.through["a"] = 8 },
		"its node is retired":                  func(l *books) { delete(l.through, "a") },
		"its node has left":                    func(l *books) { delete(l.through, "a"); l.left["a"] = 8 },
	} {
		t.Run(name, func(t *testing.T) {
			_, b, books, shared := pair(t)
			id := gift.NewCampaignID("spring").ClaimID("rain", "u", "")
			shared.recorded[id] = Recorded{Node: "a", At: 7}
			want(t, "while its log may still arrive", b.claim(only).Duplicate, true)
			want(t, "records at b", len(b.records(fallbacklog.Claimed)), 0)
			b.elsewhere.read = time.Time{} // a second later
			lost(books)
			want(t, "duplicate", b.claim(only).Duplicate, false)
			want(t, "records at b", len(b.records(fallbacklog.Claimed)), 1)
			want(t, "its repeat is a duplicate", b.claim(only).Duplicate, true)

			other := Request{Campaign: "spring", User: "v"}
			shared.recorded[gift.NewCampaignID("spring").ClaimID("rain", "v", "")] = Recorded{Node: "a", At: 7}
			results := b.ClaimBatch(t.Context(), []Request{other, only})
			for i, duplicate := range []bool{false, true} {
				if results[i].Err != nil || results[i].Answer.Duplicate != duplicate {
					t.Errorf("claim %d of a batch: %v, %v", i, results[i].Answer.Duplicate, results[i].Err)
				}
			}
		})
	}
}

// A claim whose record is on its way into the ledger is not made anew: neither where it
// comes in between two looks, nor where its node has left, is up again and has not told.
func TestClaimOnItsWayIsNotMadeAnew(t *testing.T) {
	for name, arrange := range map[string]func(l *books, a *fixture){
		"it comes in while it is looked for": func(l *books, a *fixture) {
			l.before = func(call string) {
				if call == "lags" {
					l.before = nil
					l.take(a)
				}
			}
		},
		"its node is back and has not told": func(l *books, _ *fixture) { delete(l.through, "a"); l.left["a"] = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			a, b, books, shared := pair(t)
			made := a.claim(Request{Campaign: "show", Scene: "second", Gift: "duo", User: "u"})
			shared.recorded[made.Claim.ID] = Recorded{Node: "a", At: a.log.First()}
			arrange(books, a)
			answer, err := b.Claim(t.Context(), Request{Campaign: "show", Scene: "second", Gift: "greeting", User: "u"})
			if err == nil && (!answer.Duplicate || answer.Claim.Gift != "duo") || err != nil && !errors.Is(err, &gift.Error{Code: gift.Unavailable}) {
				t.Errorf("got %+v, %v", answer, err)
			}
			want(t, "records at b", len(b.records(fallbacklog.Claimed)), 0)
		})
	}
}

// Without a guard that can be relied on the ledger is asked, for another gift by the same
// claim would be a second one. Where it does not know or does not answer, the claim goes
// on.
func TestWithoutTheGuardTheLedgerIsAsked(t *testing.T) {
	for name, guard := range map[string]Guard{"down": brokenGuard{newMemoryGuard()}, "forgetful": forgetful{newMemoryGuard()}} {
		t.Run(name, func(t *testing.T) {
			books := newBooks()
			a := openNode(t, "a", crashdisk.New(1), "/data", func(o *Options) { o.Elsewhere = books })
			b := openNode(t, "b", crashdisk.New(1), "/data", func(o *Options) { o.Elsewhere, o.Guard = books, steadfast{guard} })
			made := a.claim(Request{Campaign: "show", Scene: "second", Gift: "duo", User: "u"})
			a.clock.move(time.Second)
			books.take(a)
			for range 2 {
				other := b.claim(Request{Campaign: "show", Scene: "second", Gift: "greeting", User: "u"})
				want(t, "duplicate", other.Duplicate, true)
				want(t, "gift", other.Claim.Gift, made.Claim.Gift)
			}
			want(t, "records at b", len(b.records(fallbacklog.Claimed)), 0)
			want(t, "claim that nobody has", b.claim(Request{Campaign: "show", Scene: "second", Gift: "greeting", User: "v"}).Duplicate, false)
			books.is(errors.New("down"), false)
			want(t, "claim without guard and ledger", b.claim(Request{Campaign: "show", Scene: "second", Gift: "greeting", User: "w"}).Duplicate, false)
		})
	}
}

// forgetful is a guard that is never sure.
type forgetful struct{ Guard }

func (g forgetful) Reserve(ctx context.Context, id gift.ClaimID, siblings []gift.ClaimID, limit int) (Reservation, error) {
	r, err := g.Guard.Reserve(ctx, id, siblings, limit)
	r.Unsure = r.Held
	return r, err
}

// A claim that two fronts have recorded with different gifts is read at each as the gift
// that it gets, whichever was first. Until that is known each answers with its own.
func TestClaimWithTwoGiftsIsReadAsTheOneItGets(t *testing.T) {
	for _, gets := range []string{"a", "b"} {
		t.Run(gets, func(t *testing.T) {
			books := newBooks()
			fronts := map[string]*fixture{}
			made, asked := map[string]Answer{}, map[string]Request{}
			for i, node := range []string{"a", "b"} {
				fronts[node] = openNode(t, node, crashdisk.New(1), "/data", func(o *Options) { o.Elsewhere = books })
				asked[node] = Request{Campaign: "show", Scene: "second", Gift: []string{"duo", "greeting"}[i], User: "u"}
				fronts[node].clock.move(time.Duration(i) * time.Second)
				made[node] = fronts[node].claim(asked[node])
				books.take(fronts[node])
			}
			third := openNode(t, "c", crashdisk.New(1), "/data", func(o *Options) { o.Elsewhere = books })
			read := func(f *fixture) Answer {
				t.Helper()
				answer, err := f.Read(t.Context(), made["a"].Claim.ID)
				if err != nil {
					t.Fatal(err)
				}
				return answer
			}
			for node, f := range fronts {
				want(t, "gift before any order was tried, at "+node, read(f).Claim.Gift, asked[node].Gift)
			}
			for node, answer := range made {
				for _, o := range answer.Claim.Orders {
					e := ledger.OrderEvent{Order: o.ID, Node: "c", Kind: fallbacklog.Refused, Code: ledger.GivenElsewhere}
					if node == gets {
						e.Kind, e.Code = fallbacklog.Granted, ""
					}
					books.events[o.ID] = []ledger.OrderEvent{e}
				}
			}
			for node, f := range map[string]*fixture{"a": fronts["a"], "b": fronts["b"], "c": third} {
				answers := []Answer{read(f)}
				if node != "c" {
					answers = append(answers, f.claim(asked[node]))
					sent, err := f.Settle(t.Context(), answers[0].Claim.ID)
					want(t, "sent again", sent, false)
					want(t, "error of settling", err, nil)
				}
				for _, answer := range answers {
					want(t, "gift at "+node, answer.Claim.Gift, asked[gets].Gift)
					want(t, "receipt at "+node, answer.Receipt, made[gets].Receipt)
					want(t, "orders at "+node, len(answer.States), len(made[gets].Claim.Orders))
					for i, s := range answer.States {
						want(t, "order "+answer.Claim.Orders[i].Item, s, gift.StateGranted)
					}
				}
				list, err := f.list(t.Context(), "u", gift.ClaimID{}, 10)
				if err != nil || len(list.Claims) != 1 || !strings.Contains(string(list.Claims[0]), `"gift":"`+asked[gets].Gift+`"`) {
					t.Errorf("the user's claims at %s are %s, %v", node, list.Claims, err)
				}
			}
		})
	}
}

func TestAnyFrontAnswersForAnyClaim(t *testing.T) {
	a, b, books, shared := pair(t)
	req := Request{Campaign: "show", Scene: "second", Gift: "duo", User: "u"}
	made := a.claim(req)
	path, orders := "/v1/claims/"+made.Claim.ID.String(), made.Claim.Orders
	order := func(i int) string { return "/v1/orders/" + orders[i].ID.String() }

	// Nothing has arrived at the ledger, and then at least the guard knows.
	want(t, "unheard of", b.call("GET", path, "").status, 404)
	want(t, "its order", b.call("GET", order(0), "").status, 404)
	shared.recorded[made.Claim.ID] = Recorded{Node: "a", At: 7}
	r := b.call("GET", path, "")
	want(t, "on its way", r.status, 503)
	want(t, "come again after", r.header.Get("Retry-After"), "1")
	b.refused(req, gift.Unavailable)
	want(t, "records at b", len(b.records(fallbacklog.Claimed)), 0)

	a.clock.move(time.Second)
	books.take(a)
	r = b.call("GET", path, "")
	want(t, "status at b", r.status, 200)
	want(t, "receipt at b", r.body["receipt"], any(made.Receipt))
	want(t, "as of", r.body["as_of"], any("2027-02-05T12:01:01Z"))
	repeat := b.claim(req)
	want(t, "duplicate at b", repeat.Duplicate, true)
	want(t, "receipt of the duplicate", repeat.Receipt, made.Receipt)
	want(t, "records at b", len(b.records(fallbacklog.Claimed)), 0)
	if _, busy := b.local.shard(made.Claim.ID).reserved[made.Claim.ID]; busy {
		t.Error("the reservation of a claim that is another node's was not given up")
	}

	// What b itself has done it knows at once, and a once the ledger does.
	b.event(fallbacklog.Granted, made.Claim, 0, func(e *fallbacklog.Event) { e.Reference = "m-1" })
	b.event(fallbacklog.Deferred, made.Claim, 1, func(e *fallbacklog.Event) { e.Code = "busy" })
	r = b.call("GET", order(0), "")
	want(t, "granted at b", r.body["state"], any("granted"))
	want(t, "reference at b", r.body["reference"], any("m-1"))
	want(t, "not yet at a", a.call("GET", order(0), "").body["state"], any("accepted"))
	books.take(b)
	r = a.call("GET", order(0), "")
	want(t, "granted at a", r.body["state"], any("granted"))
	if r.body["as_of"] == nil {
		t.Error("an answer from the ledger does not say as of when")
	}
	states := a.claim(req).States
	want(t, "first order of the repeat", states[0], gift.StateGranted)
	want(t, "second order of the repeat", states[1], gift.StateDeferred)
	b.event(fallbacklog.Refused, made.Claim, 1)
	want(t, "settled at b", b.call("GET", path, "").body["state"], any("settled"))
}

func TestReadsOfADeadLedger(t *testing.T) {
	for name, hung := range map[string]bool{"refuses": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, books, _ := pair(t)
				made := a.claim(Request{Campaign: "show", Scene: "second", Gift: "duo", User: "u"})
				a.event(fallbacklog.Granted, made.Claim, 0)
				books.take(a)
				books.is(errLedger, hung)
				for _, path := range []string{
					"/v1/claims/" + made.Claim.ID.String(), "/v1/orders/" + made.Claim.Orders[1].ID.String(), "/v1/users/u/claims",
				} {
					began := time.Now()
					r := b.call("GET", path, "")
					if r.status != 503 || r.code() != string(gift.Unavailable) || r.header.Get("Retry-After") == "" || time.Since(began) > readWithin {
						t.Errorf("%s at b after %v: %d %s", path, time.Since(began), r.status, r.text)
					}
					// The own log's word is old, and says so.
					began = time.Now()
					r = a.call("GET", path, "")
					if r.status != 200 || r.body["as_of"] == nil || time.Since(began) > readWithin {
						t.Errorf("%s at a after %v: %d %s", path, time.Since(began), r.status, r.text)
					}
					time.Sleep(restFor)
				}
				r := a.call("GET", "/v1/orders/"+made.Claim.Orders[0].ID.String(), "")
				want(t, "what is granted stays granted", r.body["state"], any("granted"))
				want(t, "and is not old", r.body["as_of"], nil)
				want(t, "notes", len(b.Notes()), 1)
				books.is(nil, false)
				time.Sleep(restFor)
				want(t, "read again", b.call("GET", "/v1/claims/"+made.Claim.ID.String(), "").status, 200)
				want(t, "notes", len(b.Notes()), 0)
			})
		})
	}
}

// Claims and repeats go on beside a ledger that hangs, and do not gather before it.
func TestClaimsDoNotWaitForASlowLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, books, _ := pair(t)
		a.claim(Request{Campaign: "spring", User: "u"})
		books.is(nil, true)
		var wg sync.WaitGroup
		began := time.Now()
		for i := range 200 {
			wg.Go(func() {
				got, err := a.Claim(t.Context(), Request{Campaign: "spring", User: "u"})
				if err != nil || !got.Duplicate || got.AsOf.IsZero() {
					t.Errorf("repeat: %+v, %v", got, err)
				}
				if _, err := a.Claim(t.Context(), Request{Campaign: "spring", User: "new" + user(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took > patient {
			t.Errorf("it took %v", took)
		}
		if most := books.most.Load(); most == 0 || most > readers {
			t.Errorf("%d calls were under way at a time", most)
		}
		calls := books.calls.Load()
		a.claim(Request{Campaign: "spring", User: "u"})
		want(t, "calls of a ledger at rest", books.calls.Load(), calls)
	})
}

func TestUserClaimsOfAllNodes(t *testing.T) {
	a, b, books, _ := pair(t)
	var ids []string // newest first
	for i, stage := range []string{"s1", "s2"} {
		f := []*fixture{a, b}[i]
		f.clock.move(time.Duration(i) * time.Minute)
		ids = append([]string{f.claim(Request{Campaign: "show", Scene: "first", Stage: stage, Gift: "pad", Platform: "ios", User: "u"}).Claim.ID.String()}, ids...)
	}
	a.clock.move(2 * time.Minute)
	ids = append([]string{a.claim(Request{Campaign: "spring", User: "u"}).Claim.ID.String()}, ids...)
	list := func(f *fixture, query string) (got []string, r reply) {
		t.Helper()
		r = f.call("GET", "/v1/users/u/claims"+query, "")
		if r.status != 200 {
			return nil, r
		}
		for _, c := range r.body["claims"].([]any) {
			got = append(got, c.(map[string]any)["claim_id"].(string))
		}
		return got, r
	}
	// Of a ledger that has read nothing, a front lists what it accepted itself.
	got, r := list(b, "")
	want(t, "claims at b alone", fmt.Sprint(got), fmt.Sprint(ids[1:2]))
	want(t, "complete up to", r.body["as_of"], any("1970-01-01T00:00:00Z"))
	books.take(a)
	books.take(b)
	for _, f := range []*fixture{a, b} {
		got, _ = list(f, "")
		want(t, "claims at "+f.log.Node(), fmt.Sprint(got), fmt.Sprint(ids))
		got, r = list(f, "?limit=1")
		for len(got) < 3 && r.body["next"] != nil {
			var more []string
			more, r = list(f, "?limit=1&before="+r.body["next"].(string))
			got = append(got, more...)
		}
		want(t, "page by page at "+f.log.Node(), fmt.Sprint(got), fmt.Sprint(ids))
		_, r = list(f, "?before="+gift.ClaimID{9}.String())
		want(t, "status behind a stranger's claim", r.status, 400)
		want(t, "its field", r.body["field"], any("before"))
	}
	books.is(errLedger, false)
	_, r = list(b, "?before="+ids[2])
	want(t, "status where the cursor cannot be looked up", r.status, 503)
}

func TestSettleOverNodes(t *testing.T) {
	a, b, books, _ := pair(t)
	made := a.claim(Request{Campaign: "show", Scene: "second", Gift: "duo", User: "u", Target: []byte(`{"w":1}`)})
	path := "/v1/claims/" + made.Claim.ID.String() + "/settle"
	books.take(a)
	b.clock.move(time.Second)
	b.event(fallbacklog.Granted, made.Claim, 0)
	b.event(fallbacklog.Unknown, made.Claim, 1, func(e *fallbacklog.Event) { e.Attempts, e.Queries, e.Code = 2, 1, "timeout" })
	books.take(b)
	// Only a knows the target.
	r := b.call("POST", path, "")
	want(t, "status at b", r.status, 503)
	want(t, "come again after", r.header.Get("Retry-After"), "1")
	books.is(errLedger, false)
	want(t, "status at a without the ledger", a.call("POST", path, "").status, 503)
	books.is(nil, false)
	a.elsewhere.until = time.Time{}
	want(t, "status at a", a.call("POST", path, "").status, 202)
	if len(a.sent.sent) != 1 {
		t.Fatalf("sent %+v", a.sent.sent)
	}
	m := a.sent.sent[0]
	want(t, "order sent", m.Order.ID, made.Claim.Orders[1].ID)
	want(t, "its target", string(m.Claim.Target), `{"w":1}`)
	want(t, "its attempts", m.Attempts, 2)
	want(t, "its queries", m.Queries, 1)
	want(t, "in doubt", m.InDoubt, true)
	want(t, "since", m.Began, b.clock.now())
	want(t, "status at once again", a.call("POST", path, "").status, 429)
	// An attempt that is under way on another node is left to it.
	a.clock.move(time.Minute)
	b.event(fallbacklog.Attempted, made.Claim, 1)
	books.take(b)
	want(t, "status with an attempt under way", a.call("POST", path, "").status, 200)
	b.event(fallbacklog.Refused, made.Claim, 1)
	books.take(b)
	for _, f := range []*fixture{a, b} {
		r = f.call("POST", path, "")
		want(t, "status once settled", r.status, 200)
		want(t, "state of the claim", r.body["state"], any("settled"))
	}
	want(t, "messages", len(a.sent.sent)+len(b.sent.sent), 1)
}

// Where the entitlement leaves no choice, a repeat is answered before the ledger
// knows.
func TestRepeatOfAClaimThatIsOnItsWay(t *testing.T) {
	_, b, books, shared := pair(t)
	id := gift.NewCampaignID("spring").ClaimID("rain", "u", "")
	shared.recorded[id] = Recorded{Node: "a", At: 7}
	books.is(errLedger, false)
	got := b.claim(Request{Campaign: "spring", User: "u"})
	want(t, "duplicate", got.Duplicate, true)
	want(t, "order", got.Claim.Orders[0].ID, id.OrderID("cash-1"))
	want(t, "receipt", got.Receipt, "")
	r := b.call("POST", "/v1/claims", `{"campaign":"spring","user":"u"}`)
	want(t, "status", r.status, 200)
	// So it is after the window has closed, and never where the campaign is gone.
	b.clock.move(24 * time.Hour)
	want(t, "duplicate after the end", b.claim(Request{Campaign: "spring", User: "u"}).Duplicate, true)
	b.Reload(compileCampaigns(t, testCampaigns()[1]))
	b.refused(Request{Campaign: "spring", Scene: "rain", User: "u"}, gift.Unavailable)
	want(t, "records", len(b.records(fallbacklog.Claimed)), 0)
}
