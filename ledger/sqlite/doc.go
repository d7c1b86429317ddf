// Package sqlite is the ledger's engine for one machine: SQLite, in the process,
// without a server.
//
// # Files
//
//	ledger.db          derived from the log; may be removed, then it is rebuilt
//	ledger-kept.db     runs and audit, which are nowhere else
//	*-wal, *-shm       belong to the file they are named after
//	*.damaged-<n>      a file that could not be read, set aside, never deleted
//
// Both are in WAL mode, with one connection that writes and a few that read, so
// readers never wait for the follower.
//
// ledger.db has synchronous=NORMAL: a commit is not synced. A crash of the
// process loses nothing; one of the machine may lose the last batches, together
// with the place behind them, and the follower applies them again. ledger-kept.db
// has synchronous=FULL: a call that returned nil survives a loss of power.
//
// # Damage
//
// A file that is no database or does not read back is set aside, with an error in
// the log that names it, and begun anew; ledger.db also while the program runs,
// when the follower meets the damage. A file with a newer schema is left alone
// and refused with ErrNewer.
//
// # Layout
//
// A user's claims lie side by side, keyed by user and claim, and are sorted by
// time when they are read. An index by time would save that sort of a few hundred
// rows, and cost two fifths of the insert rate and three fifths more disk.
package sqlite
