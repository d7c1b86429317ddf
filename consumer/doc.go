// Package consumer runs the lanes: for each partner one, which takes orders from
// its queue, calls the partner at the pace it bears, and writes down what came of
// it.
//
// # Promise
//
// A lane never has more calls under way than the partner's max_in_flight and
// never starts more in any second than its rate, queries included. A partner that
// hangs, refuses or is down slows no lane but its own. Every order that a lane
// takes ends granted, refused or parked, or goes back to the queue with a due
// time that is in the log.
//
// # The path of an order
//
//	receive ▶ final already? ▶ breaker ▶ mark ▶ rate ▶ call ▶ outcome ▶ let go
//
// First attempt, retry, reissue and "settle now" all take it. A refusal by the
// breaker or the rate spends no attempt. A slot of max_in_flight is taken before
// the order is received, so that a lane holds no more orders than it can call
// for; the rate comes last before the call, so that starts are as even as the
// pacer makes them.
//
// # Commit points
//
//   - mark: where the partner cannot dedupe by key, `attempted` is in the log
//     before the call. An attempt without an outcome after a crash is in doubt.
//   - outcome: its record is in the log before the message is acknowledged or
//     deferred. A crash between the two only repeats a look-up.
//
// # Unknown outcomes
//
// An order in doubt is never blindly retried:
//
//	the partner answers queries   ask; granted and refused are outcomes; pending
//	                              asks again later; none is believed once
//	                              SettlesWithin has passed since the attempt
//	                              began, and then the order is attempted anew
//	it dedupes by key             repeat with the same key (also after a query
//	                              that was not answered)
//	neither                       park
//
// Attempts, or queries, past the end of the retry schedule park the order.
package consumer
