package fallbacklog

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/internal/disk"
)

// Bounds of Options.
const (
	MinSegment = 64 << 10
	MaxSegment = 256 << 20
)

// maxIndexFiles is how many indexes are held open unless told otherwise. A process
// has one log, and may have one archive, and often no more than 1,024 files.
const maxIndexFiles = 256

// Options configure a log. Dir and Node are required; zero values of the rest
// are replaced by the defaults named.
type Options struct {
	Dir  string
	Node string    // at most 64 bytes; a log carries its node's name
	Disk disk.Disk // default disk.OS{}
	// SegmentBytes is the size from which on a segment is sealed; MinSegment to
	// MaxSegment, default 64 MiB.
	SegmentBytes int64
	// SegmentAge is the age from which on a segment with records is sealed;
	// default 10 minutes.
	SegmentAge time.Duration
	// Linger bounds how long a commit lets others join: it gives way to those who
	// are about to append as long as they keep coming. Where nobody is, it costs
	// nothing. Zero means that a commit takes whoever came while the one before was
	// under way.
	Linger time.Duration
	// VerifyBytes is how much of the newest sealed segments Open reads through
	// before it returns; the rest is read in the background. Default 4 GiB.
	VerifyBytes int64
	// IndexFiles is how many indexes of segments are held open at most, the newest
	// ones; a look-up opens the others for a moment. Default 256.
	IndexFiles int
	// Reached is a place that the log is known to have reached. Where it ends
	// before, its end is missing: Open says so and changes nothing.
	Reached Reached
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	// Now is the clock that stamps records without a time; default time.Now.
	Now func() time.Time
}

// Reached is how far somebody had read in a log. The zero value tells nothing.
type Reached struct {
	At Position
	By string // who: "lane midas"
}

// short says that the log ends before.
func (r Reached) short() string {
	return fmt.Sprintf("the log ends here, and %s has read it up to %v: its end is missing", r.By, r.At)
}

// segment is the number of the segment that has to be there, or 0.
func (r Reached) segment() uint32 {
	if r.At.Offset() <= headerSize {
		return max(r.At.Segment(), 1) - 1 // it may have been empty, and then it is made again
	}
	return r.At.Segment()
}

func (o *Options) complete() error {
	if o.Dir == "" || o.Node == "" || len(o.Node) > 64 {
		return fmt.Errorf("a log needs a directory and the name of its node in at most 64 bytes")
	}
	if o.Disk == nil {
		o.Disk = disk.OS{}
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.SegmentBytes < MinSegment || o.SegmentBytes > MaxSegment {
		return fmt.Errorf("segment size %d is not between %d and %d bytes", o.SegmentBytes, MinSegment, MaxSegment)
	}
	if o.SegmentAge == 0 {
		o.SegmentAge = 10 * time.Minute
	}
	if o.VerifyBytes == 0 {
		o.VerifyBytes = 4 << 30
	}
	if o.IndexFiles == 0 {
		o.IndexFiles = maxIndexFiles
	}
	if o.IndexFiles < 0 {
		return fmt.Errorf("a log cannot hold %d indexes open", o.IndexFiles)
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
