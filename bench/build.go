package main

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// Budgets of the build.
const (
	buildSeconds = 120
	binaryMB     = 60
)

// build builds the binary once with an empty build cache. Modules are taken from
// the module cache: their download is not in the budget.
func build(ctx context.Context, o *options) (*result, error) {
	binary, cache := filepath.Join(o.temp, "manna"), filepath.Join(o.temp, "cache")
	// Once with the usual cache, so that a module still missing is fetched now.
	if err := buildManna(ctx, binary); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := buildManna(ctx, binary, "GOCACHE="+cache); err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	info, err := os.Stat(binary)
	if err != nil {
		return nil, err
	}
	size := float64(info.Size()) / 1e6
	return &result{Value: took, Unit: "s", Against: []peer{
		{"budget", buildSeconds, took / buildSeconds},
		{"budget, MB of the binary", binaryMB, size / binaryMB},
	}, Detail: []figure{{"binary", size, "MB"}}}, nil
}
