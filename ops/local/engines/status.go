package engines

import (
	"context"
	"fmt"
	"time"
)

// A State is what a server is in; see the package's comment.
type State string

// The states of a server.
const (
	StateDown   State = "down"
	StateUp     State = "up"
	StateSilent State = "silent"
	StatePaused State = "paused"
	StateDead   State = "dead"
)

// A Status is how a server is just now.
type Status struct {
	Name     string  `json:"name"`
	State    State   `json:"state"`
	Address  string  `json:"address"`
	PID      int     `json:"pid,omitempty"`
	AnswerMS float64 `json:"answer_ms,omitempty"` // how long it took to answer
	Error    string  `json:"error,omitempty"`     // why it is not up
	Log      string  `json:"log"`
}

// Status looks at the named servers, all if none is named. It does not wait for
// a command that is at work on the directory.
func (d *Dir) Status(ctx context.Context, names ...string) ([]Status, error) {
	chosen, err := pick(names)
	if err != nil {
		return nil, err
	}
	all := make([]Status, len(chosen))
	waits := make([]func() error, len(chosen))
	for i, s := range chosen {
		waits[i] = async(func() (err error) {
			all[i], err = d.statusOf(ctx, s)
			return err
		})
	}
	for _, wait := range waits {
		if waitErr := wait(); err == nil {
			err = waitErr
		}
	}
	return all, err
}

func (d *Dir) statusOf(ctx context.Context, s server) (Status, error) {
	st := Status{Name: s.name, Address: d.Addr(s.name), Log: d.logFile(s.name), State: StateDown}
	p, known, err := loadProcess(d.file("pid", s.name))
	if err != nil || !known {
		return st, err
	}
	st.PID = p.pid
	switch p.condition() {
	case gone:
		st.State, st.Error = StateDead, fmt.Sprintf("process %d has ended", p.pid)
	case stopped:
		st.State, st.Error = StatePaused, fmt.Sprintf("process %d is stopped", p.pid)
	default:
		began := time.Now()
		if err := d.ask(ctx, s); err != nil {
			st.State, st.Error = StateSilent, err.Error()
		} else {
			st.State, st.AnswerMS = StateUp, float64(time.Since(began).Microseconds())/1000
		}
	}
	return st, nil
}
