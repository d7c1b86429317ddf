// Package rocketmq is the queue engine on Apache RocketMQ 5: the lanes of many
// nodes over the brokers that others run.
//
// # Promise
//
// What package queue promises, at least once: an order that was fed or sent without
// an error is received until it has been let go. It comes more than once after a
// crash, after a queue has moved to another member, and after a send whose answer
// was lost; the lane's holder looks into the log, which decides. First deliveries
// come in order of age as far as the queues of a topic are even: each queue keeps
// its order, and a lane takes the eldest of what its queues show.
//
// Brokers that flush asynchronously, and most do, lose the last moments with their
// machine's power. The log has those orders, and the reconciler brings them back.
//
// It sends through the official client, and reads through a small client of its own
// for the remoting protocol (frame.go, wire.go). The official consumer gives up a
// message after fifteen minutes and a queue after two of a full buffer, and brings
// both back by the broker's retry queue; a lane may pause for a night.
//
// # Topics
//
// For the group manna and the partner midas:
//
//	manna-first-midas   first deliveries, brought by the feeders
//	manna-soon-midas    what is due within seconds: reissues, short deferrals
//	manna-later-midas   deferrals, which the broker's timer holds until they are due
//	manna-aside-midas   what could not be read; nobody consumes it
//	manna-marks         watermarks, see below
//	manna-lane-midas    the consumer group
//
// A topic that is missing is created with Options.Queues queues on each broker;
// one that has fewer in all is refused, for that many consumers share a lane at
// most. A dot in a partner's name is written '%'.
//
// # A message
//
// The body is in protobuf's wire format, the version first:
//
//	1 version  2 claim, as the log has it  3 which of its orders
//	4 node, 5 position of the claim in that node's log
//
// What changes from delivery to delivery is in properties: attempts, queries,
// doubt, began and due (Unix nanoseconds), and release where the timer gives a
// message back before it is due. A first delivery has none. testdata holds a
// message of each kind; what a release wrote once, all later ones read.
//
// A message of a newer version and one that is no order of the lane are put aside:
// sent to the aside topic with the reason in the property aside_why, logged, counted
// in manna_queue_aside_total, and let go then. If it was one of ours, the
// reconciler misses its order and brings it back, after the upgrade or before.
//
// # Members, queues and places
//
// Each process that has opened a lane is a member of its group, by heartbeats over
// a connection to each broker. All members work out from the same two sorted lists
// which queues are whose; a broker tells of a member that came or went, at once
// where its connection closed, after two minutes where its machine fell silent.
//
// A queue is read by pulls that wait at the broker, a few dozen messages ahead of
// the receiver and no more, so a lane that nobody receives from holds still for as
// long as it likes. A message is held by no clock.
//
// The place of a group in a queue is the lowest offset that has not been let go
// (window.go). It is committed every Options.CommitEvery, when the queue moves to
// another member, and by Close; and again every ten seconds, because a broker that
// is killed forgets the last ones.
//
// # Deferral
//
//	Defer ── due within 2 s ──────▶ soon ───────────────▶ received, waits for the rest
//	  │ ──── later ───▶ timer ───▶ later ───────────────▶ received, waits for the rest
//	  └ ──── cannot be sent ──────▶ kept by the lane, in memory, sent when it can be
//
// The attempt is sent as a new message, and the one that was held is let go when
// the broker has said SEND_OK. What is due beyond Options.MaxDelay is given back by
// the timer before and sent away again.
//
// # Commit points
//
// SEND_OK is the one for Feed, Send and Defer: any other answer is an error, and
// the messages may have been stored. For Ack and Defer it is the commit of a place:
//
//	crash                                     what it leaves
//	in Feed or Send                           any part is stored; the feeder feeds again, the
//	                                          `reissued` record is found without an outcome
//	after receive, before Ack or Defer        the message comes again as it was
//	after Ack, before its place is written    the message comes again; the log says final
//	in Defer, before SEND_OK                  the held message comes again as it was
//	after SEND_OK, before the place           both come; the log has the later due time
//	with deferrals kept in memory             the held messages come again as they were
//
// # Outages
//
// Servers that are away at Open, or later, are waited for: Feed fails and is tried
// again by the feeder, or waits with the breaker; Send fails; Defer keeps; lanes
// give what they hold in memory and then nothing until they can read again. A name
// server is needed only to find what is not known yet: topics that were used before
// are used on after a failure, unless somebody says that they are gone or closed. Of
// several name servers each is asked until one knows, for one that was started again
// knows nothing at first.
//
// What waiting does not mend, a partner's topic that was made with too few queues or
// may not be written, is that partner's alone: Feed and Send give a
// queue.LaneRefusedError. Topics that had enough before, and those of brokers that are
// closed or away, are waited for. Trouble that lasts is logged once a minute with its
// reason.
//
// # A store that is lost
//
// A broker whose disk was replaced comes back without topics, messages, places and
// what its timer held. It is known by what it says: it knows nothing of a topic, a
// queue ends before the place that a lane has reached in it, or the queue's next
// message lies in a part of the broker's log that was passed before. Then, each told
// once as an error:
//
//	its topics       are made anew by the first node that hears of it, as wide as the
//	                 name servers remember them, and only on the brokers without them
//	a lane's place   goes back to where the queue begins. What comes again that way is
//	                 final by the log, and dropped; no message is passed over
//	the marks        are read anew, and each sender stores one before it sends more
//	what is held     is let go as ever, and deferred into the new store
//
// A queue of which only the last moments are lost looks the same, and the lane reads
// again all that the broker keeps of it.
//
// What the lost store held is in the logs of the nodes that accepted it, and there
// alone until it is in a queue again, under durability: replicated too. The feeders do
// not bring it again: it is behind their watermarks, which say that the queue has had
// it. No lane's watermark covers it any more, so it is missing to the reconciler, whose
// hourly run, or manna reconcile, sends it again. Deferred orders follow once they are
// overdue.
//
// # Status
//
// Backlog and Deferred are counted by offsets, and the timer's by its own count,
// which lags a little, and is wrong for a while after a broker was killed: estimates.
// Held is this
// process's own.
//
// Oldest is the lowest of the claim times of the messages at which the group stands
// and of what may be behind them. Nodes are mixed in a queue, and one that was cut
// off brings old claims late, so what is behind need not be younger. Therefore each
// sender stores a mark, never more than five seconds before it begins to send, that is
// not above the times of what it sends; what has waited at the breaker follows another
// one. What was stored after t is covered
// by the lowest mark that was stored since a minute and a bit before t. OldestSeen is
// the lowest of the former alone.
//
// OldestDue is found in the same way over the topic soon; and it is at most ten
// minutes before the time that the brokers' timers have come to, because what they
// hold, or have just released, cannot be seen. A message that moves between topics
// while Status looks is seen: it reads all places first, and then what lies behind
// them.
//
// # The client
//
// Its log goes to Options.Logger: errors as warnings, the rest for debugging. Its
// panics are caught and logged. Both are the process's, so they are those of the
// queue that was opened last. Close shuts it down when nothing is being sent any
// more. Goroutines of a client that was closed young outlive it by ten seconds, and
// the one that reads from the name server ends when that closes the connection,
// after two minutes of silence. Linked, it has a cache that is swept for ever.
package rocketmq
