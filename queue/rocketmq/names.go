package rocketmq

import (
	"fmt"
	"strings"

	"manna/gift"
)

// kind says what a topic of a lane is for.
type kind uint8

const (
	firsts kind = iota // first deliveries
	soon               // due now or in a moment: reissues, short deferrals
	later              // deferrals that the broker's timer has released
	kinds
)

// kindNames are parts of topics' names.
var kindNames = [kinds]string{"first", "soon", "later"}

const (
	asideName = "aside"
	marksName = "marks"

	maxGroup = 32
	maxTopic = 127 // the broker's bound
)

// checkGroup reports why a name cannot be the group. It has no dash, so that the
// names of topics can be told apart whatever groups and partners are called.
func checkGroup(group string) error {
	if err := gift.CheckName(group); err != nil || len(group) > maxGroup || strings.ContainsAny(group, ".-") {
		return fmt.Errorf("queue group %q: use letters, digits and '_', at most %d of them, like manna", group, maxGroup)
	}
	return nil
}

// marksOf names a group's topic of watermarks.
func marksOf(group string) string { return group + "-" + marksName }

// topicOf names a topic of a partner's lane.
func topicOf(group, what, partner string) (string, error) {
	// Of what a partner's name may have, RocketMQ does not take the dot; a name has
	// no percent sign of its own.
	name := group + "-" + what + "-" + strings.ReplaceAll(partner, ".", "%")
	if len(name) > maxTopic {
		return "", fmt.Errorf("partner %s: topic %s is longer than %d bytes", partner, name, maxTopic)
	}
	return name, nil
}

// topics are the names of a lane's topics.
type topics struct {
	of    [kinds]string
	aside string
	group string // the lane's consumers
}

func topicsOf(group, partner string) (t topics, err error) {
	for k, name := range kindNames {
		if t.of[k], err = topicOf(group, name, partner); err != nil {
			return t, err
		}
	}
	if t.aside, err = topicOf(group, asideName, partner); err != nil {
		return t, err
	}
	t.group, err = topicOf(group, "lane", partner)
	return t, err
}
