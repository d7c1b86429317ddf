package node

import (
	"path/filepath"

	"manna/fallbacklog"
	"manna/internal/disk"
	"manna/queue/embedded"
)

// Reached tells how far the lanes beside a log's directory have read it. A log
// without lanes beside it, like an archive's, has reached nothing that is known.
func Reached(logDir string) (fallbacklog.Reached, error) {
	return embedded.Reached(disk.OS{}, filepath.Join(filepath.Dir(filepath.Clean(logDir)), "lanes"))
}
