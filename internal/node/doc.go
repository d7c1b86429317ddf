// Package node puts the rooms together into one running node: the fallback log,
// the claim front-end, the lanes, the ledger, the reconciler and the two ports.
// `manna serve` is this package with a command line around it.
//
// # Starting
//
// Open takes the data directory (or fails at once where another process has it),
// recovers the log, restores the switches that people hold, and rebuilds guard
// and stock; it ends early when its context does. Run listens on both ports and
// works until its context ends.
//
// The ledger is opened by Run, with patience: damaged files are set aside and
// rebuilt, and one that cannot be opened is named by /readyz and tried again
// while claims and deliveries go on.
//
// # Stopping
//
// In this order, within the configured bound: no new claims are accepted and
// those under way are answered; no new calls begin and those under way end with
// their outcome written; the lanes write their checkpoints; the ledger stops;
// the log is sealed. Whatever the bound cuts short is repeated harmlessly after
// the next start: it is what a crash would have done.
//
// A log that is poisoned ends the node: Run returns its error at once.
package node
