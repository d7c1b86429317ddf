package main

import (
	"context"
	"os"
	"time"
)

// repeatAfter is how much later than the first a signal has to come to be a second
// one: process groups and supervisors often deliver one signal twice.
const repeatAfter = time.Second

// interruptible gives a context that ends with the first signal, so that a command
// can stop in order. A signal that comes repeatAfter later, or later still, is from
// somebody who does not want to wait: it calls abort, in a goroutine of its own.
// stop ends the watch and the context.
func interruptible(parent context.Context, signals <-chan os.Signal, abort func()) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var first time.Time
		for {
			select {
			case <-end:
				return
			case <-signals:
			}
			switch {
			case first.IsZero():
				first = time.Now()
				cancel()
			case time.Since(first) >= repeatAfter:
				abort()
				return
			}
		}
	}()
	return ctx, func() {
		close(end)
		<-ended
		cancel()
	}
}
