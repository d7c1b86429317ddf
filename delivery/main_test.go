package delivery

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"manna/gift"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testClaim is a claim of user n with one order.
func testClaim(n int) (*gift.Claim, gift.Order) {
	user := fmt.Sprintf("user-%d", n)
	id := gift.NewCampaignID("spring").ClaimID("rain", user, "")
	order := gift.Order{ID: id.OrderID("vip"), Item: "vip", Partner: "midas", SKU: "V30", Quantity: 1, Amount: 500, Currency: "CNY"}
	return &gift.Claim{
		ID: id, Campaign: "spring", Scene: "rain", User: user, Gift: "vip-pack",
		Target: json.RawMessage(`{"wallet":{"id":"w-1"}}`), ClaimedAt: time.Date(2027, 2, 5, 12, 0, 0, 0, time.UTC),
		Orders: []gift.Order{order},
	}, order
}

func newTestHTTP(t *testing.T, o HTTPOptions) *HTTP {
	t.Helper()
	if o.Name == "" {
		o.Name = "midas"
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	h, err := NewHTTP(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func code(o gift.Outcome) string {
	switch o := o.(type) {
	case gift.Refused:
		return o.Code
	case gift.Deferred:
		return o.Code
	case gift.Unknown:
		return o.Code
	}
	return ""
}
