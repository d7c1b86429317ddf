package console

import (
	"fmt"
	"io"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/producer"
)

// Story is an order as a support agent reads it.
type Story struct {
	producer.OrderRead
	DeliverBy time.Time `json:"deliver_by"`
	Lines     []Line    `json:"lines"`
	Next      string    `json:"next"` // what happens next, and when
}

// Line is one thing that happened.
type Line struct {
	At       time.Time            `json:"at"`
	What     string               `json:"what"`
	Detail   string               `json:"detail,omitempty"`
	Position fallbacklog.Position `json:"position"`
	Node     string               `json:"node,omitempty"` // whose log it is in; "" for the node that is asked
}

// Tell makes the story of an order readable. now is the reader's clock.
func Tell(s *fallbacklog.Story, now time.Time) Story {
	t := Story{OrderRead: producer.ReadOrder(s), DeliverBy: s.Claim.DeliverBy}
	for _, rec := range s.Records {
		t.Lines = append(t.Lines, tellRecord(rec, s.Order))
	}
	t.Next = next(s, now)
	return t
}

func tellRecord(rec *fallbacklog.Record, o gift.Order) Line {
	l := Line{At: rec.Time, Position: rec.At}
	if rec.Claim != nil {
		l.What = "accepted"
		l.Detail = fmt.Sprintf("user %s claimed %s; %d × %s goes to %s by %s", rec.Claim.User, rec.Claim.Gift, o.Quantity, o.Item, o.Partner, clock(rec.Claim.DeliverBy))
		return l
	}
	e := rec.Event
	said := e.Code
	if e.Reason != "" {
		said += ": " + e.Reason
	}
	switch l.What = rec.Kind.String(); rec.Kind {
	case fallbacklog.Attempted:
		l.Detail = fmt.Sprintf("attempt %d at %s begins", e.Attempts, e.Partner)
	case fallbacklog.Granted:
		l.Detail = fmt.Sprintf("%s granted it on attempt %d", e.Partner, e.Attempts)
		if e.Reference != "" {
			l.Detail += ", reference " + e.Reference
		}
		if e.Code == "granted_before" {
			l.Detail += "; it had been granted before"
		}
	case fallbacklog.Refused:
		l.Detail = fmt.Sprintf("%s said no on attempt %d (%s)", e.Partner, e.Attempts, said)
		if e.Attempts == 0 {
			l.Detail = e.Partner + " was never called: " + said
		}
	case fallbacklog.Deferred:
		l.Detail = fmt.Sprintf("attempt %d was certainly not applied (%s); again at %s", e.Attempts, said, clock(e.Due))
	case fallbacklog.Unknown:
		l.Detail = fmt.Sprintf("after %d attempts and %d queries it is not known whether it was applied (%s); looked at again at %s", e.Attempts, e.Queries, said, clock(e.Due))
	case fallbacklog.Parked:
		l.Detail = "nothing more is tried: " + said
	case fallbacklog.Reissued:
		l.Detail = "put into its lane again by " + e.Run
	}
	return l
}

func next(s *fallbacklog.Story, now time.Time) string {
	late := ""
	if now.After(s.Claim.DeliverBy) {
		late = fmt.Sprintf(" It is past its promise of %s.", clock(s.Claim.DeliverBy))
	}
	switch s.State {
	case gift.StateGranted:
		return "Nothing: it has been handed over."
	case gift.StateRefused:
		if s.Attempts == 0 {
			return "Nothing: it was refused before its partner was called."
		}
		return "Nothing: the partner will not grant it."
	case gift.StateParked:
		return "A person decides: `manna order " + s.Order.ID.String() + " --reissue --why …` puts it into its lane again." + late
	case gift.StateDeferred:
		return "The next attempt, " + when(s.Due, now) + "." + late
	case gift.StateUnknown:
		return "The partner is asked, or called with the same key, " + when(s.Due, now) + "." + late
	}
	if s.Open {
		return "An attempt is under way; if it ended without an outcome it is in doubt and is looked into." + late
	}
	return "Its turn in the lane of " + s.Order.Partner + "." + late
}

func when(due, now time.Time) string {
	if due.IsZero() || !due.After(now) {
		return "as soon as the lane has room for it"
	}
	return fmt.Sprintf("at %s (in %v)", clock(due), due.Sub(now).Round(time.Second))
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// Text writes the story for people, one line for each thing that happened.
func (s *Story) Text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "order %v  %v\n  claim %v  campaign %s  scene %s  user %s  gift %s\n", s.OrderID, s.State, s.ClaimID, s.Campaign, orDash(s.Scene), s.User, s.Gift)
	for _, l := range s.Lines {
		if err == nil {
			_, err = fmt.Fprintf(w, "  %s  %-9s  %s\n", l.At.UTC().Format("2006-01-02 15:04:05.000"), l.What, l.Detail)
		}
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "  next: %s\n", s.Next)
	}
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
