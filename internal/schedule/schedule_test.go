package schedule

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	now := time.Date(2027, 2, 5, 12, 7, 0, 0, time.UTC)
	for spec, next := range map[string]string{
		"7 * * * *": "13:07", "*/15 * * * *": "12:15", " 0 3 * * 1-5 ": "03:00", "30 12 29 2 *": "12:30",
	} {
		s, err := Parse(spec)
		if err != nil {
			t.Errorf("%q: %v", spec, err)
		} else if got := s.Next(now).Format("15:04"); got != next {
			t.Errorf("%q runs next at %s, want %s", spec, got, next)
		}
	}
	for spec, word := range map[string]string{
		"": "no schedule", "TZ=UTC": "zone", "CRON_TZ=Asia/Shanghai 7 * * * *": "zone", "@every 1h": "start of the process", "@hourly": "start of the process",
		"7 * * *": "no schedule", "99 * * * *": "no schedule", "7 * * * * *": "no schedule", "0 0 30 2 *": "never comes",
		strings.Repeat("1", 1000): `1111…"`,
	} {
		if _, err := Parse(spec); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: got %v, want an error that says %q", spec, err, word)
		}
	}
}
