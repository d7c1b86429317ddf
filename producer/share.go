package producer

import (
	"sync"
	"time"
)

// share is this node's part of a gift's stock, beside the count of what it did hand
// out. Only the lessor changes what is held. Safe for concurrent use.
type share struct {
	mu   sync.Mutex // held while something is taken or the share is changed
	held int64      // how many may be handed out altogether
	// free is how much was left in the common pool when that was last read, with the
	// total of that time; read is false before.
	free, total int64
	read        bool
	// dryUntil is how long the ledger's word counts that nothing is left.
	dryUntil time.Time
	wanted   int64         // claims that found nothing, since the lessor last asked
	changed  chan struct{} // closed when the lessor has looked; nil: nobody waits
}

// grasp is how a try to take ended.
type grasp int

const (
	grasped grasp = iota
	nothingLeft
	noneHere // this node has none, and others or the pool may
)

// grasp takes one. With noneHere comes what is closed when it is worth trying again.
func (n *counter) grasp(total int64) (grasp, <-chan struct{}) {
	s := &n.share
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.Load() < s.held {
		n.Add(1)
		return grasped, nil
	}
	s.wanted++
	if s.total == total && time.Now().Before(s.dryUntil) {
		return nothingLeft, nil
	}
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return noneHere, s.changed
}

// low reports whether fewer than under are left, as far as this node can tell: what
// other nodes hold and have not handed out yet it does not count.
func (n *counter) low(under int64) bool {
	s := &n.share
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read && s.free+max(0, s.held-n.Load()) < under
}

// left is what this node may still hand out.
func (n *counter) left() int64 {
	n.share.mu.Lock()
	defer n.share.mu.Unlock()
	return max(0, n.share.held-n.Load())
}

// hold sets what may be handed out altogether.
func (s *share) hold(held int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
}

// cut lowers what may be handed out to at most spare more than has been, and gives
// what that leaves. From then on nobody takes more.
func (n *counter) cut(spare int64) (keep int64) {
	s := &n.share
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = min(s.held, n.Load()+spare)
	return s.held
}

// note remembers what is left in the pool, out of a total.
func (s *share) note(free, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free, s.total, s.read = free, total, true
	s.dryUntil = time.Time{}
	if free <= 0 {
		s.dryUntil = time.Now().Add(dryFor)
	}
}

// demand gives how many claims found nothing since it was last asked, and whether
// any wait.
func (s *share) demand() (wanted int64, waiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted, s.wanted = s.wanted, 0
	return wanted, s.changed != nil
}

// wake lets those try again who wait.
func (s *share) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
