package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"manna/internal/config"
)

// engines are servers that the demo's nodes share, and how one of them is killed.
type engines struct {
	text string // the sections of the configuration
	name string // of everything that this demo puts into them
	dir  string // with the commands kill and start; empty where there are none
}

// queues is how many a topic of the demo has: each of the nodes that deliver has some.
const queues = 6

// commandTime bounds a command that kills or starts a server.
const commandTime = 90 * time.Second

// readEngines reads a file with the sections queue, guard, ledger and archive. The
// demo uses names of its own in all of them, so that nothing of what is there already
// is touched.
func readEngines(file string) (*engines, error) {
	c, err := config.LoadEngines(file)
	if err != nil {
		return nil, err
	}
	c.Queue.Queues = queues
	e := &engines{name: "demo_" + strings.ToLower(rand.Text()[:8])}
	e.text = c.EngineSections(e.name)
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "kill")); err == nil {
		e.dir = dir
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return e, nil
}

// command runs kill or start, which stand beside the file, for a server.
func (e *engines) command(ctx context.Context, command, server string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(e.dir, command), server).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", command, server, err, strings.TrimSpace(string(out)))
	}
	return nil
}
