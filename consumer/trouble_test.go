package consumer

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestErrorOfManyQueuesIsOneLine(t *testing.T) {
	var all error
	for i := range 12 {
		all = errors.Join(all, fmt.Errorf("queue/%d: it is away", i))
	}
	for want, err := range map[string]error{
		"queue/0: it is away":                       errors.New("queue/0: it is away"),
		"queue/0: it is away (and 11 more like it)": all,
	} {
		if got := brief(err); got != want || strings.Contains(got, "\n") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
