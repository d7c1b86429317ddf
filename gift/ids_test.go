package gift_test

import (
	"math"
	"testing"

	"github.com/google/uuid"

	"manna/gift"
)

// Ids are a promise to partners and to every log that was ever written: these
// must never change.
func TestIDsNeverChange(t *testing.T) {
	campaign := gift.NewCampaignID("spring-2027")
	claim := campaign.ClaimID("rain-2000", "user|with|bars", "stage-1")
	order := claim.OrderID("vip-30")
	for _, row := range []struct{ what, got, want string }{
		{"campaign", uuid.UUID(campaign).String(), "6dd9a23a-adc8-55f2-8e4f-556f69885191"},
		{"claim", claim.String(), "f4fb49a2-802b-5295-93f2-b63d0827ab9d"},
		{"order", order.String(), "b66632ad-8c59-566b-a03a-f150da2a7284"},
		{"claim without scene and stage", campaign.ClaimID("", "alice", "").String(), "796730c8-2c9c-5a91-b154-2e436917e283"},
	} {
		if row.got != row.want {
			t.Errorf("%s: got %s, want %s", row.what, row.got, row.want)
		}
	}
}

// The ids are UUIDs of version 5 as RFC 9562 has them, whatever makes them fast.
func TestIDsAreVersion5(t *testing.T) {
	namespace := uuid.NewSHA1(gift.Namespace, []byte("k"))
	want := uuid.NewSHA1(namespace, []byte("scene|user|stage"))
	if got := gift.NewCampaignID("k").ClaimID("scene", "user", "stage"); uuid.UUID(got) != want {
		t.Errorf("claim id %v, want %v", got, want)
	}
	if got := gift.ClaimID(want).OrderID("item"); uuid.UUID(got) != uuid.NewSHA1(want, []byte("item")) {
		t.Errorf("order id %v", got)
	}
}

func TestParseID(t *testing.T) {
	id := gift.NewCampaignID("k").ClaimID("", "u", "")
	if got, err := gift.ParseClaimID(id.String()); err != nil || got != id {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "nonsense", "{" + id.String() + "}", id.String() + "0", "urn:uuid:" + id.String(), id.String()[:35] + "g"} {
		if _, err := gift.ParseClaimID(bad); err == nil {
			t.Errorf("%q was taken for an id", bad)
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]gift.Rate{"3000/s": 3000, "900/m": 15, "7200/h": 2, "0.5/s": 0.5} {
		if got, err := gift.ParseRate(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "3000", "0/s", "-1/s", "NaN/s", "Inf/s", "5/d", "2000000/s"} {
		if got, err := gift.ParseRate(bad); err == nil {
			t.Errorf("%q was taken for %v", bad, got)
		}
	}
}

func TestRateIsWrittenAsItIsRead(t *testing.T) {
	for text, want := range map[string]string{
		"3000/s": "3000/s", "900/m": "15/s", "0.5/s": "30/m", "30/m": "30/m", "100/m": "100/m", "2.5/s": "150/m",
		"50/h": "50/h", "1/h": "1/h", "7/m": "7/m", "0.1/s": "6/m", "1000000/s": "1000000/s", "0.5/h": "0.5/h",
	} {
		r, err := gift.ParseRate(text)
		if err != nil || r.String() != want {
			t.Errorf("%s: got %v, %v; want %s", text, r, err, want)
		}
		if again, err := gift.ParseRate(r.String()); err != nil || math.Abs(float64(again/r-1)) > 1e-12 {
			t.Errorf("%s came back as %v, %v", text, float64(again), err)
		}
	}
}

func TestCheckNameAndUser(t *testing.T) {
	for _, bad := range []string{"", "-x", "a|b", "a b", "ünicode", string(make([]byte, 65))} {
		if gift.CheckName(bad) == nil {
			t.Errorf("%q was taken for a name", bad)
		}
	}
	for _, bad := range []string{"", "a\x00b", "a\nb", "\xff", string(make([]byte, 129))} {
		if gift.CheckUser(bad) == nil {
			t.Errorf("%q was taken for a user", bad)
		}
	}
	if err := gift.CheckUser("ユーザー|1"); err != nil {
		t.Error(err)
	}
}
