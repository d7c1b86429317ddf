// Package ledger is the SQL read model of the fallback log, and the small state
// that is nobody's record of an order: reconciliation runs and the audit of the
// admin port. It follows the log, and no claim needs it: the front asks it where its
// guard fails or cannot be sure, and for a claim that another node has recorded, and
// goes on without an answer.
//
// # What is derived, what is kept
//
//	derived from the log             rebuilt whenever it is missing
//	  claims by user                 from `claimed`
//	  switches, with their history   from `switched`
//	  where orders stand             from outcomes; only of a store that wants them
//	  each node's place              how far its log has been taken in
//	kept here alone                  durable when the call returns
//	  reconciliation runs            headlines, the slot watermarks
//	  audit of the admin port        who did what, when, and what came of it
//	  marks, stock leases, nodes     what a cluster has to agree on (Cluster)
//
// A node's derived rows are a function of that node's log and of nothing else,
// so a rebuilt ledger gives the answers that the lost one gave. What a rebuild
// can find is what the log still has: claims in segments that were taken away are
// gone from here too, and the follower says so.
//
// # When it is lost
//
// The derived part may be deleted at any time while the program is stopped; the
// follower reads the log from its beginning.
//
// The kept part is lost as history: past runs are no longer listed, and audit
// entries are gone, except changes of switches, which AuditLog takes from the
// log. Nothing is delivered twice for it: a slot that is run again finds the
// orders it reissued by their `reissued` records, which carry the run's id, and
// an order that reached its end by its outcome. An engine therefore keeps the two
// parts so that the loss of the first does not touch the second.
//
// # When it cannot be opened
//
// A node does not wait for its ledger. Patient opens it, at first and again and
// again: a file that is locked, a directory that may not be written to, a disk
// that is full, a database server that is down. Meanwhile claims and deliveries go
// on, readiness names the ledger, users' claims that only the ledger could list
// and everything that has to be in the audit are refused as unavailable, and the
// reconciler waits.
//
// # Exactly once
//
// The follower applies records in batches. Commit point: the rows of a batch and
// the place behind it become durable in one transaction. A batch says from which
// place it goes on, and is refused with ErrMoved where the ledger stands
// elsewhere, so neither a crash, nor a commit whose answer was lost, nor a second
// follower can apply a record twice or leave one out.
//
// With the place the ledger keeps a Mark, the fingerprint of the last record it
// took in. A place beyond the end of the log, or a Mark that the log does not
// have, means that the log is not the one that was followed: what was derived
// from the old one is dropped, loudly, and built anew. Salvaging a log by `manna
// log repair` lays records elsewhere; where that happened before the Mark only
// the positions in old rows tell it, so the derived part is to be removed then.
//
// # Orders over several logs
//
// An order's claim is in one log and its outcomes may be in others'. Of each order
// and node the ledger keeps the last outcome, the last attempt and the last
// reissue, in the order of that log; a grant is kept whatever follows. Fold tells
// from these rows where the order stands, and says how ties between nodes are
// decided. So the logs may be taken in in any order, and dropping one node's rows
// leaves what the others say.
//
// # Never in the way
//
// The follower has lower priority than claims. A batch is bounded in records and
// in time. At the end of the log it waits until there is news and looks at most
// once every 100 ms. Behind a log that is being written it pauses after each
// batch for as long as the batch took, so it never uses more than half of a core
// and falls behind instead; AsOf and the metrics say how far. Behind a log at
// rest it does not pause. Whatever fails, a full disk included, it waits and
// tries again, and the claim path does not notice.
//
// # States of a run
//
//	running ──▶ finished   its slot is done
//	   ├──────▶ failed     it said so; the slot may be started again
//	   └──────▶ crashed    its lease ended, or its node started anew, before it
//	                       said anything; the slot may be started again
//
// Commit point of a slot: StartRun returns nil. The slot's watermark and the
// epoch move together, and a run with an older epoch is fenced: it can neither
// renew its lease nor finish. Slots are finished in order; a run's window begins
// where the last finished slot ended, so a slot that was never finished is
// covered by the next.
package ledger
