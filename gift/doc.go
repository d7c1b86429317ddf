// Package gift is the domain of Manna: campaigns and the gifts they give,
// the claims users make, the orders those claims turn into, and what a partner
// can answer to an order. It imports nothing else of Manna; everything else
// imports it.
//
// # Identity
//
// Ids are UUIDs of version 5 and depend on nothing but their inputs:
//
//	campaign namespace = UUIDv5(Namespace, campaign)
//	claim id           = UUIDv5(campaign namespace, scene|user|stage)
//	order id           = UUIDv5(claim id, item)
//
// The same claim therefore has the same id on every machine, before and after
// every crash, without asking anyone. That is what makes a repeat harmless
// wherever it happens: the front-end's guard, the lanes, and the partner, which
// sees the order id as its idempotency key, all recognise it.
//
// Scenes, stages and items are Names and hold no '|', so the three parts of a
// claim's input can always be told apart whatever the user id holds.
//
// # States
//
// An order moves through these states and never leaves a final one:
//
//	accepted ──▶ granted   (final) the partner handed the gift over
//	   │ ▲  └──▶ refused   (final) the partner said no, with its reason
//	   ▼ │  └──▶ parked    (final until a person acts) nothing more is tried
//	deferred     certainly not applied; tried again when due
//	unknown      may have been applied; queried or repeated with the same key
//
// A claim is accepted until every one of its orders is final, then settled.
package gift
