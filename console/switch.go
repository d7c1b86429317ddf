package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

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
	if err := checkWords(q.Who, q.Why, q.Mode != breaker.Automatic); err != nil {
		return err
	}
	if err := c.opts.Switches.Set(r.Context(), b, q.Mode, who(q.Who), q.Why); err != nil {
		return err
	}
	answer(w, http.StatusOK, b.Snapshot())
	return nil
}

// Switches sets the modes of breakers, here and, through the ledger, on all nodes. Its
// methods are safe for concurrent use.
type Switches struct {
	log *fallbacklog.Log
	now func() time.Time
	mu  sync.Mutex // held from the look at what was set last until the breaker has it
}

// NewSwitches makes one for a node's log; a nil clock is time.Now.
func NewSwitches(log *fallbacklog.Log, now func() time.Time) *Switches {
	if now == nil {
		now = time.Now
	}
	return &Switches{log: log, now: now}
}

// Set does what a person wants. It is later than whatever was set before, whatever
// this node's clock says, so that no other node takes an earlier deed for a later one.
func (s *Switches) Set(ctx context.Context, b *breaker.Breaker, mode breaker.Mode, who, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, err := s.last(b.Name())
	if err != nil {
		return err
	}
	at := s.now().UTC()
	if !at.After(last) {
		at = last.Add(1)
	}
	return s.write(ctx, b, mode, fallbacklog.Switch{Name: b.Name(), Who: who, Why: why}, at)
}

// Follow takes over what was set on another node at a time, where nothing was set here
// since; done is false there.
func (s *Switches) Follow(ctx context.Context, b *breaker.Breaker, set fallbacklog.Switch, at time.Time) (done bool, err error) {
	var mode breaker.Mode
	if err := mode.UnmarshalText([]byte(set.Mode)); err != nil {
		return false, fmt.Errorf("mode %q: %w", set.Mode, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last, err := s.last(b.Name())
	if err != nil || !last.Before(at) {
		return false, err
	}
	// The record has the time of the deed, so that no node takes it for a newer one.
	return true, s.write(ctx, b, mode, set, at)
}

// last is when a switch was set last, as this node's log has it.
func (s *Switches) last(name string) (time.Time, error) {
	row, ok, err := s.log.Last(fallbacklog.NamedID(fallbacklog.Switched, name))
	if err != nil || !ok {
		return time.Time{}, err
	}
	rec, err := s.log.Read(row.At)
	if err != nil {
		return time.Time{}, err
	}
	return rec.Time, nil
}

// write requires s.mu.
func (s *Switches) write(ctx context.Context, b *breaker.Breaker, mode breaker.Mode, set fallbacklog.Switch, at time.Time) error {
	text, err := mode.MarshalText()
	if err != nil {
		return err
	}
	set.Mode = string(text)
	// Commit point: the switch is held, also after a restart, once this is in the
	// log; only then does it take effect.
	if err := s.log.Append(ctx, &fallbacklog.Record{Kind: fallbacklog.Switched, Time: at, Switch: &set}); err != nil {
		return err
	}
	b.Hold(mode)
	return nil
}
