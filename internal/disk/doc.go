// Package disk is the one seam through which Manna touches files that must
// survive a crash. The fallback log, the lanes' checkpoints and the archive open,
// write, rename and sync through a Disk and through nothing else, so that a test
// can put a disk underneath that loses power, fills up or fails at operation N.
//
// # What survives
//
// Bytes written survive a power loss only after Sync has returned nil; a file's
// name survives only after SyncDir on its directory has returned nil. Between
// write and sync any part of the bytes may survive, in any order of sectors.
//
// After Sync has failed, the file's content on the disk is undefined and a
// second Sync may return nil without having written anything: the only safe
// reaction is to stop using the file and recover from what can be read anew.
//
// OS is the real disk. crashdisk holds the one for tests.
package disk
