package consumer

import (
	"context"
	"slices"
	"sync"
)

// gathering makes one call of what many ask for: while a call is under way, whoever
// comes waits, and the next call takes all of them. Its methods are safe for
// concurrent use; it has no goroutine of its own.
type gathering[Q, A any] struct {
	// call answers questions in their order. It has to be bounded by itself.
	call  func(context.Context, []Q) ([]A, error)
	limit int // of questions in a call

	mu      sync.Mutex // guards the next fields
	waiting []*asking[Q, A]
	busy    bool // somebody is making a call, or about to
}

type asking[Q, A any] struct {
	question Q
	answer   A
	err      error
	turn     chan bool // true: make the next call; false: it is answered
	leads    bool      // it was told to; guarded by gathering.mu
}

// ask waits for an answer. When ctx ends before the question is on its way, it is not
// asked any more; once it is, ctx does not end the wait.
func (g *gathering[Q, A]) ask(ctx context.Context, question Q) (A, error) {
	a := &asking[Q, A]{question: question, turn: make(chan bool, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, a)
	if !g.busy {
		g.busy = true
		g.appoint()
	}
	g.mu.Unlock()
	var leads bool
	select {
	case leads = <-a.turn:
	case <-ctx.Done():
		if g.leave(a) {
			return a.answer, ctx.Err()
		}
		leads = <-a.turn
	}
	if leads {
		g.lead(ctx, a)
	}
	return a.answer, a.err
}

// appoint has the first who waits make the next call. It requires g.mu.
func (g *gathering[Q, A]) appoint() {
	g.waiting[0].leads = true
	g.waiting[0].turn <- true
}

// leave withdraws a question that is not on its way.
func (g *gathering[Q, A]) leave(a *asking[Q, A]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, a)
	if i < 0 || a.leads {
		return false
	}
	g.waiting = slices.Delete(g.waiting, i, i+1)
	return true
}

// lead makes a call for all who wait, and has the next one made by who came since.
func (g *gathering[Q, A]) lead(ctx context.Context, leader *asking[Q, A]) {
	g.mu.Lock()
	n := min(len(g.waiting), g.limit)
	taken := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	g.mu.Unlock()
	questions := make([]Q, n)
	for i, a := range taken {
		questions[i] = a.question
	}
	answers, err := g.call(context.WithoutCancel(ctx), questions)
	g.mu.Lock()
	if len(g.waiting) > 0 {
		g.appoint()
	} else {
		g.busy = false
	}
	g.mu.Unlock()
	for i, a := range taken {
		if a.err = err; err == nil {
			a.answer = answers[i]
		}
		if a != leader {
			a.turn <- false
		}
	}
}
