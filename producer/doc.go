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
//  5. answer 202
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
// # Failures
//
//   - the log's disk is full: nothing happened, the stock is given back, the
//     caller is told `unavailable` and when to come again
//   - the log is poisoned: the record may or may not be there, so its stock stays
//     taken; every claim is `unavailable` and Ready fails until the process starts
//     again and reads what is there
//   - the guard fails: the claim goes on without it, for its orders' ids make a
//     repeat harmless later
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
