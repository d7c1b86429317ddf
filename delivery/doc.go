// Package delivery calls partners. An Adapter turns one order into one call and
// whatever comes back, or does not come back, into exactly one gift.Outcome.
//
// # The promise
//
// Deferred is said only when the order was certainly not applied: the partner
// said so, or not one byte of the request can have reached it. Whenever that is
// in doubt the outcome is Unknown. Granted and Refused are said only when the
// partner said them in full. An adapter makes one call per call: it does not
// retry, does not follow redirects, and does not wait longer than its timeout,
// however slowly the bytes come.
//
// # The http adapter
//
// POST url with the header "Idempotency-Key: <order id>", Standard Webhooks
// signature headers where a secret is set, and a JSON body. The answer is read
// by this table:
//
//	2xx, body empty or JSON                         Granted
//	409                                             Granted before, unless configured otherwise
//	400, 422                                        Refused, with the body's code and reason
//	401, 403, 404, 405                              Deferred "misconfigured"
//	408, 425, 429, 503                              Deferred "busy", Retry-After honoured up to 1 h
//	connection refused, request never written       Deferred "unreachable"
//	other 5xx                                       Unknown "server_error"
//	timeout, reset after writing                    Unknown "timeout", "reset"
//	unreadable 2xx or 409                           Unknown "unreadable"
//	any other status, redirects among them          Unknown "unexpected_status"
//
// A call whose ctx is cancelled is Deferred or Unknown "cancelled". An order that
// the configured templates cannot express is Deferred "misconfigured" without a
// call.
//
// An answer is unreadable where its body is longer than 64 KiB, is not one JSON
// value in UTF-8, or has a reference or voucher that is not text of at most 256
// bytes. A final answer counts only when its body came to the end: a 400 that
// breaks off is Unknown. Reasons are cut at 512 bytes and hold no control
// characters.
//
// # Never written, exactly
//
// Each connection counts the bytes of requests it is given to send, TLS
// handshakes not among them. When a call fails its connection is sealed, so that
// nothing can leave afterwards, and only then is the count read: zero is
// Deferred, anything else Unknown. net/http's own repeat of requests on kept
// connections is prevented.
//
// # Queries
//
// GET query_url/<order id> asks where an order stands:
//
//	2xx {"state":"granted","reference"?,"voucher"?,"amount"?}   Settled
//	2xx {"state":"refused","code"?,"reason"?}                   Settled
//	2xx {"state":"pending"}                                     Pending
//	2xx or 404 {"state":"none"}                                 None
//	everything else, a bare 404 too                             Unanswered
package delivery
