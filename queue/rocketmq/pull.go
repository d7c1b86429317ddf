package rocketmq

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// pulled is the answer to a pull.
type pulled struct {
	msgs  []stored
	next  int64 // where to go on
	begin int64 // of the queue: its oldest message, or its end
	end   int64 // of the queue: the offset that the next message gets
	// moved: the broker has no message at the offset asked for and never will.
	moved bool
}

// more reports whether there is something at next.
func (p *pulled) more() bool { return p.end > p.next }

// milestone is where a reader of a queue has come to.
type milestone struct {
	offset int64 // of the next message
	log    int64 // where in the broker's log the last message was; 0: not known
}

// passed goes on behind what was pulled.
func (m *milestone) passed(p pulled) {
	m.offset = p.next
	if n := len(p.msgs); n > 0 {
		m.log = p.msgs[n-1].log
	}
}

// isOfAnotherStore reports whether what was pulled at a milestone shows that the
// broker has lost the store in which the milestone was reached: the queue ends before
// it, or goes on in a part of the log that was passed before.
func (p *pulled) isOfAnotherStore(at milestone) bool {
	return p.moved && at.offset > p.end || len(p.msgs) > 0 && p.msgs[0].log < at.log
}

// The flags of a pull: hold it while there is nothing; the subscription comes
// with it. Neither commits anything.
const (
	pullHold      = 2
	pullSubscribe = 4
)

// pull reads messages from an offset on, waiting up to hold where there is none.
// It takes part in nothing: whoever pulls is no member of the group.
func (c *cluster) pull(ctx context.Context, group string, s shard, from int64, limit int, hold time.Duration) (p pulled, err error) {
	flags := pullSubscribe
	if hold > 0 {
		flags |= pullHold
	}
	a, err := c.wire.call(ctx, s.addr, reqPull, s.fields(
		"consumerGroup", group, "queueOffset", strconv.FormatInt(from, 10), "maxMsgNums", strconv.Itoa(limit),
		"sysFlag", strconv.Itoa(flags), "commitOffset", "0", "suspendTimeoutMillis", strconv.FormatInt(hold.Milliseconds(), 10),
		"subscription", "*", "subVersion", "0", "expressionType", "TAG",
	), nil)
	if err != nil {
		return p, fmt.Errorf("%v: %w", s, err)
	}
	switch a.Code {
	case ansDone, ansNothingNew, ansAgain, ansOffsetMoved:
	case ansGroupUnknown:
		return p, fmt.Errorf("%v: the broker knows no consumer group %s and makes none: mqadmin updateSubGroup -g %s, or autoCreateSubscriptionGroup=true", s, group, group)
	default:
		return p, fmt.Errorf("%v: %w", s, &answerError{s.addr, a.Code, a.Remark})
	}
	if p.next, err = strconv.ParseInt(a.Fields["nextBeginOffset"], 10, 64); err != nil {
		return p, fmt.Errorf("%v: %w: next offset %q", s, errNotRemoting, a.Fields["nextBeginOffset"])
	}
	if a.Code == ansNothingNew {
		// The broker may think that a place at which there is nothing yet is the end
		// of a file, and name the beginning of the next one.
		p.next = from
	}
	p.moved = a.Code == ansOffsetMoved
	if p.begin, err = strconv.ParseInt(a.Fields["minOffset"], 10, 64); err == nil {
		p.end, err = strconv.ParseInt(a.Fields["maxOffset"], 10, 64)
	}
	if err != nil {
		return p, fmt.Errorf("%v: %w: it reaches from %q to %q", s, errNotRemoting, a.Fields["minOffset"], a.Fields["maxOffset"])
	}
	if a.Code == ansDone {
		if p.msgs, err = decodeStored(a.body); err != nil {
			return p, fmt.Errorf("%v from %d: %w", s, from, err)
		}
	}
	return p, nil
}
