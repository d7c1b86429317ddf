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
//	408, 425, 429, 503                              Deferred "busy", Retry-After honoured
//	connection refused, request never written       Deferred "unreachable"
//	other 5xx, timeout, reset after writing,
//	unreadable 2xx, any other status                Unknown
//
// GET query_url/<order id> asks where an order stands.
package delivery
