// Package consumer runs the lanes: for each partner one, which takes orders from
// its queue, calls the partner at the pace it bears, and writes down what came of
// it.
//
// # Promise
//
// A lane never has more calls under way than the partner's max_in_flight and
// never starts more in any second than its rate, queries included. With
// Options.Quota the rate is that of all nodes together; package quota says how
// exactly, and what happens when its centre is away. A partner that
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
//     Among many processes the mark in ledger.Marks comes first.
//   - outcome: its record is in the log before the message is acknowledged or
//     deferred. A crash between the two only repeats a look-up.
//
// # Many processes
//
// With Options.Cluster, orders are in a queue that several processes serve, and each
// writes what it does into its own log. Two may hold one order. A partner that dedupes
// makes that harmless. For one that does not:
//
//   - mark: before `attempted`, the attempt's number is marked in ledger.Marks; whoever
//     does not win it makes no call. Numbers have no gaps, and the next is marked only
//     once the last is concluded, so no two attempts are ever under way.
//   - A call begins within markedFor of its mark, else the mark is made anew. An attempt
//     that is not concluded markGrace after the partner's timeout is adopted by
//     whoever comes for it, as one in doubt.
//   - Nodes' clocks may differ by clocksApart. Whoever compares another's time with its
//     own clock adds that: to the time of a mark, of an attempt in doubt, of a record.
//   - Marks that cannot be had stop these partners' orders, and no others.
//
// A claim may be recorded by several fronts, each with another gift, when the guard that
// they share has failed. Of claims that may be, by their campaign, ledger.Choices says
// before an order's first attempt which gift it is to be: that of which an order came so
// far first. The orders that only the others have are refused (given_elsewhere), and
// their stock goes back. An order that both have is of an item that is the same in both:
// a cluster's configuration in which it is not is refused. Where the ledger is away these
// claims' orders wait, and behind them whatever else their lane has.
//
// A parked order that a person takes up comes as a new message, and the record of that
// is in any node's log. A node that knows it as parked, by its own log or the mark,
// waits until the ledger has taken in enough to tell it from a late copy.
//
// The gift of a claim that was refused whole goes back to the common stock by what the
// ledger has taken in (ledger.Stock's RefundRefused), every few seconds.
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
