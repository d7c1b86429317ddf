// Package memcache is the client over several memcached servers that guard and
// quota share: gomemcache, with what it lacks.
//
// # Promise
//
// A call ends within three times Options.Timeout (waiting for room, dialling, and
// the exchange; one each), whatever the servers do. A server that hangs or is down
// is out of the path within four times that, and costs nothing from then on but a
// probe every OpenFor. What one server does slows no call to another.
//
// Not promised: that anything stored is still there. A cache is a hint.
//
// # Which server
//
// Rendezvous hashing: a key belongs to the server with the highest hash of both,
// so a server added or removed moves only the keys that it gets or had. The list
// has to be spelled alike on every node; its order does not matter. Nothing fails
// over to another server: a key has one home, or none. Where a key has a part in
// braces, only that part is hashed, so that keys which must live and die together
// do.
//
// # Errors
//
//	ErrMiss, ErrExists, ErrConflict   answers: the server is well
//	ErrFull                           it is well and has no room left (memcached -M)
//	ErrDown                           it is not reached, not in time, or makes no sense;
//	                                  or a breaker refused the call
//	any other                         our mistake: a key or value that cannot be
//
// After ErrDown a write may have been applied or not, and may be applied still.
//
// # Breakers
//
// One with the store's name ("guard", "quota") is the switch that people hold; it
// opens by itself when most of all calls fail. Where there are several servers,
// each has one more ("guard/10.0.0.7-11211") that takes it out alone. Held closed,
// the store's breaker lets calls through to the servers', which still decide.
//
// # Expiry
//
// memcached reads seconds up to 30 days as "from now" and more as a moment of its
// own clock. Times to live up to 30 days are sent as the former, because the two
// clocks may differ, and longer ones as the latter, because as the former they
// would expire at once.
package memcache
