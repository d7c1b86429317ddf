package breaker

import (
	"fmt"
	"slices"
	"time"
)

// Mode says who decides: the breaker or a person.
type Mode uint8

const (
	Automatic Mode = iota
	HeldOpen
	HeldClosed
)

// State is what a caller meets: for a held breaker the state it is held in.
type State uint8

const (
	Closed   State = iota // calls pass
	HalfOpen              // one probe passes
	Open                  // none passes
)

var (
	modeNames  = []string{Automatic: "automatic", HeldOpen: "held_open", HeldClosed: "held_closed"}
	stateNames = []string{Closed: "closed", HalfOpen: "half_open", Open: "open"}
)

func (m Mode) String() string  { return name(modeNames, int(m), "Mode") }
func (s State) String() string { return name(stateNames, int(s), "State") }

// MarshalText gives "automatic", "held_open" or "held_closed".
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// MarshalText gives "closed", "half_open" or "open".
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText gives.
func (m *Mode) UnmarshalText(text []byte) error {
	i := slices.Index(modeNames, string(text))
	if i < 0 {
		return fmt.Errorf("%q is no mode of a breaker: it is automatic, held_open or held_closed", text)
	}
	*m = Mode(i)
	return nil
}

// UnmarshalText reads what MarshalText gives.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(stateNames, string(text))
	if i < 0 {
		return fmt.Errorf("%q is no state of a breaker: it is closed, half_open or open", text)
	}
	*s = State(i)
	return nil
}

func name(names []string, i int, kind string) string {
	if i >= len(names) {
		return fmt.Sprintf("%s(%d)", kind, i)
	}
	return names[i]
}

// Snapshot is how a breaker stands at one moment.
type Snapshot struct {
	Name  string `json:"name"`
	Mode  Mode   `json:"mode"`
	State State  `json:"state"`
	// Calls and Failures are the results in the window; of a breaker that is
	// open or half-open, those it last opened on.
	Calls    int `json:"calls"`
	Failures int `json:"failures"`
	// Since is when Mode or State last changed.
	Since time.Time `json:"since"`
	// RetryAt is when an open breaker lets a probe try; zero where nothing but a
	// person or a result changes the state.
	RetryAt time.Time `json:"retry_at,omitzero"`
}
