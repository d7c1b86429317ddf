// Package queue is the lane contract: how orders travel from the fallback log to
// the partners' lanes. The queue is transport. It may deliver an order twice, it
// may deliver late, and losing all of it loses nothing, because the log can fill
// it again.
//
// # Promise
//
// Every order in the log that has no final outcome is received by its partner's
// lane at least once, also after any crash. A message that has been received and
// neither acknowledged nor deferred is received again after a restart. First
// deliveries come in order of age; orders that are due again come between them,
// so that neither starves the other. Memory is bounded whatever the backlog.
//
// # States of a message
//
//	waiting ──Receive──▶ held ──Ack──▶ gone
//	   ▲                  │
//	   └───(due)──Defer───┘
//
// # Commit points
//
// Ack and Defer are called only after the outcome's record is in the log. A crash
// between the two only means that the message is received once more and found
// settled, or found deferred with its due time.
//
// # Engines
//
// queue/embedded follows the log itself. An engine that others run implements
// Feedable too, and the feeder brings it what the log has. queue/queuetest is the
// suite that every engine passes.
package queue
