// Package crashdisk is a disk in memory that can lose power, fill up and fail at
// operation N. It is for tests, and it promises a program no more than
// disk.Disk does: what a real file system happens to keep beyond that, this one
// may lose.
//
// # What it models
//
// A file has what was written and what is on the platter, in sectors of 512
// bytes. Sync copies the one to the other. A sector is written whole or not at
// all; the sectors of one write survive a power loss each on its own, in any
// combination. A file's size grows with the sectors that survive, or survives
// without them, when the missing ones read as zeros. A Truncate that was not
// synced may be undone.
//
// A directory has a list of changes to its names that SyncDir has not yet made
// durable. Each survives a power loss or not; a change is never kept where an
// earlier one of the same name is lost, and both ends of a rename go together.
//
// After a Sync or SyncDir that failed, what it should have made durable counts
// as clean: the next one returns nil and does not write it, a power loss takes
// it, and only the page cache still shows it.
//
// # What it does not
//
// Renaming directories, links, permissions, memory maps. Names take no room.
//
// # Crash, Kill and the original
//
// Crash and Kill each give a new disk and leave the original as it was: a
// workload may go on there, and its later writes do not show on the copy. The
// copy is taken between two operations of the original, never within one. On a
// copy no file is open, no lock is held, no fault is pending, nothing has been
// counted and no hook is set; the capacity stays.
//
// Everything that chance decides follows from the seed and the order of calls.
package crashdisk
