// Package credential reads what shows who somebody is: secrets that two sides
// share, and keys that tokens are verified with. The configuration asks it what
// is wrong with one before anything starts, and the rooms that use them read them
// through it, so that `manna check` and `manna serve` cannot disagree.
//
// # Promise
//
// What is malformed or too weak is refused with an *Error that names the remedy.
// No error holds a secret or a part of one.
//
// # What is too weak
//
//	a secret of HS256, HS384, HS512   below the size of its hash: 32, 48 or 64
//	                                  bytes (RFC 7518, 3.2)
//	an RSA key                        below 2048 bits (RFC 7518, 3.3)
//	a secret that signs webhooks      below 24 bytes (Standard Webhooks 1.0)
package credential
