// Package client asks the admin API of a running node. The commands of `manna`
// and its demo are its users.
//
// # Promise
//
// A request is made once: nothing is repeated, so whether to repeat one is the
// caller's to say. What the server refuses comes back as the *gift.Error that the
// server meant, with its code and field. ErrNoServer means that nobody took the
// request; after any other error it may have been carried out.
//
// A Client bounds how much of an answer it reads, and leaves the time to the
// context: a reconciliation answers when it is done.
package client
