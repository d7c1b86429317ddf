// Package schedule reads when the reconciler runs: five fields of cron, in UTC.
// The configuration checks a schedule with the function that the reconciler reads
// it with, so that they cannot disagree.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Want says what to write.
const Want = `write five fields in UTC, minute hour day month weekday, like "7 * * * *" for seven past every hour`

// maxShown bounds how many bytes of a specification an error repeats.
const maxShown = 60

// Parse reads a specification. Its error says what is wrong with it; Want says
// what would be right. A schedule is refused that names a zone, that is counted
// from the start of the process ("@every"), for one that restarts often would
// never run, and that never comes, like the 30th of February.
func Parse(spec string) (cron.Schedule, error) {
	spec = strings.TrimSpace(spec)
	switch {
	case strings.Contains(spec, "TZ="):
		// The parser panics on a zone without fields.
		return nil, errors.New("takes no zone: runs are in UTC")
	case strings.HasPrefix(spec, "@"):
		return nil, fmt.Errorf("%s is counted from the start of the process, so a restart would shift it", shown(spec))
	}
	s, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(spec)
	if err != nil {
		return nil, fmt.Errorf("%s is no schedule: %w", shown(spec), err)
	}
	if s.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%s never comes", shown(spec))
	}
	return s, nil
}

func shown(spec string) string {
	if len(spec) > maxShown {
		spec = strings.ToValidUTF8(spec[:maxShown], "") + "…"
	}
	return fmt.Sprintf("%q", spec)
}
