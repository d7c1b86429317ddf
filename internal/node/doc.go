// Package node puts the rooms together into one running node: the fallback log,
// the claim front-end, the queue and its feeder, the lanes, the ledger, the
// reconciler and the two ports. `manna serve` is this package with a command line
// around it.
//
// # One machine, or many
//
// A node without servers does everything by itself: its lanes follow its log, its
// guard is in the process, its ledger is a file. With queue, guard and ledger on
// servers it is one of several, each with a name, a log and a data directory of its
// own, and has one or more roles:
//
//	front      takes claims on the public port, leases stock ahead
//	lanes      delivers what the queue gives it, at its part of the partners' rates
//	reconcile  compares the logs of all nodes, one node at a time
//
// Whatever its roles, a node feeds what its own log has to the queue, archives it,
// has the ledger follow it, and answers on the admin port for any order. Nodes find
// each other in the register alone (member.go), which the ledger keeps: a node joins
// when it starts and leaves when it has stopped in order. Two processes under one
// name are refused, one whose log is an older copy of the node's is, and one that a
// person has declared lost ends.
//
// # Starting
//
// Open takes the data directory (or fails at once where another process has it),
// recovers the log, restores the switches that people hold, and rebuilds guard
// and stock; it ends early when its context does. Run listens on both ports and
// works until its context ends.
//
// Nodes and servers need no order of start. What waiting cannot put right is refused
// (a wrong password, a topic with too few queues, a schema of a newer release, a
// bucket without permission); a server that is away is named in the log and by
// /readyz, and tried again while claims go on. The SQLite ledger is opened by Run,
// with patience: damaged files are set aside and rebuilt.
//
// # Ready
//
// A node of a cluster is ready as long as it can accept claims, for every other node
// has the same servers: what is wrong with those are notes beside. A node that is
// alone is ready when all of it works.
//
// # Stopping
//
// In this order, within the configured bound: no new claims are accepted and
// those under way are answered; leased stock goes back; no new calls begin and
// those under way end with their outcome written; feeder and reconciler stop; the
// log is sealed, the archive and the ledger take in its end; the node leaves the
// register. Whatever the bound cuts short is repeated harmlessly after the next
// start: it is what a crash would have done.
//
// A log that is poisoned ends the node: Run returns its error at once.
package node
