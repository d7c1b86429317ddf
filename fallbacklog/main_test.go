package fallbacklog_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockedDir); dir != "" {
		os.Exit(openLocked(dir))
	}
	goleak.VerifyTestMain(m)
}
