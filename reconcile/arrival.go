package reconcile

import (
	"fmt"
	"strings"
	"time"
)

// ArrivalState is how much of a node's log a run had.
type ArrivalState string

const (
	// Here: the node's own, all of it.
	Here ArrivalState = "here"
	// Arrived: up to AsOf.
	Arrived ArrivalState = "arrived"
	// Left: all of it; the node's process has ended in order.
	Left ArrivalState = "left"
	// Retired: nothing more is to come of it.
	Retired ArrivalState = "retired"
	// Absent: nothing of it.
	Absent ArrivalState = "absent"
)

// Arrival is how far a node's log was there when a run compared it with the others.
type Arrival struct {
	Node  string       `json:"node"`
	State ArrivalState `json:"state"`
	// AsOf is the moment through which the log was there, by the node's clock; zero
	// where nothing of it was.
	AsOf time.Time `json:"as_of,omitzero"`
	// Heard is when the node last said how far its log is; zero where it is not known.
	Heard time.Time `json:"heard,omitzero"`
	Why   string    `json:"why,omitempty"` // it was absent
}

// arrivals tells of each node's log, this node's own first, which was there up to
// now. Nil where there is no other node.
func (c *cluster) arrivals(now time.Time) []Arrival {
	if c.alone() {
		return nil
	}
	list := []Arrival{{Node: c.own.Node(), State: Here, AsOf: now}}
	for i := range c.others {
		s := &c.others[i]
		a := Arrival{Node: s.Node, State: Arrived, AsOf: s.AsOf, Heard: s.Heard}
		switch {
		case s.Retired:
			a.State = Retired
		case s.Ended:
			a.State = Left
		}
		list = append(list, a)
	}
	for i := range c.absent {
		list = append(list, Arrival{Node: c.absent[i].Node, State: Absent, Why: c.absent[i].Err.Error()})
	}
	return list
}

// writeNodes shows how far each node's log was there.
func (r *Report) writeNodes(b *strings.Builder) {
	if len(r.Nodes) == 0 {
		return
	}
	judged := "as of no moment that all of them bear out, so that nothing is known to be missing"
	if !r.AsOf.IsZero() {
		judged = "judged by the lanes as they were at " + moment(r.AsOf.Truncate(time.Second))
	}
	fmt.Fprintf(b, "Logs of %d nodes, %s:\n", len(r.Nodes), judged)
	width := 0
	for _, n := range r.Nodes {
		width = max(width, len(n.Node))
	}
	for _, n := range r.Nodes {
		text := ""
		switch n.State {
		case Here:
			text = "here"
		case Arrived:
			text = "up to " + moment(n.AsOf.Truncate(time.Second))
		case Left:
			text = "all of it; the node has left"
		case Retired:
			text = "up to " + moment(n.AsOf.Truncate(time.Second)) + "; the node is retired"
		case Absent:
			text = "NOT THERE"
		}
		fmt.Fprintf(b, "  %-*s  %s\n", width, n.Node, text)
	}
}
