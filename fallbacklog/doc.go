// Package fallbacklog is the durable record of what was expected (claims) and
// what happened (outcomes). It is the truth; the queue is transport and caches
// are hints.
//
// # Promise
//
// Append returns nil only after the records are on the disk (fdatasync); all who
// wait share one sync. What has been appended is read back in the order of its
// positions, by readers that may follow the live tail. Damage is loud: a record
// that cannot be read back makes Open, a reader and Verify fail with a
// *CorruptError that names file and offset. It is never skipped.
//
// It does not promise that an Append which failed left nothing behind: after
// ErrFull nothing of it will be read; after ErrPoisoned it may or may not be.
//
// # States
//
// A log is open, full or poisoned. Full: the last append met a full disk; nothing
// is lost, and appends succeed again once there is room. Poisoned: a write or a
// sync failed, so what the file holds is not known; every further append fails,
// nothing is synced again, and what is durable can still be read. The remedy is
// to end the process and start it again: Open reads what is really there.
//
// A segment is active, then sealed (footer written, nothing changes any more),
// then indexed. Only the last segment may be active. While indexes cannot be
// written, no more than a few segments wait for theirs: the active one grows past
// its size, up to a bound at which appends fail with disk.ErrFull.
//
// # Commit points
//
//   - acceptance of a claim: Append of its `claimed` record returns nil
//   - an outcome: Append of its record returns nil
//   - a segment: the rename of <number>.seg.next, after its predecessor's footer
//     has been synced
//   - an index: the rename of its finished file; until then, and whenever it is
//     missing or damaged, it is rebuilt from the segment
//   - a recovered or repaired segment: the rename of <number>.seg.recover over
//     the one that was there
//
// # What a repair has lost
//
// Repair salvages what validates; the rest is gone, and its footer says how much.
// The next Open takes that in: each order that is not final in what is left, and of
// which nothing was written after the loss, gets an `unknown` record, for its
// outcome may have been there; a parked one is parked again. Then a `lost` record
// says what happened, once for each repair. From there on the lanes treat these
// orders like any other whose outcome is unknown, and reports of that time name the
// loss. A claim of which no record is left cannot be told from one that was never
// made.
//
// # Files
//
//	00000001.seg            a segment
//	00000001.idx            its index
//	00000007.seg.next       the next segment being prepared; removed by Open
//	00000006-<seed>.torn    what was cut from the tail of segment 6 by the recovery
//	                        that sealed it; nobody was told that it was accepted
//	00000003-<sum>.damaged  segment 3 as it was before Repair salvaged it
//	00000003.idx.damaged    an index that Repair has taken out of the way
//	lock                    held by the one process that owns the directory
//
// Numbers are consecutive from 1 on. A segment that is missing, also at the end
// with its index left, is damage. That the last, active segment has been taken
// away cannot be told from the files: who has read the log remembers how far, and
// tells Open as Options.Reached.
//
// # Segment format
//
// All integers are little-endian. A segment begins with a header: two blocks of
// 512 bytes with the same content, so that damage to one leaves the seed, without
// which nothing in the segment can be told from noise.
//
//	  0  8   "MANNASEG"
//	  8  2   format version
//	 10  1   length of the node's name
//	 12  4   segment number
//	 16  4   seed, random for each segment
//	 20  8   creation time, Unix nanoseconds
//	 28  32  chain: the link in the footer of the segment before
//	 60  64  node's name
//	508  4   CRC-32C of the bytes before
//
// and goes on with frames:
//
//	0  4   CRC-32C, started from the seed, of all that follows
//	4  4   length of the payload, at most MaxRecord
//	8  1   kind: a record's, 0xFD gap, 0xFE batch, 0xFF footer
//	9  n   payload
//
// The seed inside the checksum means that bytes of an earlier file on the same
// blocks never validate. Room that was reserved and not written reads as zeros,
// and zeros are no frame.
//
// Every group commit is one batch frame and the records it announces:
//
//	0  4   offset of this very frame
//	4  4   bytes of the frames that belong to it
//	8  4   number of those frames
//
// A batch is written only after the one before it has been synced. A batch frame
// therefore confirms everything before it: if something before a valid batch
// frame does not validate it was once durable, and this is corruption. If nothing
// valid follows, it is the torn tail of a commit that nobody was told of. When
// the log goes idle it writes an empty batch, so that even the last commit is
// confirmed after a kill; the next batch or the footer is written over it.
//
// A gap lies over what Repair could not salvage, so that everything else keeps
// its position. The records that follow a gap stand alone, up to the next batch.
//
// The footer's payload:
//
//	 0  32  SHA-256 of the header and all frames before
//	32  32  link: what the next segment's header has as its chain. It is the hash;
//	        in a segment that was repaired it is the hash that it had before
//	64  8   time of the first record, Unix nanoseconds
//	72  8   time of the last record
//	80  4×16 number of records of each kind
//	144 8   bytes of records that Repair could not bring back; -1 where the whole
//	        segment was missing
//
// # Archive
//
// An Archiver copies sealed segments, each after its index, into a bucket (see
// package bucket), under the names that they have here:
//
//	<node>/00000001.seg
//	<node>/00000001.idx
//	<node>/manifest.json   what there is of this node, and as of when
//
// Nothing in it is removed or written over but the manifest, and an index whose segment
// is not there. In a bucket that is a directory the folder of a node is itself a log
// that Open, Verify and Records read.
//
// The manifest has a line for each segment: number, size, SHA-256, its place in the
// chain, times, counts, what a repair has lost of it, and its index. It is JSON; a
// reader skips fields that it does not know, and refuses another format. It only
// grows, and says:
//
//   - as_of: whatever an Append had answered by then is in the segments. That is now,
//     while nothing waits to be sealed, and else when the first segment that is not
//     archived was begun. The log's SegmentAge bounds how far it is behind. A clock
//     that is set back makes it wrong until it has caught up; the archiver says so.
//   - written: renewed about every minute, so that a node's silence shows.
//   - writer: the archiver. Of two that write one node's manifest the later one to
//     start goes on, and the other archives nothing more and says why. A log that
//     lacks a segment which the manifest lists, or has another one, archives nothing.
//
// Commit points: an object, once its bucket has looked at what it keeps; a segment,
// the manifest that lists it. An archiver that is killed between the two finds the
// object, reads it through and lists it. Where the log's own has been repaired since,
// the archived one stays.
//
// An Archive reads all nodes' logs on any machine: manifests as they are now, indexes
// through a cache on disk, few of them open at a time, and records in parts, or of a
// cached segment once there are many. Everything is checked against the manifest. Restore brings archived segments
// back into a log that has lost them; its commit point is the rename over what was
// there, which has been set aside before.
//
// # Record format
//
// Payloads are protocol-buffer wire format with the field numbers in codec.go.
// A reader skips fields that it does not know, so a release may add fields and
// be read by the one before it.
//
// # Index format
//
// Rows of 48 bytes sorted by id, then position, in pages of 4096 bytes, each with
// its own checksum; see Row and index.go. Look-ups, restart, in-flight counts and
// reconciliation read indexes, not records. Of an index that is open its fences and
// names are in memory, for as long as the log is; its file is open while it is read,
// and of the newest ones, Options.IndexFiles of them, always.
package fallbacklog
