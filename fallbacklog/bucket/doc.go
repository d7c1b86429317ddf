// Package bucket is the contract of the places that keep an archive: objects with
// a key, written whole and never changed in place. Package directory is one on a
// disk, package s3 one behind the S3 protocol, and package engine opens either by
// its URL. buckettest is the suite that every engine passes.
//
// # Promise
//
// Put and Replace return nil only after the object is there for good and has been
// found to be what it should be: by a checksum that the engine computed over what
// it keeps, or by reading it back. Another content is never written over: Put takes
// a key that is free, or has this very content already, and Replace says what it
// replaces. So both may be repeated after an answer that was lost.
//
// An object is seen whole or not at all. What is left of an upload that was cut
// short has no key, or is no object.
//
// Nothing is ever removed through a Bucket.
//
// # Fencing
//
// Of two who replace the same content one gets ErrConflict. A directory decides
// that under a lock, and S3 by conditional requests (If-Match, If-None-Match). For
// a server that says it has none of these, the engine compares right before it
// writes, which leaves the moment between the two.
//
// # Keys
//
// A key is names joined by slashes. A name is 1 to 200 letters, digits and
// "-_.~+=@,:" of ASCII, does not begin with a dot and does not end with ".tmp";
// a key has at most 1,000 bytes.
package bucket
