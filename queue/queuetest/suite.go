package queuetest

import (
	"testing"
)

// Run puts an engine through the suite.
func Run(t *testing.T, e Engine) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, w *world)
	}{
		{"first deliveries come in order of age", order},
		{"a crash at any point loses nothing", crashAnywhere},
		{"what was not acknowledged is received again", outOfOrder},
		{"a deferred order comes back when it is due", deferral},
		{"a deferred order comes back after a crash", deferralAndCrash},
		{"an outcome without its Defer is not lost", recordWithoutDefer},
		{"an attempt without an outcome is in doubt", attemptAndCrash},
		{"fresh and due orders do not starve each other", turns},
		{"a reissue overtakes the backlog", reissueOvertakes},
		{"a reissue of a held order is looked at again", reissueOfHeld},
		{"a reissue before the first delivery is one order", reissueAhead},
		{"orders of one claim are let go one by one", packs},
		{"a lane that nobody receives from holds no other", independence},
		{"a lane can be closed and opened again", reopen},
		{"closing hands back what is held", handBack},
		{"the status counts what is there", counts},
		{"a long backlog takes no memory", memory},
		{"receivers share a lane", receivers},
		{"receivers that wait are woken", wakeUps},
		{"a lane opened while claims come in misses none", openWhileClaiming},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, e)
			c.run(t, w)
			w.close()
		})
	}
	t.Run("watermarks cover whatever has not been let go", func(t *testing.T) { property(t, e) })
}
