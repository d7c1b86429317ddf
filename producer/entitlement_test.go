package producer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"manna/fallbacklog"
	"manna/gift"
)

func TestClaimsPerUser(t *testing.T) {
	f := openFixture(t)
	req := func(stage string) Request {
		return Request{Campaign: "show", Scene: "first", Stage: stage, Gift: "pad", Platform: "ios", User: "u1"}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted := map[string]bool{}
	for range 4 {
		for _, stage := range []string{"s1", "s2", "s3"} {
			wg.Go(func() {
				_, err := f.Claim(context.Background(), req(stage))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					accepted[stage] = true
				} else if !errors.Is(err, &gift.Error{Code: gift.LimitReached}) {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	want(t, "stages", len(accepted), 2)
	want(t, "records", len(f.records(fallbacklog.Claimed)), 2)
	f = f.reopen()
	for _, stage := range []string{"s1", "s2", "s3"} {
		if accepted[stage] {
			want(t, "duplicate", f.claim(req(stage)).Duplicate, true)
		} else {
			f.refused(req(stage), gift.LimitReached)
		}
	}
	// Another scene is another limit.
	f.claim(Request{Campaign: "show", Scene: "second", Gift: "pad", Platform: "ios", User: "u1"})
}

func TestRefusals(t *testing.T) {
	f := openFixture(t)
	for _, c := range []struct {
		name  string
		req   Request
		code  gift.Code
		field string
	}{
		{"no campaign", Request{User: "u"}, gift.BadRequest, "campaign"},
		{"unknown campaign", Request{Campaign: "winter", User: "u"}, gift.CampaignUnknown, "campaign"},
		{"no user", Request{Campaign: "spring"}, gift.BadRequest, "user"},
		{"NUL in user", Request{Campaign: "spring", User: "a\x00b"}, gift.BadRequest, "user"},
		{"user not UTF-8", Request{Campaign: "spring", User: "\xff"}, gift.BadRequest, "user"},
		{"unknown scene", Request{Campaign: "spring", Scene: "snow", User: "u"}, gift.BadRequest, "scene"},
		{"no scene of several", Request{Campaign: "show", Gift: "pad", User: "u"}, gift.BadRequest, "scene"},
		{"unknown stage", Request{Campaign: "spring", Stage: "s9", User: "u"}, gift.BadRequest, "stage"},
		{"no stage of several", Request{Campaign: "show", Scene: "first", Gift: "pad", User: "u"}, gift.BadRequest, "stage"},
		{"unknown gift", Request{Campaign: "spring", Gift: "moon", User: "u"}, gift.BadRequest, "gift"},
		{"no gift of several", Request{Campaign: "show", Scene: "second", User: "u"}, gift.BadRequest, "gift"},
		{"no platform", Request{Campaign: "show", Scene: "second", Gift: "pad", User: "u"}, gift.BadRequest, "platform"},
		{"unknown platform", Request{Campaign: "show", Scene: "second", Gift: "pad", Platform: "psion", User: "u"}, gift.BadRequest, "platform"},
		{"platform that is no name", Request{Campaign: "spring", Platform: "a b", User: "u"}, gift.BadRequest, "platform"},
		{"nothing for the platform", Request{Campaign: "show", Scene: "second", Gift: "pad", Platform: "android", User: "u"}, gift.NotEligible, "platform"},
		{"not open", Request{Campaign: "later", User: "u"}, gift.CampaignNotOpen, ""},
		{"closed", Request{Campaign: "over", User: "u"}, gift.CampaignClosed, ""},
		{"target no object", Request{Campaign: "spring", User: "u", Target: []byte(`[1]`)}, gift.BadRequest, "target"},
		{"target no JSON", Request{Campaign: "spring", User: "u", Target: []byte(`{"a":}`)}, gift.BadRequest, "target"},
		{"target and more", Request{Campaign: "spring", User: "u", Target: []byte(`{} {}`)}, gift.BadRequest, "target"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.Claim(context.Background(), c.req)
			told, ok := errors.AsType[*gift.Error](err)
			if !ok || told.Code != c.code || told.Field != c.field {
				t.Errorf("got %v, want %s %s", err, c.code, c.field)
			}
		})
	}
	want(t, "records", len(f.records(fallbacklog.Claimed)), 0)
}

func TestOnlyGiftIgnoresSubstitutes(t *testing.T) {
	c := testCampaigns()[1]
	c.Gifts = c.Gifts[:2]
	f := openFixture(t, func(o *Options) { o.Snapshot = compileCampaigns(t, c) })
	a := f.claim(Request{Campaign: "show", Scene: "second", Platform: "web", User: "u1", Gift: "greeting"})
	want(t, "gift asked for", a.Claim.Gift, "greeting")
	a = f.claim(Request{Campaign: "show", Scene: "second", Platform: "ios", User: "u2"})
	want(t, "only gift", a.Claim.Gift, "pack")
	want(t, "orders", len(a.Claim.Orders), 2)
}

func TestWindowEdgesAndLateRepeats(t *testing.T) {
	f := openFixture(t)
	f.clock.at.Store(opens.UnixNano())
	f.claim(Request{Campaign: "spring", User: "first"})
	f.clock.at.Store(opens.Add(-time.Nanosecond).UnixNano())
	f.refused(Request{Campaign: "spring", User: "early"}, gift.CampaignNotOpen)
	f.clock.at.Store(opens.Add(time.Hour - time.Nanosecond).UnixNano())
	f.claim(Request{Campaign: "spring", User: "last"})
	f.clock.at.Store(opens.Add(time.Hour).UnixNano())
	f.refused(Request{Campaign: "spring", User: "late"}, gift.CampaignClosed)
	// The answer to the last claim may have been lost: its repeat still gets it.
	want(t, "duplicate", f.claim(Request{Campaign: "spring", User: "last"}).Duplicate, true)
}

// A claim stays the user's whatever a reload closes or takes away: its repeat gets
// what was recorded, and everybody else the refusal.
func TestLateRepeatAfterAReload(t *testing.T) {
	asked := Request{Campaign: "show", Scene: "first", Stage: "s2", Gift: "pad", Platform: "ios"}
	short := Request{Campaign: "spring"} // the only scene, stage and gift there are
	for _, c := range []struct {
		name   string
		req    Request
		change func(show, spring *gift.Campaign)
		keep   func(*gift.Campaign) bool
		code   gift.Code
		field  string
	}{
		{"campaign closed", asked, func(show, _ *gift.Campaign) { show.Closes = opens.Add(time.Second) }, nil, gift.CampaignClosed, ""},
		{"campaign put off", asked, func(show, _ *gift.Campaign) { show.Opens = opens.Add(30 * time.Minute) }, nil, gift.CampaignNotOpen, ""},
		{"campaign removed", asked, nil, func(c *gift.Campaign) bool { return c.Name != "show" }, gift.CampaignUnknown, "campaign"},
		{"stage removed", asked, func(show, _ *gift.Campaign) { show.Scenes[0].Stages = []string{"s1", "s3"} }, nil, gift.BadRequest, "stage"},
		{"scene removed", asked, func(show, _ *gift.Campaign) { show.Scenes = show.Scenes[1:] }, nil, gift.BadRequest, "scene"},
		{"gift removed", asked, func(show, _ *gift.Campaign) { show.Gifts = show.Gifts[:3] }, nil, gift.BadRequest, "gift"},
		{"platform removed", asked, func(show, _ *gift.Campaign) { show.Gifts[3].Items[0].Platforms = []string{"web"} }, nil, gift.NotEligible, "platform"},
		{"platform unknown", asked, func(show, _ *gift.Campaign) {
			show.Gifts = show.Gifts[1:]
			show.Gifts[2].Items[0].Platforms = []string{"web"}
		}, nil, gift.BadRequest, "platform"},
		{"another only gift", short, func(_, spring *gift.Campaign) { spring.Gifts[0].Name = "coins" }, nil, "", ""},
		{"a second gift", short, func(_, spring *gift.Campaign) {
			second := *spring.Gifts[0]
			second.Name = "coins"
			spring.Gifts = append(spring.Gifts, &second)
		}, nil, gift.BadRequest, "gift"},
		{"a user who is not eligible any more", short, func(_, spring *gift.Campaign) { spring.Segment = writeBitmap(t, roaring.BitmapOf(7)) }, nil, gift.NotEligible, "user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := openFixture(t)
			c.req.User = "u1"
			first := f.claim(c.req)
			next := testCampaigns()
			if c.change != nil {
				c.change(next[1], next[0])
			}
			if c.keep != nil {
				next = slices.DeleteFunc(next, func(k *gift.Campaign) bool { return !c.keep(k) })
			}
			f.Reload(compileCampaigns(t, next...))
			again := f.claim(c.req)
			want(t, "duplicate", again.Duplicate, true)
			want(t, "receipt", again.Receipt, first.Receipt)
			// In a batch as by itself.
			other := c.req
			other.User = "u2"
			results := f.ClaimBatch(t.Context(), []Request{c.req, other})
			if results[0].Err != nil || !results[0].Answer.Duplicate {
				t.Errorf("in a batch: %+v", results[0])
			}
			if c.code == "" {
				want(t, "another user in a batch", results[1].Err, nil)
				return
			}
			told := f.refused(other, c.code)
			want(t, "field", told.Field, c.field)
			want(t, "records", len(f.records(fallbacklog.Claimed)), 1)
		})
	}
}
