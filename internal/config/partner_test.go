package config

import (
	"math"
	"strings"
	"testing"
)

func TestLowRates(t *testing.T) {
	for rate, want := range map[string]string{
		"50/s": "", "3000/s": "", "3000/m": "",
		"49.9/s": "more than 49 calls begun, and at the partner's door it may be 50, as long as the times on the way there differ by less than 20ms",
		"900/m":  "more than 15 calls begun, and at the partner's door it may be 16, as long as the times on the way there differ by less than 67ms",
		"0.5/s":  "more than 1 call begun, and at the partner's door it may be 2, as long as the times on the way there differ by less than 2s",
		"50/h":   "less than 1m12s",
	} {
		c := mustParse(t, strings.Replace(minimal, "3000/s", rate, 1))
		var got string
		for _, w := range c.Warnings {
			got += w.Message
		}
		if !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: got %q, want %q", rate, got, want)
		}
	}
}

// A rate keeps its fraction from the file to the lane.
func TestFractionalRates(t *testing.T) {
	for text, want := range map[string]float64{"0.5/s": 0.5, "30/m": 0.5, "100/m": 100.0 / 60, "2.5/s": 2.5, "1/h": 1.0 / 3600} {
		c := mustParse(t, strings.Replace(minimal, "3000/s", text, 1))
		p := c.Partners[0]
		if got := float64(p.Rate); math.Abs(got/want-1) > 1e-12 {
			t.Errorf("%s: got %v a second, want %v", text, got, want)
		}
		// Its backlog is worked off at that rate.
		if got, want := c.Forecasts()[0].Takes.Seconds(), 10/want; math.Abs(got/want-1) > 1e-6 {
			t.Errorf("%s: ten orders take %v s, want %v", text, got, want)
		}
	}
}
