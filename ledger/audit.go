package ledger

import (
	"context"
	"strings"
	"time"
)

// Audits keeps who did what through the admin port. It is appended to and never
// changed. What Audit took is kept here alone and durable when the call returns
// nil; it does not come back when the ledger is lost.
type Audits interface {
	// Audit appends an entry. A change of a switch is not handed in: its
	// `switched` record in the log is its entry.
	Audit(ctx context.Context, e Entry) error
	// AuditLog lists entries, the newest first, and the changes of switches that
	// are derived from the log among them.
	AuditLog(ctx context.Context, f AuditFilter, limit int) (entries []Entry, next Cursor, err error)
}

// ActionSwitch is the action of entries that are derived from `switched` records.
const ActionSwitch = "switch"

// Results of entries. A deed is entered as begun before it is done, and again with
// what came of it.
const (
	ResultBegun = "begun"
	ResultDone  = "done"
)

// Bounds of an entry's texts in bytes; what is longer is cut.
const (
	maxAuditName   = 256
	maxAuditDetail = 4096
)

// Entry is one deed.
type Entry struct {
	Time   time.Time `json:"time"` // default: now
	Who    string    `json:"who"`
	Role   string    `json:"role,omitempty"`
	Action string    `json:"action"`           // "settle", "reconcile", …
	Target string    `json:"target,omitempty"` // what it was done to
	Detail string    `json:"detail,omitempty"`
	Result string    `json:"result,omitempty"` // ResultBegun, ResultDone, or why not
	Node   string    `json:"node,omitempty"`
	Key    string    `json:"key"` // set by the ledger
}

// AuditFilter says which entries to list; what is empty does not matter.
type AuditFilter struct {
	Who, Action, Target string
	Since               time.Time // from here on
	Until               time.Time // up to but not including here
	Before              Cursor
}

// Clipped gives the entry with every text within its bound and valid.
func (e Entry) Clipped() Entry {
	for _, s := range []*string{&e.Who, &e.Role, &e.Action, &e.Target, &e.Result, &e.Node} {
		*s = clip(*s, maxAuditName)
	}
	e.Detail = clip(e.Detail, maxAuditDetail)
	return e
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n-len("…")] + "…"
	}
	return strings.ToValidUTF8(s, "")
}
