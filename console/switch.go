package console

import (
	"net/http"
	"strings"

	"manna/breaker"
	"manna/fallbacklog"
	"manna/gift"
)

// SwitchRequest holds a breaker, or lets it go.
type SwitchRequest struct {
	Mode breaker.Mode `json:"mode"`
	Why  string       `json:"why"`
	Who  string       `json:"who,omitempty"`
}

func (c *Console) snapshots() []breaker.Snapshot {
	var all []breaker.Snapshot
	for _, b := range c.opts.Breakers.All() {
		all = append(all, b.Snapshot())
	}
	return all
}

// Switch is a breaker, and for one that is held who holds it and why.
type Switch struct {
	breaker.Snapshot
	Who string `json:"who,omitempty"`
	Why string `json:"why,omitempty"`
}

func (c *Console) switches(w http.ResponseWriter, _ *http.Request) error {
	all := []Switch{}
	for _, s := range c.snapshots() {
		view := Switch{Snapshot: s}
		if s.Mode != breaker.Automatic {
			row, ok, err := c.opts.Log.Last(fallbacklog.NamedID(fallbacklog.Switched, s.Name))
			if err != nil {
				return err
			}
			if ok {
				rec, err := c.opts.Log.Read(row.At)
				if err != nil {
					return err
				}
				view.Who, view.Why = rec.Switch.Who, rec.Switch.Why
			}
		}
		all = append(all, view)
	}
	answer(w, http.StatusOK, map[string]any{"switches": all})
	return nil
}

func (c *Console) hold(w http.ResponseWriter, r *http.Request) error {
	var q SwitchRequest
	if err := read(r, &q); err != nil {
		return err
	}
	name := r.PathValue("name")
	b, ok := c.opts.Breakers.Get(name)
	if !ok {
		var names []string
		for _, s := range c.snapshots() {
			names = append(names, s.Name)
		}
		return gift.Errorf(gift.NotFound, "there is no switch %q; there are: %s", name, strings.Join(names, ", "))
	}
	if err := told(q.Who, q.Why, q.Mode != breaker.Automatic); err != nil {
		return err
	}
	mode, _ := q.Mode.MarshalText()
	// Commit point: the switch is held, also after a restart, once this is in the
	// log; only then does it take effect.
	rec := &fallbacklog.Record{Kind: fallbacklog.Switched, Switch: &fallbacklog.Switch{Name: name, Mode: string(mode), Who: who(q.Who), Why: q.Why}}
	if err := c.opts.Log.Append(r.Context(), rec); err != nil {
		return err
	}
	b.Hold(q.Mode)
	answer(w, http.StatusOK, b.Snapshot())
	return nil
}
