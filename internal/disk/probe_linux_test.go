package disk_test

import (
	"strings"
	"testing"

	"manna/internal/disk"
)

// TestProbeTries: of /proc the rights say nothing, only a try does.
func TestProbeTries(t *testing.T) {
	if there, err := disk.Probe(disk.OS{}, "/proc/manna"); there || err == nil || !strings.Contains(err.Error(), "/proc/manna cannot be made: in /proc ") {
		t.Errorf("there %v, %v", there, err)
	}
}
