package quota

import (
	"fmt"
	"math"
	"time"

	"manna/gift"
)

// The bounds of the package's comment.
const (
	// Late is how long after its moment a slot may be used: a hundredth of a
	// second, which also makes up for late timers.
	Late = 10 * time.Millisecond
	// Ahead is how long before its moment a slot may be leased.
	Ahead = 500 * time.Millisecond
	// Skew is how far clocks may be apart where a register is made anew.
	Skew = 250 * time.Millisecond
	// Ask is how often a node reads the register when it needs nothing.
	Ask = 250 * time.Millisecond
	// WipePause is how long nothing is handed out where a register is gone from a
	// centre that was there all the time: until all that was leased has passed.
	WipePause = Ahead + Skew
	// Pause is the same where the centre was away. It is more than WipePause, and more
	// than what a node in standby needs to notice: Ask, a breaker's pause, a call.
	Pause = 1250 * time.Millisecond
	// StandbyAfter is how long the centre is away before a node goes on alone. It is
	// more than Ahead + Skew + Ask and a call.
	StandbyAfter = 2 * time.Second
	// Confirm is how long a spacing holds that nobody confirms.
	Confirm = 5 * time.Second

	// headroom is the share of the rate that is not handed out, so that a second
	// holds no more than the rate although a slot may be used Late:
	// (1 + Late) × (1 − headroom) < 1.
	headroom = 0.01
)

// Register says what of a partner's rate is handed out. Moments are on the wall
// clock, in nanoseconds since 1970.
type Register struct {
	Spacing time.Duration // between two slots
	Next    int64         // the first moment that nobody holds
	Kept    int64         // until then nobody makes Spacing smaller
}

// Slots are moments that one node holds: First, and N−1 more, a Spacing apart.
type Slots struct {
	First   int64
	Spacing time.Duration
	N       int
}

// PerSecond is how many starts a second may hold at a rate: ⌊rate⌋, or one for a
// rate below 1/s. Shares of a rate are rounded binary fractions: 0.29 × 100 is
// meant to be 29.
func PerSecond(r gift.Rate) int { return max(1, int(math.Floor(float64(r)*(1+1e-12)))) }

// Spacing is the time between two slots at a rate.
func Spacing(r gift.Rate) time.Duration {
	pace := min(float64(r), float64(PerSecond(r))*(1-headroom))
	return time.Duration(math.Ceil(float64(time.Second) / pace))
}

// Begin is a register made at a moment where there was none, after a pause: Pause or
// WipePause.
func Begin(now int64, spacing, pause time.Duration) Register {
	return Register{Spacing: spacing, Next: after(now, pause, spacing), Kept: now + int64(Confirm)}
}

// after is the first moment to hand out after a pause: far enough from a start at the
// pause's end that no second holds both and one more.
func after(now int64, pause, spacing time.Duration) int64 {
	return now + int64(pause+min(spacing, time.Second+Late))
}

// Lease hands out at most want slots at a moment, to a node whose rate asks for a
// spacing. It hands out none where they would be more than Ahead.
func (r Register) Lease(now int64, spacing time.Duration, want int) (Register, Slots) {
	if spacing >= r.Spacing || now >= r.Kept {
		r.Spacing, r.Kept = spacing, now+int64(Confirm)
	}
	r.Next = max(r.Next, now)
	s := Slots{First: r.Next, Spacing: r.Spacing}
	if room := now + int64(Ahead) - r.Next; room >= 0 {
		s.N = int(min(int64(want), room/int64(r.Spacing)+1))
	}
	r.Next += int64(s.N) * int64(r.Spacing)
	return r, s
}

// Resume is the register as the first node leaves it that finds a centre again
// which was away. Where others have used it since, it is as it was.
func (r Register) Resume(now int64) Register {
	if r.Next < now {
		r.Next = after(now, Pause, r.Spacing)
	}
	return r
}

// Strange reports a register that no lease can have left at the given moment: one
// of the clocks is wrong.
func (r Register) Strange(now int64) bool {
	return r.Next-int64(r.Spacing) > now+int64(Pause+Skew)
}

// AppendText appends the form that centres keep: "1 <spacing> <next> <kept>".
func (r Register) AppendText(b []byte) ([]byte, error) {
	return fmt.Appendf(b, "1 %d %d %d", int64(r.Spacing), r.Next, r.Kept), nil
}

// UnmarshalText reads what AppendText gives.
func (r *Register) UnmarshalText(text []byte) error {
	var version int
	var read Register
	n, err := fmt.Sscanf(string(text), "%d %d %d %d", &version, (*int64)(&read.Spacing), &read.Next, &read.Kept)
	switch {
	case err != nil || n != 4 || read.Spacing <= 0:
		return fmt.Errorf("%.80q is no register of a quota: give this cluster a prefix of its own, or servers", text)
	case version != 1:
		return fmt.Errorf("the quota's register has version %d, and this program knows 1: bring all nodes to one release", version)
	}
	*r = read
	return nil
}
