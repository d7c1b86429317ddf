// Package memcachetest has memcached servers for tests: Start runs the real one
// (build tag engines), in a process of the test's own, with flags of its own, that it
// may fill, wipe, kill, pause and start again; Fake speaks as much
// of its protocol as Manna uses, in the test's own process, and does as it is told
// what no real server would do when a test wants it to.
package memcachetest
