// Package quota keeps one partner's rate over many nodes. It hands out slots: moments
// at which one call may start, on one node.
//
// # Promise
//
// A node calls in a slot that it holds, at the slot's moment by its own clock or up
// to Late after it, never before. Then, with D the most by which any two nodes'
// clocks differ,
//
//	no second, wherever it begins, holds more starts than ⌈(1 + Late + D) ÷ Spacing⌉
//
// over all nodes together. Spacing makes this ⌊rate⌋ where the clocks agree, and
// at most 1.05 × rate, to the next whole start, where they are 50 ms apart.
// Under backlog on one node or on many, no slot but those is left unused: 99 % of
// the rate is handed out.
//
// # The centre
//
// All nodes share one register for each partner: {Spacing, Next, Kept}. Next is the
// first moment that nobody holds. To lease n slots a node reads the register and
// replaces it, if it is unchanged, by one whose Next is n spacings later; what it
// held back is its own. A replacement whose answer was lost counts as made, and its
// slots as lost.
//
// Proof of the bound. Replacements are in one order, and each begins where the one
// before ended, or later; so of all slots ever leased from one life of the register
// each is at least its spacing after the one before. A start in the true second
// [t, t+1) belongs to a slot whose moment lies in (t − Late − D, t + 1 + D'), with
// D and D' the bounds of the nodes' clocks, D + D' the most by which they differ.
// An interval of length 1 + Late + D holds at most its length ÷ Spacing, rounded up.
//
// # A register that is gone
//
// memcached may be wiped, or restarted. A slot is leased at most Ahead before its
// moment, so whatever was leased from the life before has passed after Ahead, by
// whichever clock, and Skew for clocks that differ. A register that is made anew
// begins WipePause later, which is the two together, and a spacing: nothing is handed
// out twice, and a wipe costs three quarters of a second of the rate. 97 % of a minute
// with one in it are used.
//
// Who has not reached the centre just before cannot know whether others are in
// standby, and pauses as on the way back from there.
//
// # A rate that changes
//
// Nodes read their configuration at different times. The lowest rate that any of
// them has is in force: who has a lower one writes its spacing at once, who has a
// higher one waits until the spacing has not been confirmed for Confirm.
//
// # Standby
//
// A node that has not reached the centre for StandbyAfter makes slots of its own, at
// a share of the rate divided by the number of nodes, and goes on asking. That is
// longer than any slot lives that anybody may have leased before, so the two never
// add up. On the way back, the first to reach a centre that nobody has used since
// moves Next to Pause and a spacing from now. Everyone asks at least every Ask, so
// every other node has noticed and stopped its own slots by then.
//
// Bound: where the centre is away for some nodes only, those m of N that lost it add
// their share to what the others are given: rate × (1 + share × m ÷ N). A share of 0
// pauses them instead.
//
// # Clocks
//
// Nodes that know a clock on which they agree better than on their own go by that. A
// register that is further ahead of a node's clock than any lease could be was
// written by a node whose clock is wrong, or is read by one: it is left alone
// (ErrClock) as long as it moves, so that the two never call at once, and taken over
// when it has stood still for longer than what was leased from it lives.
package quota
