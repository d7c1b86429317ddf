package embedded

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
	"manna/internal/disk"
)

// Options configure a queue. Log and Dir are required; zero values of the rest
// are replaced by the defaults named.
type Options struct {
	Log *fallbacklog.Log
	// Dir holds the lanes' checkpoints. It belongs to this log alone.
	Dir  string
	Disk disk.Disk // default disk.OS{}
	// MaxDeferred is how many messages of a lane may be held or deferred at once;
	// each takes 16 bytes while it waits. At the bound no fresh order is handed
	// out. Default 1<<20.
	MaxDeferred int
	// CheckpointEvery is the time between two checkpoints of a lane that
	// changes; default one second.
	CheckpointEvery time.Duration
	Logger          *slog.Logger
	Metrics         prometheus.Registerer
	// Now is the wall clock against which due times are held; default time.Now.
	Now func() time.Time
}

func (o *Options) complete() error {
	if o.Log == nil || o.Dir == "" {
		return fmt.Errorf("an embedded queue needs a log and a directory for its lanes")
	}
	if o.Disk == nil {
		o.Disk = disk.OS{}
	}
	if o.MaxDeferred == 0 {
		o.MaxDeferred = 1 << 20
	}
	if o.MaxDeferred < 0 {
		return fmt.Errorf("MaxDeferred is %d: a lane needs room for one message", o.MaxDeferred)
	}
	if o.CheckpointEvery == 0 {
		o.CheckpointEvery = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}
