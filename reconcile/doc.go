// Package reconcile proves what was delivered and brings back what was lost:
//
//	reissue = expected − actual − in flight
//
// Expected are the orders in `claimed` records, actual those that were granted;
// both come from the sealed indexes of the fallback logs alone: this node's own,
// and in a cluster those that the other nodes have archived. In flight is what the
// lanes may still have, by their watermarks. The rest is missing, and goes back
// through the lanes like any other order.
//
// # A run, step by step
//
//  1. mark = the log's end.
//  2. The status of every lane.
//  3. The other nodes' logs, as far as they have arrived.
//  4. Seal: everything appended before this call is in a sealed index.
//  5. Merge all indexes by id, and judge each order that was claimed in
//     [From, To) by its rows.
//  6. Where the gate is open: append `reissued` records to this node's own log,
//     then Send, a batch at a time.
//  7. The report's files, then the run's entry in the history.
//
// # Why nothing on its way is taken for missing
//
// A lane lets an order go (Ack, Defer) only after the outcome is in the log. Take
// an order that a lane has at step 2: it is covered by one of the watermarks, as
// queue.Status promises. Take one that a lane had let go by step 2: its outcome
// was appended before, so the indexes of step 4 hold it; a final one decides the
// class, a deferred one is covered by the watermark of due times. Take one that
// reached its lane after step 2: its claim, or the record that brought it back,
// was appended at or after mark, or so shortly before that Slack covers it. Were
// the log sealed first and the lanes asked second, an order granted between the
// two would look missing.
//
// The same order works for the other direction: what no watermark covers was in
// no lane at step 2, has no outcome in the log, and was written before mark, so
// nobody is at work on it. An order that was lost may be taken for in flight, for
// as long as older orders are waiting in its lane or Slack has not passed; a
// later look finds it.
//
// Slack is drawn from every watermark: records are stamped before they are
// committed, so neighbours in the log may be stamped out of order, and a reissue
// needs a moment from its record to its lane.
//
// # Several logs
//
// An order's claim may be in one node's log and its outcomes in others', which
// arrive late. So what the lanes said is of use only once every log has arrived at
// it: the lanes are looked at again and again, and a run goes by the newest look
// that is older than what all logs have arrived at, by Slack. Until then an order is
// in flight. In place of mark come, for the other logs, the time of that look, and
// the `sent` watermarks that were written before it: a claim that its node had not
// fed by then is on its way.
//
// The rows of several logs are put in one order by their times, claims first, each
// log's in its own; a clock that is set back is taken to stand still. Nobody can tell
// which of two records of different nodes came first where they are less than Slack
// apart. There the doubt of one is not settled by the other, and what one says was
// parked does not go on. What one says was refused stays so for good, short of a grant:
// the partner has said its word, and a node that writes on has not heard it yet.
//
//	missing or late log  of a node that is registered and not retired, or that has a
//	                     folder in the archive: the report is incomplete, by name,
//	                     and nothing at all is reissued, for it may hold the outcome
//	                     of any order
//	node that left       its log counts as it is, once it is there to its end; claims
//	                     that it had not fed are named, for nobody will
//	retired node         its log counts as it is, and what it had not fed is missing
//	lost records         make the reports of their time incomplete; a missing order
//	                     that was claimed before is unknown, for its outcome may have
//	                     been among them
//
// # Classes
//
//	matched     granted once, with the amount that was claimed; a grant that was
//	            told twice, with the same reference, is granted once
//	duplicate   granted with different references
//	mismatched  granted with another amount; a claim of amount 0 has none
//	refused     by the partner
//	parked      waits for a person
//	in_flight   not final, and its lane may have it
//	unknown     not in flight, and may have been applied: the last outcome was
//	            unknown, or an attempt has no outcome
//	missing     not in flight, and certainly not applied
//	unexpected  granted, and no `claimed` record in the log; in the slot of the
//	            grant
//
// matched + duplicate + mismatched = actual. Each expected order is in exactly
// one class, and unexpected ones are in none of expected:
//
//	expected − actual − in flight − refused − parked = missing + unknown
//
// A claim that several nodes recorded with different gifts, for want of the guard, gets
// one of them; the lanes refuse the orders of the others. One that was given two all the
// same, in that no gift of its own has all of its orders that were granted, is a
// discrepancy beside its orders: a line of class duplicate that names the claim and two
// of the gifts, in the slot in which it was recorded last. It is counted apart.
//
// Missing and unknown orders are reissued. A reissue calls no partner; the lane
// does, with its unknown-outcome protocol. An attempt that has no outcome gets
// its `unknown` record first, so that the reissue does not hide the doubt.
//
// # Running it twice
//
// A reissue is in the log before it is in a lane. The second run of a slot
// therefore finds each order either final, or covered by its lane, or reissued
// less than Slack ago, and does nothing. A crash between record and Send leaves
// an order that is in no lane; once Slack has passed it is missing again, and the
// next run brings it back with a new record. The lanes' watermarks decide that,
// not the run's name: a rule that "this run has reissued it already" would lose
// the order for good. Two messages of one order would be harmless, for the lane
// looks the order up before it calls.
//
// Of two processes that run one slot, the history fences the earlier one: it is
// asked before each commit. A run without a slot is fenced by whoever takes a slot
// after it. What a run on another node has reissued is in that node's log: until it
// has arrived at the run's end nothing is reissued here. A run that never said how
// it ended has ended when the next slot was taken.
//
// # What a run does not do
//
// It does not look whole where the log has lost records: what a repair could not
// bring back makes every report of that time incomplete, by segment. The orders
// whose outcome may be among it are unknown in the log itself; their lanes ask,
// repeat with the same key, or park.
//
// It gives no order back to a lane twice on purpose, but it cannot stop between its
// question to the history and the commit that follows: a process that sleeps there
// for longer than Slack may repeat what the next one did, which the lanes find out.
//
// It reissues nothing while BacklogUnder or more first deliveries wait in the
// lanes: a lane that is behind has lost nothing yet. A lane that cannot be asked,
// or that nobody serves, makes the report incomplete, by name, and nothing is
// reissued on its account. A gate that is closed while something is missing, or
// a lane that cannot be asked, leaves the slot undone; it is run again at the
// next tick.
//
// # The schedule
//
// Slots are UTC hours, [20:00, 21:00), so they know no summer time. A tick, and
// the first comes at the start,
//
//  1. runs every slot that has ended and is not done, oldest first, from the
//     place in the history or from the log's first claim on. What was missed more
//     than 48 slots ago is one run. At a slot that cannot be done it stops, with
//     one report of everything since.
//  2. looks again at the hour before the last slot and at every hour since the
//     oldest order that was not final at the last such look. Right after a start
//     this is the whole log. So each order is looked at in the first and in the
//     second hour after its own, and from then on every hour until it is final.
//
// While the history is not to be had the schedule waits, and says so.
//
// In a cluster every node that reconciles has a schedule and looks at the lanes, so
// that any of them can take over at once. Whoever takes a slot runs it, and does the
// second looks until another takes one. A report can be complete at a tick only if
// the other nodes' logs are sealed and archived in time: with a tick at seven past,
// segments may get five minutes old.
//
// # Cost
//
// The merge holds a chunk of rows of each index of each log on each core, whatever
// the number of rows, and one order's rows. Records are read only for orders granted more
// than once and for those that are reissued. The list of discrepancies is cut at
// MaxListed, those that need a look first; every one is a line of the .ndjson
// file, sorted by order id, that of a claim by the claim's.
//
// # Files and commit points
//
//	<dir>/<run>.ndjson  every discrepancy
//	<dir>/<run>.txt     the report for people
//	<dir>/<run>.json    the report; gets its name last: the report's commit point
//
// A run's name follows from its request alone, so a second look at a slot
// replaces the report of the first. The commit point of a reissue is the append
// of its records.
package reconcile
