// Package console is the operator's side of a running node: the admin API on its
// own port. It shows lanes, breakers, orders and runs, and lets a person hold a
// breaker, take a parked order up again, reconcile, and claim in bulk.
//
// # Promise
//
// Everything under /v1/admin needs the token that serve writes into the data
// directory; /healthz, /readyz and /metrics do not.
//
// Every change is in the audit before it is made: an entry `begun` says who means
// to do what, then it is done, and a second entry says `done` or what it failed
// with. An entry `begun` without a second one was cut off by the end of the
// process. What cannot be entered is not done. A switch needs no ledger: its
// `switched` record in the fallback log, written before it takes effect, is its
// entry in the audit.
//
// A node that stops changes nothing any more before its log is closed to other nodes:
// what was done through it would not be in what they have of that log.
//
//	GET  /healthz                           the process lives
//	GET  /readyz                            it can do its job, or what is not ready
//	GET  /metrics                           Prometheus
//	GET  /v1/admin/status                   node, log, lanes, breakers
//	GET  /v1/admin/partners                 the lanes
//	GET  /v1/admin/switches                 breakers and their modes
//	POST /v1/admin/switches/{name…}         {"mode","why","who"?}
//	GET  /v1/admin/orders/{id}              the story of an order
//	GET  /v1/admin/claims/{id}              the stories of a claim's orders
//	POST /v1/admin/orders/{id}/reissue      {"why","who"?}: take a parked order up again
//	POST /v1/admin/claims                   up to 1,000 claims in one commit
//	POST /v1/admin/reconcile                one run now
//	GET  /v1/admin/runs                     earlier runs
//	GET  /v1/admin/nodes                    the nodes of the cluster
//	POST /v1/admin/nodes/{name}/lose        {"why","who"?}: its process will never run again
//	POST /v1/admin/nodes/{name}/retire      {"why","who"?}: nothing more is to come of it
//	POST /v1/admin/nodes/{name}/settle      {"why","who"?}: give back what it leased and did not hand out
//	GET  /v1/admin/audit                    who changed what
package console
