// Package memcached is the guard that several fronts share, on memcached.
//
// # Promise
//
// As long as the servers keep what they are given, one claim is held by one front
// at a time, and a recorded claim is found by every front. A reservation whose node
// died stays, for nobody else can know whether that node's log has the claim: it ends
// when the node is back and has told what its log has, or else after Options.Lease. A
// crash neither eats a claim nor doubles it.
//
// A server that has forgotten everything says so: what it holds from then on is
// Unsure, until every front has told it its own log's claims again. One that
// restarted is noticed by the first call, one that was told to forget (flush_all)
// within a second. What a front could not tell while a server was away it tells later.
//
// Not promised: that the servers keep single claims. Evicting or away, they let a
// claim in on a second front, and so do those that forgot what a front told that is
// gone itself; it has the same id there, and whatever delivers it recognises it, and
// gives one gift where two were chosen. A front asks its own log first, so on one
// front no claim gets in twice whatever happens here. The limit of
// claims per user then holds for each front rather than for all: what was forgotten of
// it is not told again.
//
// # Keys
//
//	manna:g:<claim>        reserved by a node, or recorded in a node's log
//	manna:s:<claim>:<n>    where a user may make fewer claims than the scene has
//	                       stages: one key for each that may be made, named after
//	                       the claim of the first stage
//	manna:t:<tag>:<node>   the server of the tag has what the node told it
//	manna:d:<tag>          it has not what some node told it; lives for 3 s
//
// A value is text: "r <node> <token>" is reserved, "c <node> <position>" recorded,
// "s <claim>" a slot taken. A reservation lives for Lease, its slot for 5 s, and what is
// recorded for Keep. A token begins with the process's incarnation; under t is the word
// of a process, "<incarnation> <position> <earlier incarnations>": what its log had when
// it started has been told, and of what came later everything before the position.
//
// # States of a key
//
//	(nothing) ──Add──▶ reserved ──Commit: Set──▶ recorded ──Keep──▶ (nothing)
//	    ▲                 │
//	    └─Release, Lease──┘
//
// Add is what decides: of several one succeeds. Whose answer is lost is read back
// and compared; tokens are unique, so what is found is one's own or not. The
// limit is decided the same way: a limit of n is n slots, a claim has to Add one,
// and n claims at most can.
//
// # Own reservations
//
// The guard knows which reservations its process holds. One that bears its node's
// name and is not among them was left by an earlier process, or by a call whose
// answer was lost, and is taken over. Two processes must therefore not have one
// node name; the lock on the data directory sees to that on one machine, the
// configuration on several.
package memcached
