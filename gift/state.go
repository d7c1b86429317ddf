package gift

import "fmt"

// State is where an order stands. The package comment draws the moves.
type State uint8

const (
	StateAccepted State = iota + 1 // not tried yet
	StateDeferred                  // certainly not applied; due later
	StateUnknown                   // may have been applied
	StateGranted
	StateRefused
	StateParked
)

var stateNames = [...]string{StateAccepted: "accepted", StateDeferred: "deferred", StateUnknown: "unknown", StateGranted: "granted", StateRefused: "refused", StateParked: "parked"}

func (s State) String() string {
	if s < StateAccepted || s > StateParked {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return stateNames[s]
}

// MarshalText gives the name of the state.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name of a state.
func (s *State) UnmarshalText(text []byte) error {
	for i := StateAccepted; i <= StateParked; i++ {
		if stateNames[i] == string(text) {
			*s = i
			return nil
		}
	}
	return fmt.Errorf("%q is no state of an order", text)
}

// Final reports whether nothing more happens to the order by itself.
func (s State) Final() bool { return s >= StateGranted }
