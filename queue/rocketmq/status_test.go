package rocketmq

import (
	"strconv"
	"testing"
	"time"

	"manna/fallbacklog"
)

// TestWhatTheTimerGaveBackEarly: a message whose delay was more than the timer
// takes stands before others that are due long before it.
func TestWhatTheTimerGaveBackEarly(t *testing.T) {
	l := &Lane{partner: "midas", queue: &Queue{opts: Options{Node: "a"}}}
	m := samples()["deferred"].m
	body, err := appendBody(nil, &m, "a", string(fallbacklog.AppendClaim(nil, m.Claim)))
	if err != nil {
		t.Fatal(err)
	}
	due, release := evening.Add(40*time.Hour), evening.Add(24*time.Hour)
	prop := func(name string, at time.Time) string {
		return name + "\x01" + strconv.FormatInt(at.UnixNano(), 10) + "\x02"
	}
	for _, c := range []struct {
		what, props string
		body        []byte
		want        time.Time
	}{
		{"given back when it was due", prop(propDue, due), body, due.Add(-timerMargin)},
		{"given back before", prop(propDue, due) + prop(propRelease, release), body, release.Add(-timerMargin)},
		{"strange", prop(propDue, due), nil, time.Unix(0, 0).Add(-timerMargin)},
	} {
		var w lowest
		w.released(l, &stored{body: c.body, props: []byte(c.props)})
		if !w.known.Equal(c.want) {
			t.Errorf("%s: the watermark is %v, want %v", c.what, w.known, c.want)
		}
	}
	var w lowest
	w.released(l, nil)
	if w.known.After(time.Unix(0, 0)) {
		t.Errorf("nobody knows what is there, and the watermark is %v", w.known)
	}
}
