package fallbacklog_test

import (
	"os"
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockedDir); dir != "" {
		os.Exit(openLocked(dir))
	}
	// Disks in memory: much is made, and little of it lives.
	debug.SetGCPercent(400)
	goleak.VerifyTestMain(m)
}
