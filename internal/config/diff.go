package config

import (
	"reflect"
	"slices"
)

// Changes are the keys that differ between two configurations.
type Changes struct {
	Restart []string `json:"restart"` // only a restart brings these into effect
	Live    []string `json:"live"`    // a reload does
}

// Diff compares two configurations key by key: "data", "log", "partners.midas",
// "campaigns.spring-2027".
func Diff(old, new *Config) Changes {
	var c Changes
	restart := func(key string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			c.Restart = append(c.Restart, key)
		}
	}
	restart("data", old.Data, new.Data)
	restart("listen.public", old.Listen.Public, new.Listen.Public)
	restart("listen.admin", old.Listen.Admin, new.Listen.Admin)
	restart("node", old.Node, new.Node)
	restart("durability", old.Durability, new.Durability)
	restart("queue", old.Queue, new.Queue)
	restart("guard", old.Guard, new.Guard)
	restart("ledger", old.Ledger, new.Ledger)
	restart("archive", old.Archive, new.Archive)
	restart("reconcile", old.Reconcile, new.Reconcile)
	restart("log", old.Log, new.Log)
	restart("limits", old.Limits, new.Limits)
	restart("receipts", old.Receipts, new.Receipts)
	restart("shutdown", old.Shutdown, new.Shutdown)

	if !reflect.DeepEqual(old.Auth, new.Auth) {
		c.Live = append(c.Live, "auth")
	}
	c.Live = append(c.Live, entries("partners.", old.Partners, new.Partners, func(p *Partner) string { return p.Name })...)
	c.Live = append(c.Live, entries("campaigns.", old.Campaigns, new.Campaigns, campaignName)...)
	return c
}

// entries names what was changed, then what is new, then what is gone.
func entries[T any](prefix string, old, new []*T, name func(*T) string) []string {
	find := func(list []*T, n string) *T {
		if i := slices.IndexFunc(list, func(e *T) bool { return name(e) == n }); i >= 0 {
			return list[i]
		}
		return nil
	}
	var changed, added, gone []string
	for _, e := range new {
		switch before := find(old, name(e)); {
		case before == nil:
			added = append(added, prefix+name(e))
		case !reflect.DeepEqual(before, e):
			changed = append(changed, prefix+name(e))
		}
	}
	for _, e := range old {
		if find(new, name(e)) == nil {
			gone = append(gone, prefix+name(e))
		}
	}
	return slices.Concat(changed, added, gone)
}
