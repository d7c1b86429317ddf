package breaker

import (
	"encoding/json"
	"testing"
	"time"
)

func TestText(t *testing.T) {
	in := Snapshot{Name: "queue", Mode: HeldClosed, State: HalfOpen, Calls: 3, Failures: 2, Since: time.Unix(0, 0).UTC()}
	text, err := json.Marshal(in)
	if want := `{"name":"queue","mode":"held_closed","state":"half_open","calls":3,"failures":2,"since":"1970-01-01T00:00:00Z"}`; err != nil || string(text) != want {
		t.Errorf("a snapshot reads %s, %v, want %s", text, err, want)
	}
	var out Snapshot
	if err := json.Unmarshal(text, &out); err != nil || out != in {
		t.Errorf("and back: %+v, %v, want %+v", out, err, in)
	}
	if err := new(Mode).UnmarshalText([]byte("open")); err == nil {
		t.Error("\"open\" is taken for a mode")
	}
	if err := new(State).UnmarshalText([]byte("half-open")); err == nil {
		t.Error("\"half-open\" is taken for a state")
	}
	if got, want := Mode(9).String()+" "+State(9).String(), "Mode(9) State(9)"; got != want {
		t.Errorf("unknown values read %s, want %s", got, want)
	}
}
