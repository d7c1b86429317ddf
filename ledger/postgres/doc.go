// Package postgres is the ledger's engine for a cluster: one PostgreSQL, version 12
// or later, that all nodes share. It is a read model of all nodes' logs, and the
// place of what nodes have to agree on: runs, marks of attempts, leases of stock,
// the nodes themselves. Claims go on without it, as the package ledger says.
//
// # Tables
//
//	claims       a node's claims, with their orders          derived
//	orders       which claim an order is of                  derived
//	outcomes     of each order, node and sort the last event derived
//	switched     changes of switches                         derived
//	refusals     claims whose refund is to be weighed        derived
//	followed     how far each node's log was taken in        derived
//	nodes        the registry                                kept
//	runs         reconciliation runs                         kept
//	schedule     one row: slot, epoch and holder             kept
//	audit        deeds through the admin port                kept
//	marks        one row for an order and number of attempt  kept
//	choices      one row for a claim: the gift that it gets  kept
//	stock        one row for a gift: what was refunded       kept
//	leases       a node's lease of a gift                    kept
//	formers      whose lease has stayed with a log that      kept
//	             has no node any more
//	refunds      gifts of claims that came back              kept
//
// They are in one schema, with goose's schema_version. What is derived may be
// truncated while no program runs, all six tables together; then it is rebuilt as
// far as the logs reach. What is kept is to be backed up.
//
// # Commit points
//
//	Apply       one transaction with the place. It is not synced: a crash of the
//	            server takes the last batches with their places, and they are read
//	            again. Two followers of a log meet on the node's row in followed;
//	            one of them gets ErrMoved.
//	Mark        one INSERT for all attempts, synced. Of two that meet on a row, one
//	            waits for the other's commit and then sees its row.
//	Choose      one INSERT for all claims, likewise.
//	Runs        the row of schedule is locked first, so all decide one by one.
//	Lease, Return, Settle
//	            the gift's row of stock is locked first, then the node's is held, so
//	            the sum of the leases and the holder's epoch stay as they were read.
//	Refund      the claim's row and the sum, in one statement; with RefundRefused in
//	            the transaction that lets the refusals go. Each refusal came in with its
//	            outcome, and is weighed when that can be seen: of two that were taken in
//	            side by side the later one finds both.
//	Join        the node's row is locked, then its leases where they become Former's:
//	            the name and what was leased under it change hands at once, and what was
//	            known of the log before is noted with them.
//
// Locks are always taken in this order, and rows of one table in the order of their
// keys. A deadlock that comes about all the same is broken by the server and the
// call repeated, a few times.
//
// # Failing or slow
//
// Every call is bounded by Options.Timeout, in the client and by the server's
// statement_timeout; the wait for one of the pool's connections is within that. A
// connection whose call was cut off is thrown away, and the pool makes another when
// it is needed: nothing has to be done once the server is back. Errors name the
// server and what was asked, never the password; where the server cannot be
// reached, or does not answer in time, they are ledger.ErrUnavailable.
//
// A call that writes and was cut off may still take effect. Every one of them is
// made so that asking again is harmless; Stock says what a Return that was cut off
// asks of the node.
//
// A transaction whose client stopped is ended by the server, and its locks with it,
// after twice the Timeout.
//
// # Starting
//
// Open migrates the schema under an advisory lock of the schema's own, so nodes may
// start together and in any order. A migration has no bound in time and belongs to
// the ledger: the log has each statement before it is made, no caller that gives up
// breaks it off, and only Close does. Each migration is a transaction; what was broken
// off is made again. Meanwhile all calls fail at once with ledger.ErrUnavailable, which
// says that the schema is being prepared. Calls that come while it is found out whether
// there is anything to migrate wait for that together, for one Timeout.
//
// Look opens the ledger for a person beside the node's own process: it neither
// migrates nor ends runs. A schema that knows more versions than the
// program is refused and left alone. Wrong credentials, a missing database, another
// encoding than UTF8 and missing rights are refused with one line. With
// Options.Later a server that cannot be reached is not: the ledger comes up with
// the first call that reaches it.
//
// The connections set parameters at their start and use prepared statements. A
// connection pooler between is to keep sessions apart (pool_mode=session) and to
// pass these parameters on.
//
// # Clock
//
// Leases, beats, and entries without a time are stamped by the server's clock, which
// is one for all nodes. Times of records are the nodes' own.
package postgres
