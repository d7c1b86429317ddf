package reconcile

import (
	"sync"

	"manna/fallbacklog"
)

// names gives the lanes and campaigns of all indexes one numbering: each index
// numbers its own. Number 0 is the empty name. Safe for concurrent use.
type names struct {
	mu     sync.RWMutex
	list   []string
	number map[string]uint16
}

func newNames() *names { return &names{list: []string{""}, number: map[string]uint16{"": 0}} }

func (n *names) add(name string) uint16 {
	n.mu.RLock()
	number, ok := n.number[name]
	n.mu.RUnlock()
	if ok {
		return number
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if number, ok := n.number[name]; ok {
		return number
	}
	// As in the indexes: what comes after the last number is nameless.
	if len(n.list) > 0xFFFF {
		return 0
	}
	number = uint16(len(n.list))
	n.list = append(n.list, name)
	n.number[name] = number
	return number
}

func (n *names) name(number uint16) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.list[number]
}

// translation turns the numbers of one index into the common ones. It is used by
// one goroutine.
type translation struct {
	from *fallbacklog.Names
	to   *names
	seen []int32 // by the index's number: 1 + the common number, 0 where not asked yet
}

func (t *translation) number(n uint16) uint16 {
	if int(n) >= len(t.seen) {
		t.seen = append(t.seen, make([]int32, int(n)+1-len(t.seen))...)
	}
	if t.seen[n] == 0 {
		t.seen[n] = int32(t.to.add(t.from.Name(n))) + 1
	}
	return uint16(t.seen[n] - 1)
}
