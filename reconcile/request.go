package reconcile

import (
	"errors"
	"fmt"
	"time"

	"manna/gift"
)

// Request says what a run looks at.
type Request struct {
	// Orders claimed at From or later and before To. A zero From is the beginning
	// of the log, a zero To has no end. Both count in whole milliseconds.
	From, To time.Time
	Campaign string // only this one; empty: all
	DryRun   bool   // reissue nothing
	By       string // who asks for it, for the history; default "hand"
}

// Slot is the request for the hour that begins at start.
func Slot(start time.Time) Request {
	start = start.UTC().Truncate(time.Hour)
	return Request{From: start, To: start.Add(time.Hour)}
}

// Run is the name of the run, made of nothing but the request: "2027-02-05T20"
// for an hour, "2027-02-05T20..2027-02-05T23" for another range, "@" and the
// campaign where there is one, ".dry-run" for a dry run. It is fit for a file's
// name.
func (q Request) Run() string {
	run := ""
	switch hour := q.From.UTC().Truncate(time.Hour); {
	case !q.From.IsZero() && q.From.Equal(hour) && q.To.Equal(hour.Add(time.Hour)):
		run = bound(q.From, "")
	case q.From.IsZero() && q.To.IsZero():
		run = "all"
	default:
		run = bound(q.From, "start") + ".." + bound(q.To, "end")
	}
	if q.Campaign != "" {
		run += "@" + q.Campaign
	}
	if q.DryRun {
		run += ".dry-run"
	}
	return run
}

func bound(t time.Time, none string) string {
	t = t.UTC()
	switch {
	case t.IsZero():
		return none
	case t.Equal(t.Truncate(time.Hour)):
		return t.Format("2006-01-02T15")
	case t.Equal(t.Truncate(time.Second)):
		return t.Format("2006-01-02T150405")
	}
	return t.Format("2006-01-02T150405.000")
}

func (q *Request) complete() error {
	q.From, q.To = q.From.UTC().Truncate(time.Millisecond), q.To.UTC().Truncate(time.Millisecond)
	if !q.To.IsZero() && !q.From.Before(q.To) {
		return fmt.Errorf("a run from %s to %s looks at nothing: the end has to be after the beginning", q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	}
	if q.Campaign == "" {
		return nil
	}
	if err := gift.CheckName(q.Campaign); err != nil {
		return errors.Join(errors.New("campaign"), err)
	}
	return nil
}
