package console

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"manna/gift"
	"manna/ledger"
)

// Bounds of what a person says of a deed, in bytes.
const (
	maxWhy = 500
	maxWho = 100
)

// comeAgain is when to ask again what the ledger could not answer.
const comeAgain = 5 * time.Second

// deed is what somebody does through the admin port.
type deed struct {
	who    string
	action string // "grant", "reissue", "reconcile"
	target string // what it is done to
	detail string
}

// auditor keeps the audit of what is done from one node.
type auditor struct {
	audits ledger.Audits
	node   string
	logger *slog.Logger
}

// audited does a deed between two entries of the audit: that it begins, and what
// came of it. A deed that cannot be entered is not done. One that is done is not
// undone because its end cannot be entered: that is an alarm.
func (a auditor) audited(ctx context.Context, d deed, do func() (detail string, err error)) error {
	ctx = context.WithoutCancel(ctx)
	e := ledger.Entry{Who: who(d.who), Role: "admin", Action: d.action, Target: d.target, Detail: d.detail, Result: ledger.ResultBegun, Node: a.node}
	if err := a.audits.Audit(ctx, e); err != nil {
		a.logger.Error("cannot write the audit; nothing was done", "action", d.action, "target", d.target, "who", e.Who, "err", err)
		return &gift.Error{Code: gift.Unavailable, Detail: "the audit cannot be written, so nothing was done; /readyz says why", RetryAfter: comeAgain}
	}
	// Commit point: the intent is in the audit, whatever follows.
	detail, err := do()
	if e.Result = ledger.ResultDone; err != nil {
		e.Result = err.Error()
	}
	if detail != "" {
		e.Detail = detail
	}
	if failed := a.audits.Audit(ctx, e); failed != nil {
		a.logger.Error("cannot write into the audit what came of a deed", "action", d.action, "target", d.target, "who", e.Who, "result", e.Result, "err", failed)
	}
	return err
}

// checkWords checks what a person says of a deed: why, which may be left out unless it
// is needed, and who it is. Others read it as it is.
func checkWords(who, why string, needed bool) error {
	for _, f := range []struct {
		name, text string
		most       int
		needed     bool
	}{{"why", why, maxWhy, needed}, {"who", who, maxWho, false}} {
		wrong := &gift.Error{Code: gift.BadRequest, Field: f.name}
		switch err := gift.CheckText(f.text); {
		case f.needed && strings.TrimSpace(f.text) == "":
			wrong.Detail = "is missing: say it for whoever reads of this tomorrow"
		case len(f.text) > f.most:
			wrong.Detail = "is longer than is kept: use fewer words"
		case err != nil:
			wrong.Detail = err.Error()
		default:
			continue
		}
		return wrong
	}
	return nil
}

func who(name string) string {
	if name == "" {
		return "admin"
	}
	return name
}

func (c *Console) audit(w http.ResponseWriter, r *http.Request) error {
	entries, _, err := c.opts.Ledger.AuditLog(r.Context(), ledger.AuditFilter{}, ledger.DefaultPage)
	if err != nil {
		return err
	}
	if entries == nil {
		entries = []ledger.Entry{}
	}
	answer(w, http.StatusOK, map[string]any{"audit": entries})
	return nil
}
