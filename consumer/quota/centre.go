package quota

import (
	"context"
	"errors"
	"sync"
)

// Centre keeps a register for each partner, the same for all nodes. An
// implementation is safe for concurrent use and passes quotatest.
//
// An error other than those named means that the centre is away. After a Store that
// failed so, the register may have either value.
type Centre interface {
	// Load reads a partner's register; ErrMissing where there is none.
	Load(ctx context.Context, partner string) (Register, Version, error)
	// Store replaces the register that Load gave with its version, or makes one
	// where version is nil. ErrChanged: it is another by now, and stays.
	Store(ctx context.Context, partner string, r Register, v Version) error
}

// Version is what a Centre knows a register by; nil means that there is none.
type Version any

var (
	// ErrMissing: the centre has no register of the partner.
	ErrMissing = errors.New("the quota's centre has no register of the partner")
	// ErrChanged: another node was faster. Nothing was stored.
	ErrChanged = errors.New("the quota's register has changed")
)

// Memory is the centre of several consumers in one process. The zero Memory is
// empty.
type Memory struct {
	mu        sync.Mutex
	registers map[string]stored
	version   uint64
}

type stored struct {
	register Register
	version  uint64
}

// Load implements Centre.
func (m *Memory) Load(ctx context.Context, partner string) (Register, Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.registers[partner]
	if !ok {
		return Register{}, nil, ErrMissing
	}
	return s.register, s.version, ctx.Err()
}

// Store implements Centre.
func (m *Memory) Store(ctx context.Context, partner string, r Register, v Version) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	s, ok := m.registers[partner]
	if v == nil && ok || v != nil && (!ok || v != Version(s.version)) {
		return ErrChanged
	}
	if m.registers == nil {
		m.registers = make(map[string]stored)
	}
	m.version++
	m.registers[partner] = stored{r, m.version}
	return nil
}

// Wipe forgets every register, as a cache may.
func (m *Memory) Wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.registers)
}
