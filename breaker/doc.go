// Package breaker keeps a sick dependency or partner from being called. Each has
// one Breaker by name ("partner/midas", "queue", "guard", "ledger").
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
// # Trust window
//
// A result counts in the part of the window in which its call began, so the
// window must be at least four times a call's timeout; New refuses less. A slow
// success counts as a failure. A call that its caller gave up counts as neither.
package breaker
