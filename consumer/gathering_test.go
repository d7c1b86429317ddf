package consumer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// blocked is a gathering whose calls wait until they are told to go on.
func blocked(limit int, err error) (g *gathering[int, int], calls chan []int, goOn chan struct{}) {
	calls, goOn = make(chan []int, 100), make(chan struct{})
	g = &gathering[int, int]{limit: limit, call: func(_ context.Context, questions []int) ([]int, error) {
		calls <- slices.Clone(questions)
		<-goOn
		answers := make([]int, len(questions))
		for i, q := range questions {
			answers[i] = 10 * q
		}
		return answers, err
	}}
	return g, calls, goOn
}

func TestWhoComesDuringACallMakesTheNextTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, calls, goOn := blocked(3, nil)
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				if got, err := g.ask(t.Context(), i); got != 10*i || err != nil {
					t.Errorf("asked %d: %d, %v", i, got, err)
				}
			})
			synctest.Wait()
		}
		for _, want := range [][]int{{0}, {1, 2, 3}, {4, 5}} {
			if got := <-calls; !slices.Equal(got, want) {
				t.Errorf("a call of %v, want %v", got, want)
			}
			goOn <- struct{}{}
			synctest.Wait()
		}
		all.Wait()
	})
}

func TestWhoDoesNotWaitIsNotAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, calls, goOn := blocked(10, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		// The first is on its way when ctx ends, and is answered.
		all.Go(func() {
			if got, err := g.ask(ctx, 1); got != 10 || err != nil {
				t.Errorf("the first: %d, %v", got, err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if _, err := g.ask(ctx, 2); !errors.Is(err, context.Canceled) {
				t.Errorf("the second: %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if got, err := g.ask(t.Context(), 3); got != 30 || err != nil {
				t.Errorf("the third: %d, %v", got, err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(goOn)
		all.Wait()
		if first, next := <-calls, <-calls; !slices.Equal(first, []int{1}) || !slices.Equal(next, []int{3}) {
			t.Errorf("calls of %v and %v", first, next)
		}
	})
}

func TestFailedCallFailsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		g, _, goOn := blocked(10, down)
		close(goOn)
		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() {
				if _, err := g.ask(t.Context(), i); !errors.Is(err, down) {
					t.Errorf("asked %d: %v", i, err)
				}
			})
		}
		all.Wait()
	})
}
