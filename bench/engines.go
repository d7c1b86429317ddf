package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"manna/internal/config"
)

// engines are the servers that a bench is made on, and the name of its own that it
// uses in all of them.
type engines struct {
	*config.Config
	name string
}

// readEngines reads the file that ops/local/up writes.
func readEngines(file string) (*engines, error) {
	c, err := config.LoadEngines(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are no engines in %s: run ops/local/up, or name a file of yours with --engines", file)
	}
	if err != nil {
		return nil, err
	}
	return &engines{c, "bench_" + strings.ToLower(rand.Text()[:8])}, nil
}

// sections are those of the configuration of a server that uses these engines.
func (e *engines) sections() string { return e.EngineSections(e.name) }
