// Package partnertest is a partner that lies as it is told, and keeps books of
// its own. Tests run it in their process with Start; `manna partner-sim` serves
// it as a process. What Manna says it granted is checked against these books:
// they are the outside of the system.
//
//	p := partnertest.Start(t, partnertest.Script{Dedupe: true, ApplyThenTimeout: 0.1})
//	adapter, err := delivery.NewHTTP(delivery.HTTPOptions{
//		Name: "sim", URL: p.URL + "/grant", QueryURL: p.URL + "/orders", Idempotent: true,
//	})
//	…
//	p.Books().Doubled() // must be empty
//
// # The door
//
//	POST /grant        one order; Idempotency-Key or the body's order_id names it
//	GET  /orders/{id}  where an order stands
//	GET  /books        the Books, as JSON; ?arrivals=yes adds every arrival
//	GET  /script       the Script, as JSON
//	POST /script       a new Script from now on
//	GET  /healthz      200 while it serves
//
// Within a down window none of them answers.
//
// # What is decided when
//
// Whether an order is refused depends on (seed, order id) alone, so every call
// for it hears the same. How a call goes wrong depends on (seed, order id, number
// of the call), so a run with the same calls behaves alike. Every call first
// settles the order, or not, as its fault says, and only then loses, delays or
// garbles the answer: each fault has a side of "applied" and one of "not applied".
//
// # The books
//
// A grant is booked before its answer leaves. For a partner without Dedupe a
// second application is a second grant. Every grant call and every query that
// reached the door is an arrival; calls turned away by a down window before they
// were read are not. The books live in memory and end with the process.
//
// # Overrun
//
// Peak counts arrivals in sliding half-open seconds. A second is overrun when it
// holds more than rate × 1.02, and more than rate + 1. While the partner itself
// was not running (the machine was busy, or someone stopped it), arrivals queued
// before its door and came in at once afterwards. A heartbeat every 5 ms notices
// gaps above 20 ms and books them as stalls. A second that overlaps stalls of
// total length s is judged against rate × (1 + s): what it counts came in over
// that much more time than it could see. A stall reaches as far beyond its end as
// it was long (at least 20 ms, at most 1 s), because what had queued is still
// coming in then.
//
// # Memory
//
// Bounded by MaxOrders (about 400 bytes each with its user and sku; beyond them
// grants are answered 503 and not applied) and MaxArrivals (8 bytes each; beyond
// them nothing is recorded and the books say that they are truncated).
package partnertest
