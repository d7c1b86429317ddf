package gift

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rate is how many calls a partner bears in a second.
type Rate float64

// ParseRate reads "3000/s", "900/m" or "7200/h". A bare number is refused:
// nobody should have to guess its unit.
func ParseRate(s string) (Rate, error) {
	number, unit, ok := strings.Cut(s, "/")
	var per time.Duration
	switch strings.TrimSpace(unit) {
	case "s":
		per = time.Second
	case "m", "min":
		per = time.Minute
	case "h":
		per = time.Hour
	default:
		ok = false
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is no rate: write calls per second, minute or hour, like 3000/s, 900/m or 50/h", clip(s, 40))
	}
	r := Rate(n / per.Seconds())
	if !(r > 0 && r <= 1e6) {
		return 0, fmt.Errorf("%q is out of range: a rate is above 0 and at most 1000000/s", clip(s, 40))
	}
	return r, nil
}

// Interval is the time between two evenly paced calls.
func (r Rate) Interval() time.Duration { return time.Duration(float64(time.Second) / float64(r)) }

// String writes the rate as ParseRate reads it, in the first unit in which it is
// a whole number: 3000/s, 100/m, 50/h. One that is whole in none is written with
// its fraction, by the hour.
func (r Rate) String() string {
	perHour := float64(r) * 3600
	for _, u := range []struct {
		name  string
		hours float64
	}{{"/s", 3600}, {"/m", 60}, {"/h", 1}} {
		n := perHour / u.hours
		// What ParseRate divided is a rounded binary fraction.
		if whole := math.Round(n); whole >= 1 && math.Abs(n-whole) < 1e-9*n {
			return strconv.FormatFloat(whole, 'f', -1, 64) + u.name
		}
	}
	return strconv.FormatFloat(perHour, 'f', -1, 64) + "/h"
}
