// Package embedded is the queue engine without a server: the lanes follow the
// fallback log itself, and a queue is nothing but positions in it.
//
// # Promise
//
// What package queue promises, and beyond it: an order is never handed out while
// it is held, nor when the log has a final outcome for it, nor before the due time
// that the log gives it. Close and a crash differ only in how much of the log the
// next start reads.
//
// It trusts that a claim is in the log once, that only the holder of a message
// calls its partner, and that records of an order name its partner and the
// position of its claim.
//
// # Parts of a lane
//
//	log ──▶ blocks ──scan──▶ buffer ──┐
//	 │      (counted,        (read)   ├──choose──▶ out ──▶ let go
//	 └────▶ schedule ─────────────────┘             │
//	          ▲                                     │
//	          └────────────later────────────────────┘
//
// One goroutine for all lanes, the tail, reads the log as it grows. It counts the
// orders of new claims into the blocks of their lanes, or puts them into the
// buffer where the lane has nothing older to read, puts each deferred, unknown and
// reissued record into its lane's schedule, and notes which claims have any record
// beside their own. So the schedule is a function of
// the log: Defer and Send write nothing, they wait until the tail has passed the
// record that their caller appended.
//
// Receive takes turns between the schedule and the buffer. What it takes is out
// until it is let go. A record that comes for an order that is out waits with it
// ("later"), and enters the schedule when it is let go; of several only the newest.
//
// An entry of the schedule is a due time and the position of the record; the rest
// is read from the log when it is due. It is handed out only where its record is
// the one that carries the order: the last deferred, unknown or reissued record,
// with no final outcome behind it.
//
// # Memory
//
// A lane keeps at most 256 first deliveries decoded, besides those of one claim
// or one reading, 4096 blocks whatever the backlog, what is out, and 16 bytes for
// each entry of the schedule. Those together with what is out are bounded by
// MaxDeferred: at the bound no fresh order is handed out, so there is always room
// to defer what is held. Reissues are never refused, for they are in the log
// already; above the bound they only hold fresh orders up.
//
// # Checkpoints
//
// A checkpoint says, of one moment:
//
//	through   the position that the tail had reached
//	low       the oldest claim with an order of the lane that is in the blocks, in
//	          the buffer, or out as a first delivery; through where there is none
//	touched   the highest claim of which an order was handed out, or has a record
//	entries   the schedule, the entries of what is out, and those that wait with it
//
// Opened again, a lane takes the entries, replays the records from through on,
// which may add entries and raise touched, and goes on with first deliveries from
// low. The number of orders from low on is counted from the log's indexes.
//
// # Why nothing is lost
//
// Take an order of the lane without a final outcome in the log.
//
// It has a record that carries it. If that lies at or after through, the replay or
// the tail adds its entry. If it lies before, the tail had seen it when the
// checkpoint was made, and its entry was in the schedule, out, or waiting with what
// was out: entries leave these places only when the order is acknowledged, which
// takes a final outcome in the log, or for another record of the same order. All
// three places are in the checkpoint.
//
// It has none. Then it was never let go, for that takes an outcome. So its claim
// is at or after low, and first deliveries come to it.
//
// A checkpoint that is missing or does not validate is one with through, low and
// touched at the log's start and no entries, for which the same holds. It costs
// reading the whole log and is logged loudly. A checkpoint that has seen more than
// the log has, or needs what lies before its beginning, means that segments are
// missing: that is an error.
//
// # Why nothing is handed out wrongly
//
// A first delivery at or before touched is looked up. Final: dropped. With a
// record that carries it: dropped, because by the above the schedule has it. With
// an attempt that has no outcome: handed out in doubt. Otherwise handed out again,
// not Fresh.
//
// A first delivery after touched is Fresh: an order that has any record after the
// checkpoint has raised touched in the replay, and one that had a record, or was
// handed out, before it is at or before touched already. What can have happened is
// that the order was handed out after the checkpoint and called right before the
// crash, without a record. A partner that dedupes answers the repeat as the same
// grant; for one that cannot, the `attempted` record comes before the call, and
// that record raises touched.
//
// # Commit points
//
// None: the log has them. A checkpoint takes effect with the rename of
// <partner>.lane; whatever happens before or after, the log decides.
//
// # Format of <partner>.lane
//
// Little-endian:
//
//	 0  8   "MANNALAN"
//	 8  4   format version
//	12  4   number of entries
//	16  8   through
//	24  8   low
//	32  8   touched
//	40  8   position of a record of the log that this belongs to, or 0
//	48  8   that record's time, Unix nanoseconds
//	56  16  each entry: due time, Unix nanoseconds; position of the record
//	 …  4   CRC-32C of the bytes before
package embedded
