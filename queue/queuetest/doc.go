// Package queuetest is the suite that every engine behind the lane contract
// passes. An engine's own test calls Run with a way to open it:
//
//	queuetest.Run(t, queuetest.Engine{Open: func(ctx context.Context, n queuetest.Node) (queue.Queue, error) { … }})
//
// The suite plays everybody else: it claims, calls partners that are not there,
// writes their outcomes into a real fallback log on a disk that can lose power,
// and feeds engines that have to be fed. Time is real and short: an engine that
// runs elsewhere has no other.
package queuetest
