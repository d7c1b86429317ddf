package ledgertest

import (
	"testing"
	"time"

	"manna/gift"
	"manna/ledger"
)

// Opener opens one ledger's home for a node, as Engine.Open does.
type Opener func(t testing.TB, node string, now func() time.Time) ledger.Cluster

// RunCluster puts an engine that many nodes share through the part of the suite
// that is about them; fresh makes an empty home.
func RunCluster(t *testing.T, fresh func(t testing.TB) Opener) {
	RunOutcomes(t, fresh)
	RunMarks(t, fresh)
	RunChoices(t, fresh)
	RunRefunds(t, fresh)
	run(t, fresh, []clusterTest{
		{"partners' texts may hold anything", strangeTexts},
		{"two followers of one log apply each record once", twoFollowers},
		{"a registered node of which nothing was taken in holds the time back", lagOfNodes},
		{"a node that has left holds the time back until its log is known", lagOfNodeThatLeft},
		{"a log without records is known to its end", emptyLog},
		{"leases never exceed the stock", leasesWithinStock},
		{"a lease goes on after a restart, and fences the process before", leaseAfterRestart},
		{"a return that comes late changes nothing", lateReturn},
		{"a dead node's stock is free once it is settled", settledStock},
		{"a log that shows more than was leased is said loudly", overdrawnStock},
		{"what a log that is gone had leased is not leased again", stockOfLostLog},
		{"an estate is what a node holds and what is known of its log", estates},
		{"a claim is refunded once", refunds},
		{"nodes that die leasing lose and double nothing", leasingNodesDie},
		{"a node's name belongs to one process", nodeNames},
		{"a copy of a home waits until the node is silent", copiedHomes},
		{"nodes come, beat, leave and are given up", nodesLive},
		{"of many processes that join one has the name", contestedName},
		{"a log that has lost its end is not let in as the node's", shortLogs},
	})
}

// RunOutcomes is the part of RunCluster about ledger.Store and ledger.Outcomes.
func RunOutcomes(t *testing.T, fresh func(t testing.TB) Opener) {
	run(t, fresh, []clusterTest{
		{"an order's outcome is found from any node", outcomeOfAnotherNode},
		{"an outcome may come before its claim", outcomeBeforeClaim},
		{"over one log an order stands as its story tells", storiesAgree},
		{"the order in which logs arrive does not matter", arrivalDoesNotMatter},
		{"a replayed log says what it said", replayedOutcomes},
		{"a claim that two nodes recorded is read as the gift that it gets", claimWithTwoGifts},
	})
}

// RunMarks is the part of RunCluster about ledger.Marks.
func RunMarks(t *testing.T, fresh func(t testing.TB) Opener) {
	run(t, fresh, []clusterTest{
		{"an attempt is marked by one", contestedMarks},
		{"a mark's holder recognises its own", repeatedMarks},
		{"a granted order is not marked again", grantedMarks},
		{"the highest mark stands in the way of all below", highestMarks},
		{"marks are released by their holder alone", releasedMarks},
		{"old marks of ended orders are swept", sweptMarks},
		{"marks of bad attempts are refused", badMarks},
	})
}

// RunChoices is the part of RunCluster about ledger.Choices.
func RunChoices(t *testing.T, fresh func(t testing.TB) Opener) {
	run(t, fresh, []clusterTest{
		{"a claim has one gift", contestedChoices},
		{"a choice that is asked for again is the same", repeatedChoices},
		{"old choices are swept", sweptChoices},
	})
}

// RunRefunds is the part of RunCluster about refunds that follow from outcomes.
func RunRefunds(t *testing.T, fresh func(t testing.TB) Opener) {
	run(t, fresh, []clusterTest{
		{"a claim is refunded when all its orders are refused", refusedClaims},
		{"a refused claim is refunded once", refundedOnce},
		{"of a claim that nodes recorded several times one gift is given", recordedTwice},
		{"refunds follow from what was taken in, by whomever and in any order", refundsFollow},
	})
}

type clusterTest struct {
	name string
	run  func(t *testing.T, open Opener)
}

func run(t *testing.T, fresh func(t testing.TB) Opener, tests []clusterTest) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, fresh(t)) })
	}
}

func (o Opener) open(t *testing.T, node string, now func() time.Time) ledger.Cluster {
	t.Helper()
	l := o(t, node, now)
	t.Cleanup(func() { l.Close() })
	return l
}

// join registers a node's process with a home of the node's own.
func join(t *testing.T, l ledger.Registry, node string) ledger.Holder {
	t.Helper()
	epoch, err := l.Join(t.Context(), ledger.Process{Node: node, Home: "disk-of-" + node, Roles: []string{"front"}, Version: "1", Address: node + ":8081"})
	ok(t, err)
	return ledger.Holder{Node: node, Epoch: epoch}
}

// orderOf is the id of the one order of user's claim.
func orderOf(user string) gift.OrderID { return claim(user, "rain", start()).Claim.Orders[0].ID }
