// Package memcached is the quota's centre on memcached: one key for each partner,
// "manna:q:<partner>", read with its version and replaced by compare-and-swap.
//
// It promises what quota.Centre does. The key is asked for several times a second by
// every node that serves the partner, so a server that has to evict evicts others
// first; one that loses it all the same costs what a wipe does. A value that is no
// register, or of a newer format, is an error, and the centre counts as away: it is
// never overwritten.
package memcached
