package gift

import (
	"fmt"

	"github.com/google/uuid"
)

// Namespace is the root of every id that Manna derives. It never changes:
// changing it would give every claim a second identity, and so a second gift.
var Namespace = uuid.MustParse("6d616e6e-6100-5000-8000-676966740001")

// CampaignID is the namespace of a campaign's claims.
type CampaignID [16]byte

// ClaimID identifies an accepted entitlement: one per (campaign, scene, user,
// stage).
type ClaimID [16]byte

// OrderID identifies the obligation to deliver one item of a claim. It is the
// idempotency key that the partner sees.
type OrderID [16]byte

// NewCampaignID derives the namespace of a campaign from its name.
func NewCampaignID(campaign string) CampaignID {
	return CampaignID(uuid.NewSHA1(Namespace, []byte(campaign)))
}

// ClaimID derives the id of the claim that user makes in scene and stage, each
// of which may be empty where the campaign has none.
func (c CampaignID) ClaimID(scene, user, stage string) ClaimID {
	var room [256]byte
	name := append(room[:0], scene...)
	name = append(name, '|')
	name = append(name, user...)
	name = append(name, '|')
	name = append(name, stage...)
	return ClaimID(derive(c, name))
}

// OrderID derives the id of the order for one item of the claim.
func (c ClaimID) OrderID(item string) OrderID {
	var room [128]byte
	return OrderID(derive(c, append(room[:0], item...)))
}

// ParseClaimID reads the canonical text form of a claim id.
func ParseClaimID(s string) (ClaimID, error) {
	id, err := parseID(s)
	return ClaimID(id), err
}

// ParseOrderID reads the canonical text form of an order id.
func ParseOrderID(s string) (OrderID, error) {
	id, err := parseID(s)
	return OrderID(id), err
}

func (c ClaimID) String() string { return uuid.UUID(c).String() }
func (o OrderID) String() string { return uuid.UUID(o).String() }

// AppendText appends the canonical text form to b.
func (c ClaimID) AppendText(b []byte) ([]byte, error) { return appendID(b, c), nil }

// AppendText appends the canonical text form to b.
func (o OrderID) AppendText(b []byte) ([]byte, error) { return appendID(b, o), nil }

// MarshalText gives the canonical text form.
func (c ClaimID) MarshalText() ([]byte, error) { return appendID(nil, c), nil }

// MarshalText gives the canonical text form.
func (o OrderID) MarshalText() ([]byte, error) { return appendID(nil, o), nil }

// UnmarshalText reads the canonical text form.
func (c *ClaimID) UnmarshalText(text []byte) error {
	id, err := ParseClaimID(string(text))
	if err == nil {
		*c = id
	}
	return err
}

// UnmarshalText reads the canonical text form.
func (o *OrderID) UnmarshalText(text []byte) error {
	id, err := ParseOrderID(string(text))
	if err == nil {
		*o = id
	}
	return err
}

// IsZero reports whether the id is unset.
func (c ClaimID) IsZero() bool { return c == ClaimID{} }

// IsZero reports whether the id is unset.
func (o OrderID) IsZero() bool { return o == OrderID{} }

func parseID(s string) ([16]byte, error) {
	// uuid.Parse also takes the URN, braced and undashed forms; one spelling an
	// id keeps logs and books comparable as text.
	if len(s) != 36 {
		return [16]byte{}, fmt.Errorf("%q is no id: want 36 characters like 6d616e6e-6100-5000-8000-676966740001", clip(s, 60))
	}
	id, err := uuid.Parse(s)
	if err != nil {
		return [16]byte{}, fmt.Errorf("%q is no id: %w", s, err)
	}
	return id, nil
}

const hexDigits = "0123456789abcdef"

func appendID(b []byte, id [16]byte) []byte {
	for i, c := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
