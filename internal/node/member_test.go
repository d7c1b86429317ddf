package node

import (
	"errors"
	"log/slog"
	"testing"

	"manna/ledger"
)

// during is where lines go to: it is called while one is written.
type during func()

func (d during) Write(p []byte) (int, error) {
	d()
	return len(p), nil
}

// Who could change it before the line is written could also tell that first.
func TestRegisterDoesNotChangeWhileItIsTold(t *testing.T) {
	var m *member
	lines := 0
	m = newMember(roll{}, ledger.Process{Node: "a"}, nil, false, slog.New(slog.NewTextHandler(during(func() {
		if lines++; m.mu.TryLock() {
			m.mu.Unlock()
			t.Error("it may change while a line is written")
		}
	}), nil)))
	m.note(t.Context(), errors.New("it is away"))
	m.note(t.Context(), nil)
	if lines != 2 {
		t.Errorf("%d lines of two changes", lines)
	}
}
