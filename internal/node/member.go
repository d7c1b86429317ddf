package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"manna/fallbacklog"
	"manna/internal/notice"
	"manna/ledger"
)

const (
	// beatEvery is how often a node says that it is alive, and asks for the others.
	beatEvery = 2 * time.Second
	// joinWithin is how long a start waits for the register.
	joinWithin = 3 * time.Second
	// silentWithin is how long it waits for a process of the same name, in a directory
	// that this one's was moved or copied from, to be silent.
	silentWithin = ledger.BeatWithin + beatEvery
	// joinAgain is the pause between two tries.
	joinAgain = 250 * time.Millisecond
	// leaveWithin bounds the farewell.
	leaveWithin = 2 * time.Second
)

// errNotJoined: the register has not been reached yet.
var errNotJoined = errors.New("this node has not reached the register of nodes yet")

// member is this node's place in the register of nodes. Its methods are safe for
// concurrent use.
type member struct {
	registry ledger.Registry
	process  ledger.Process
	end      func() fallbacklog.Position // how far the log is durable
	alone    bool                        // no other node may be up
	clock    *clock
	logger   *slog.Logger
	told     *notice.Changing

	mu     sync.Mutex // guards the next fields
	holder ledger.Holder
	err    error // why the last call failed; nil where it did not
	nodes  []ledger.Node
	now    time.Time // the register's clock when nodes were listed
}

func newMember(r ledger.Registry, p ledger.Process, end func() fallbacklog.Position, alone bool, logger *slog.Logger) *member {
	return &member{registry: r, process: p, end: end, alone: alone, clock: newClock(logger), logger: logger, told: notice.NewChanging(logger), err: errNotJoined}
}

// join makes the node known. Its error is one that waiting does not mend; where the
// register cannot be reached it is nil, and run goes on trying.
func (m *member) join(ctx context.Context) error {
	try := func() error {
		bounded, cancel := context.WithTimeout(ctx, joinWithin)
		defer cancel()
		return m.beat(bounded)
	}
	err := try()
	for deadline := time.Now().Add(silentWithin); errors.Is(err, ledger.ErrNodeBeats) && time.Now().Before(deadline); err = try() {
		select {
		case <-time.After(joinAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fatal(err) {
		return err
	}
	return nil
}

// fatal reports an error after which this process must not go on under its name.
func fatal(err error) bool {
	return errors.Is(err, ledger.ErrNodeTaken) || errors.Is(err, ledger.ErrLogShort) || errors.Is(err, ledger.ErrFenced) || errors.Is(err, ledger.ErrNewer) || errors.Is(err, errNotAlone)
}

var errNotAlone = errors.New("this node has to be alone")

// run beats until ctx ends. Its error says that another process has the node's name,
// or that a person has declared this one lost: nothing it does may count any more.
func (m *member) run(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := m.beat(ctx); fatal(err) {
			return err
		}
	}
}

// beat joins where the node is not known yet, or says that it is alive; then it
// lists the nodes.
func (m *member) beat(ctx context.Context) (err error) {
	defer func() { m.note(ctx, err) }()
	h, joined := m.joined()
	if !joined {
		if err := m.lookAround(ctx); err != nil {
			return err
		}
		epoch, err := m.registry.Join(ctx, m.process)
		if err != nil {
			return err
		}
		h = ledger.Holder{Node: m.process.Node, Epoch: epoch}
		m.mu.Lock()
		m.holder = h
		m.mu.Unlock()
		m.logger.Info("joined the register of nodes", "node", h.Node, "epoch", h.Epoch, "roles", m.process.Roles)
	} else if err := m.registry.Beat(ctx, h, m.end()); err != nil {
		return err
	}
	return m.lookAround(ctx)
}

// lookAround lists the nodes.
func (m *member) lookAround(ctx context.Context) error {
	began := time.Now()
	nodes, now, err := m.registry.Nodes(ctx)
	if err != nil {
		return err
	}
	m.clock.compare(began, time.Now(), now)
	m.mu.Lock()
	m.nodes, m.now = nodes, now
	m.mu.Unlock()
	if !m.alone {
		return nil
	}
	for _, n := range nodes {
		if n.Name != m.process.Node && n.State == ledger.NodeUp {
			return fmt.Errorf("%w: node %s is up at %s, and the two would not share what this configuration keeps to itself: give both queue: {engine: rocketmq}, guard: {engine: memcached} and ledger: {engine: postgres}, or stop that one", errNotAlone, n.Name, n.Address)
		}
	}
	return nil
}

// note remembers how a beat went, and tells when that changes.
func (m *member) note(ctx context.Context, err error) {
	if fatal(err) || ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return
	}
	m.mu.Lock() // until it is told: of two changes the later one is told later
	defer m.mu.Unlock()
	before := m.err
	m.err = err
	switch first := errors.Is(before, errNotJoined); {
	case err != nil && (before == nil || first):
		m.told.Tell(slog.LevelError, "the register of nodes does not answer; claims go on", "err", err)
	case err == nil && before != nil && !first:
		m.told.Tell(slog.LevelInfo, "the register of nodes answers again", "was", before)
	}
}

func (m *member) joined() (ledger.Holder, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holder, m.holder.Epoch != 0
}

// Holder is this process as the register knows it.
func (m *member) Holder() (ledger.Holder, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holder.Epoch == 0 {
		return ledger.Holder{}, fmt.Errorf("%w: %w", ledger.ErrUnavailable, m.err)
	}
	return m.holder, nil
}

// with counts the nodes that are up and have a role. One that is silent counts: it
// may be at work out of everyone's sight. It is 0 while the register has not been
// reached.
func (m *member) with(role string) (n int) {
	nodes, _ := m.all()
	for _, node := range nodes {
		if node.State == ledger.NodeUp && slices.Contains(node.Roles, role) {
			n++
		}
	}
	return n
}

// all gives the nodes as they were listed last, and the register's time then.
func (m *member) all() ([]ledger.Node, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes, m.now
}

// silent names the nodes that are up and have not been heard of.
func (m *member) silent() (list []string) {
	nodes, now := m.all()
	for _, n := range nodes {
		if n.Missed(now) {
			list = append(list, fmt.Sprintf("node %s: nobody has heard of it for %v, and reports lack what it alone knows: see whether its process lives (manna node)", n.Name, n.Silent(now).Round(time.Second)))
		}
	}
	return list
}

// trouble is why the register does not answer, nil where it does.
func (m *member) trouble() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// leave says that the node has stopped in order, with all that its log will have.
func (m *member) leave(ctx context.Context) {
	h, joined := m.joined()
	if !joined {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	if err := m.registry.Leave(ctx, h, m.end()); err != nil {
		m.logger.Warn("the register of nodes does not know that this node has left", "err", err)
	}
}
