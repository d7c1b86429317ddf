package reconcile

import (
	"testing"

	"manna/fallbacklog"
	"manna/gift"
)

// rowsAt makes evidence: of each log, kinds with their times in seconds.
type rowsAt []struct {
	log  uint16
	kind fallbacklog.Kind
	at   int64
}

func (list rowsAt) evidence() *evidence {
	e := &evidence{}
	for i, r := range list {
		e.rows = append(e.rows, fallbacklog.Row{Kind: r.kind, Time: 1000 * r.at, At: fallbacklog.Position(i + 1)})
		e.logs = append(e.logs, r.log)
	}
	return e
}

// Where an order stands that several nodes have written of, whose clocks may be a
// minute apart.
func TestWhereAnOrderStandsInSeveralLogs(t *testing.T) {
	const (
		claimed, attempted, refused       = fallbacklog.Claimed, fallbacklog.Attempted, fallbacklog.Refused
		deferred, unknown                 = fallbacklog.Deferred, fallbacklog.Unknown
		parked, reissued                  = fallbacklog.Parked, fallbacklog.Reissued
		slack                       int64 = 60_000
	)
	for name, c := range map[string]struct {
		rows rowsAt
		want gift.State
		open bool
	}{
		"claimed alone":                      {rowsAt{{0, claimed, 0}}, gift.StateAccepted, false},
		"claimed by two":                     {rowsAt{{0, claimed, 0}, {1, claimed, 10}}, gift.StateAccepted, false},
		"deferred before its claim by stamp": {rowsAt{{0, claimed, 20}, {1, deferred, 0}}, gift.StateDeferred, false},
		"an attempt nobody settled":          {rowsAt{{0, claimed, 0}, {1, attempted, 10}}, gift.StateAccepted, true},
		"settled well after":                 {rowsAt{{0, claimed, 0}, {1, attempted, 10}, {2, deferred, 70}}, gift.StateDeferred, false},
		"settled, or begun after that":       {rowsAt{{0, claimed, 0}, {1, attempted, 10}, {2, deferred, 69}}, gift.StateDeferred, true},
		"begun well after it was deferred":   {rowsAt{{0, claimed, 0}, {1, attempted, 200}, {2, deferred, 70}}, gift.StateDeferred, true},
		"unknown, then clearly not applied":  {rowsAt{{0, claimed, 0}, {1, unknown, 10}, {2, deferred, 70}}, gift.StateDeferred, false},
		"unknown, and perhaps after that":    {rowsAt{{0, claimed, 0}, {1, unknown, 10}, {2, deferred, 30}}, gift.StateUnknown, false},
		"settled by its own log":             {rowsAt{{0, claimed, 0}, {1, attempted, 10}, {1, deferred, 11}, {2, reissued, 500}}, gift.StateDeferred, false},
		"refused, another's copy goes on":    {rowsAt{{0, claimed, 0}, {1, refused, 10}, {2, deferred, 30}}, gift.StateRefused, false},
		"refused, and a late copy goes on":   {rowsAt{{0, claimed, 0}, {1, refused, 10}, {2, deferred, 300}}, gift.StateRefused, false},
		"refused, and a late copy in doubt":  {rowsAt{{0, claimed, 0}, {1, refused, 10}, {2, attempted, 300}}, gift.StateRefused, false},
		"refused, and a late copy parked":    {rowsAt{{0, claimed, 0}, {0, parked, 300}, {1, refused, 10}, {2, parked, 300}}, gift.StateRefused, false},
		"parked at about the same time":      {rowsAt{{0, claimed, 0}, {1, deferred, 30}, {2, parked, 10}}, gift.StateParked, false},
		"parked, in doubt before":            {rowsAt{{0, claimed, 0}, {1, unknown, 10}, {2, parked, 200}}, gift.StateParked, false},
		"parked, and taken up by a person":   {rowsAt{{0, claimed, 0}, {1, parked, 10}, {2, reissued, 200}}, gift.StateAccepted, false},
		"a clock that was set back":          {rowsAt{{0, claimed, 0}, {1, deferred, 500}, {1, unknown, 100}, {2, deferred, 200}}, gift.StateUnknown, false},
	} {
		if state, open := c.rows.evidence().state(slack); state != c.want || open != c.open {
			t.Errorf("%s: got %v, open %v; want %v, %v", name, state, open, c.want, c.open)
		}
	}
}

// A row of another log that is younger than the look at the lanes says that somebody
// has the order, whatever its due time is.
func TestWhatWasWrittenAfterTheLookIsOnItsWay(t *testing.T) {
	w := watermarks{served: true, claims: 1000_000, dues: 1000_000}
	s := seen{mark: 100, others: 900_000}
	for name, c := range map[string]struct {
		rows rowsAt
		want bool
	}{
		"all of it long before":      {rowsAt{{0, fallbacklog.Claimed, 10}, {1, fallbacklog.Unknown, 800}}, false},
		"an outcome since":           {rowsAt{{0, fallbacklog.Claimed, 10}, {1, fallbacklog.Unknown, 900}}, true},
		"a claim of another log":     {rowsAt{{0, fallbacklog.Claimed, 10}, {1, fallbacklog.Claimed, 1000}}, true},
		"reissued by another, since": {rowsAt{{0, fallbacklog.Claimed, 10}, {1, fallbacklog.Reissued, 1000}}, true},
	} {
		if got := w.cover(c.rows.evidence(), &s); got != c.want {
			t.Errorf("%s: covered is %v, want %v", name, got, c.want)
		}
	}
}
