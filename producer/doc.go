// Package producer is the claim front-end: it decides whether a user gets a
// gift, makes that durable, and only then says so.
//
// # Promise
//
// An accepted claim is on the disk before its caller hears of it. One entitlement
// (campaign, scene, user, stage) is accepted once, however often it is claimed, at
// the same time or after any crash: every repeat gets the recorded claim. Stock is
// never exceeded. What is refused leaves nothing behind.
//
// Not promised: that a claim whose caller got an error, or no answer at all, was
// not accepted. The commit may have succeeded when the answer was lost; the repeat
// finds it.
//
// # The claim path
//
//  1. decode, authenticate, take the campaign's snapshot, check window,
//     eligibility and limits: no I/O
//  2. Guard.Reserve: known ▶ answer the recorded claim
//  3. take stock
//  4. append `claimed`. Commit point of acceptance
//  5. answer 202; with Replication, once the queue has the claim too
//
// Nothing here sends to a queue: the log is the outbox, and the Feeder or the
// engine itself follows it.
//
// # States of a claim in the guard
//
//	(nothing) ──Reserve──▶ reserved ──Commit──▶ recorded
//	    ▲                     │
//	    └──────Release────────┘
//
// A reservation lives in memory only. A crash between 2 and 4 forgets it, and the
// repeat is accepted; a crash after 4 leaves the record, from which the guard and
// the stock are rebuilt at start.
//
// # One front among several
//
// Each front has its own log, and nothing that all share is needed to accept a claim
// but stock that has an end.
//
// The guard has two layers: the claims of this log, which are never accepted twice
// here, and behind them a guard that all fronts share, which is a hint.
//
// Of a gift's stock a front has a share: a lease from the ledger that says how many
// it may hand out altogether. What it did hand out its log says. A goroutine leases
// ahead by the pace of the claims, and near the end of the stock only a part of what
// is left; it gives back what is not claimed while others look for more, and all of
// it when the campaign has closed, when the gift is configured no more and at the
// end of Run.
//
//	in doubt ──the ledger says what the lease is──▶ held ──claims──▶ handed out
//	    ▲                                            │ │
//	    └──a call failed, others changed the lease,──┘ └──given back──▶ others'
//	       the node was given up or joined anew
//
// A share is in doubt at a start, too. Of one that is in doubt only that is handed
// out which nobody can have taken away: what was held when a Lease failed, what a
// failed Return was to keep, and else nothing. What is given back counts as gone from
// before the call on. So the stock is exact, whoever dies when: what a dead node holds
// is there when it is back, or when it is settled by its log.
//
// low_stock goes by what is left in the ledger, read at most a second ago, and in this
// front's share: what others hold is not counted, so that the other gift may be given
// a little early. `sold_out` is the ledger's word, not older than 5 s.
//
// A front answers for every claim: from its own log first, and then from the ledger,
// with the time up to which the ledger has read all logs (as_of). Only settling is
// for the node that accepted the claim: it alone knows the target.
//
// With Replication a claim is answered when this disk and the queue have it. Where
// the queue does not get it in time, where its breaker is open, or where too many
// claims wait for it, that degrades: claims are answered when this disk has them,
// which the log, a metric and Notes say, until the queue gets the newest claim in
// half of that time again.
//
// # Failures
//
//   - the log's disk is full: nothing happened, the stock is given back, the
//     caller is told `unavailable` and when to come again
//   - the log is poisoned: the record may or may not be there, so its stock stays
//     taken; every claim is `unavailable` and Ready fails until the process starts
//     again and reads what is there
//   - the guard that several fronts share fails, or is unsure of itself: the ledger is
//     asked in its place, for a moment, and the claim goes on with what it and this
//     front's own log know; its orders' ids make a repeat on another front harmless
//     later, and of two gifts the lanes deliver one (package consumer); the other's
//     stock comes back
//   - a claim is recorded on another node and cannot be read here yet: the repeat is
//     answered by what it says itself, where the campaign leaves no choice, else
//     `unavailable` for a moment; nothing is recorded twice
//   - the ledger is away or slow: claims go on. Of gifts whose stock has an end each
//     front hands out what it holds, and is `unavailable` when that is used up. One
//     request waits at most 250 ms for the ledger, all its claims together. Reads of
//     what only other nodes' logs have are `unavailable`
//   - the queue can never take an order, being too large: the feeder parks it
//   - the queue takes none of a partner until a person has mended something, as a
//     topic with too few queues: the feeder parks that partner's orders, loudly, and
//     goes on with all others
//   - more claims in flight than Limits.InFlight: `overloaded`, at once
//
// # Who may claim
//
// A token (JWT) carries its user in `sub` and needs an `exp`. Its algorithm is one
// of those configured, its `iss` and `aud` are the configured ones where there are
// any, and a `crit` header is refused, for no extension is understood here. `exp`
// and `nbf` are held against this machine's clock with a leeway for that of the
// issuer, 30 s unless configured otherwise: a token is taken for so long after it
// has expired. Package credential says which keys are taken.
//
// A registered caller signs its requests by Standard Webhooks 1.0 and speaks for
// every user; a signature holds for 5 minutes.
//
// # Eligibility
//
// A segment is a file with a Roaring bitmap of user numbers, 32-bit or 64-bit, in
// the portable format. A user whose id is not a decimal number as strconv writes
// it ("7", not "007" or "+7") is in no segment: one person must not have several
// spellings.
package producer
