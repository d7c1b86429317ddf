// Package promises checks Manna's six promises from the outside: the partners'
// own books, the fallback log, and what callers were told. The demo and every
// end-to-end test end with it, so that there is one opinion of what was kept.
//
//  1. Accepted means delivered or accounted for: every claim that was answered
//     202 is in the log, each of its orders is final, and those the log calls
//     granted are in the partner's books.
//  2. One claim, one gift: no order is in the books more than once.
//  3. No partner is overrun: no second in the books holds more than the rate,
//     with the transport's jitter of two in a hundred.
//  4. Nothing without a claim: every grant in the books belongs to an order in the
//     log that was not refused.
//  5. Stock is never exceeded, and what was not handed out is not lost: claims
//     accepted and not returned are at most the stock, and a sold-out gift was
//     sold out to the last.
//  6. Damage is loud: the log reads back whole.
//
// Memory grows with the number of orders: about 200 bytes each.
package promises
