// Package breaker keeps what is sick from being called: a partner, and whatever
// else a process depends on. Each has one Breaker by name. The partners' are there
// today ("partner/midas"); a name without '/' is for a dependency of the node.
//
// # Modes
//
//	automatic    the breaker watches calls: closed ▶ open ▶ half-open ▶ closed
//	held open    a person has cut it: nothing is called until released
//	held closed  a person has forced it: calls go on whatever they bring
//
// A breaker that a person may hold is a switch. The package keeps no state of its
// own on disk: whoever changes a mode appends a `switched` record to the fallback
// log first, and restores the modes from there at start.
//
// Held open is a lid on the automatic breaker, which keeps its own time beneath:
// released, it stands where it would have stood, so one that opened by itself and
// whose OpenFor has passed lets one probe try. Held closed gathers results, so
// that a person can see what the forced calls bring, but never acts on them;
// released, the breaker is closed with an empty window, and it takes MinCalls new
// results to open it. What was forced through is not held against the partner.
//
// # Trust window
//
// A result counts in the part of the window in which its call began, so the
// window must be at least four times a call's timeout; New refuses less. A slow
// success counts as a failure. A call that its caller gave up counts as neither.
//
// The window is judged when a failure comes in, and holds results only: calls
// still under way count for nothing.
//
// # Half-open
//
// One call, the probe, goes through and decides. A probe that was abandoned
// decides nothing and makes room for another. One whose Done never comes counts
// as a failure a second after its timeout, so a lost Done delays a breaker and
// never wedges it. Results of calls that began before the breaker opened are
// dropped.
//
// # One call
//
//	if err := b.Wait(ctx); err != nil { // pauses while the breaker refuses
//		return err
//	}
//	call, err := b.Allow() // right before the call: a probe's lease runs from here
//	if err != nil {
//		continue // another took the probe
//	}
//	result := breaker.Failure
//	defer func() { call.Done(result) }() // also when the call panics
package breaker
