package fallbacklog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog/bucket"
)

// ArchiverOptions configure an Archiver. Log and Bucket are required.
type ArchiverOptions struct {
	Log *Log
	// Bucket is where the archive is. Each node's segments go into a folder of its
	// name.
	Bucket bucket.Bucket
	// Renew is how often the manifest is written anew while nothing is sealed, so that
	// a node's silence shows; default 1 minute.
	Renew   time.Duration
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Archiver copies sealed segments and their indexes to an archive, oldest first, and
// lists them in the node's manifest. It removes nothing: not from the log, and not
// from the archive.
//
// How far it is the archive itself says, so that it needs no state of its own and
// may be killed any time.
type Archiver struct {
	opts     ArchiverOptions
	folder   string
	writer   string        // names this archiver in manifests
	archived atomic.Uint32 // number of the newest segment that the manifest lists and the archive has
	asOf     atomic.Int64  // of the manifest, Unix nanoseconds; 0 while not known

	mu    sync.Mutex    // guards the next fields
	moved chan struct{} // closed, and another put in its place, when archived moves
	err   error         // of the last try

	// Of Run alone:
	manifest *Manifest  // as the bucket has it; nil while that is not known
	sum      bucket.Sum // of its content; zero where the bucket has none
	wrote    bool       // this archiver has written a manifest

	segments, bytes, failures prometheus.Counter
	behind, through           prometheus.GaugeFunc
}

// Pauses after a failure: the first, and the longest.
const (
	archiveRetry    = time.Second
	archiveRetryMax = time.Minute
)

// NewArchiver makes an archiver. It touches nothing before Run.
func NewArchiver(opts ArchiverOptions) (*Archiver, error) {
	if opts.Log == nil || opts.Bucket == nil {
		return nil, errors.New("an archiver needs a log and a bucket")
	}
	node := opts.Log.Node()
	if !bucket.Listed(node) {
		return nil, fmt.Errorf("the node's name %q cannot name a folder of an archive: set `node` to letters, digits, dots and dashes", node)
	}
	if opts.Renew == 0 {
		opts.Renew = time.Minute
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = prometheus.NewRegistry()
	}
	a := &Archiver{
		opts: opts, folder: archiveFolder(node), writer: rand.Text(), moved: make(chan struct{}),
		segments: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_archive_segments_total", Help: "Segments archived."}),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_archive_bytes_total", Help: "Bytes archived."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "manna_archive_failures_total", Help: "Failed attempts to archive a segment, or to say that there is none."}),
	}
	a.behind = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "manna_archive_behind_segments", Help: "Sealed segments that are not archived yet: what a lost disk would cost."}, func() float64 {
		return float64(a.Behind())
	})
	a.through = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "manna_archive_as_of_seconds", Help: "Unix time through which the archive has this node's log; 0 while that is not known."}, func() float64 {
		return float64(a.asOf.Load()) / 1e9
	})
	return a, nil
}

// Behind is how many sealed segments are not archived yet.
func (a *Archiver) Behind() int {
	n := 0
	for _, s := range a.opts.Log.segments.sealed() {
		if s.number > a.archived.Load() {
			n++
		}
	}
	return n
}

// Err is why the last try to archive failed; nil where it did not.
func (a *Archiver) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *Archiver) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

// moveTo notes the newest segment that is archived.
func (a *Archiver) moveTo(number uint32) {
	a.archived.Store(number)
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.moved)
	a.moved = make(chan struct{})
}

// Wait blocks until Run has archived every segment that is sealed, or ctx ends.
func (a *Archiver) Wait(ctx context.Context) error {
	for {
		a.mu.Lock()
		moved := a.moved
		a.mu.Unlock()
		if a.Behind() == 0 {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run archives segments as they are sealed, until ctx ends or the log is closed; it
// returns nil then. What was sealed last is archived by the next Run. It fails only
// where its metrics cannot be registered: everything else it says, counts and tries
// again.
func (a *Archiver) Run(ctx context.Context) error {
	for _, c := range []prometheus.Collector{a.segments, a.bytes, a.failures, a.behind, a.through} {
		if err := a.opts.Metrics.Register(c); err != nil {
			return err
		}
		defer a.opts.Metrics.Unregister(c)
	}
	pause := bucket.Backoff{First: archiveRetry, Most: archiveRetryMax}
	for ctx.Err() == nil {
		more := a.opts.Log.segments.moreIndexed()
		err := a.catchUp(ctx)
		wait := a.opts.Renew
		if ctx.Err() == nil {
			a.note(err)
		}
		switch {
		case err == nil:
			pause.Reset()
		case ctx.Err() != nil:
			return nil
		default:
			more, wait = nil, pause.Next()
			a.failures.Inc()
			a.opts.Logger.Error("cannot archive; trying again", "err", err, "in", wait, "behind", a.Behind())
		}
		timer := time.NewTimer(wait)
		select {
		case <-more:
		case <-timer.C:
		case <-ctx.Done():
		case <-a.opts.Log.closing:
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
	return nil
}

// catchUp archives every sealed segment that is not archived yet, and writes the
// manifest after each and at the end.
func (a *Archiver) catchUp(ctx context.Context) error {
	sealed := a.opts.Log.segments.sealed()
	if a.manifest == nil {
		if err := a.take(ctx, sealed); err != nil {
			return err
		}
	}
	if err := a.survey(ctx, sealed); err != nil {
		return err
	}
	wrote := false
	for _, s := range sealed[len(a.manifest.Segments):] {
		entry, err := a.archive(ctx, s)
		if err != nil {
			return fmt.Errorf("archive segment %d: %w", s.number, err)
		}
		if err := a.publish(ctx, entry); err != nil {
			return fmt.Errorf("list segment %d: %w", s.number, err)
		}
		a.moveTo(s.number)
		wrote = true
	}
	if wrote {
		return nil
	}
	return a.publish(ctx)
}

// take reads the manifest and finds out whether it is of this log.
func (a *Archiver) take(ctx context.Context, sealed []*segment) error {
	key := a.folder + manifestName
	m, sum, err := readManifest(ctx, a.opts.Bucket, a.opts.Log.Node())
	missing := errors.Is(err, bucket.ErrNotFound) // at the start, or a person has moved it away
	if missing {
		m, err = &Manifest{}, nil
	}
	switch {
	case err != nil:
		return err
	case a.wrote && !missing && m.Writer != a.writer:
		return fmt.Errorf("%s in %s: another process archives as node %q, and wrote this at %v: give each node a name of its own; this one archives nothing until it is started again",
			key, a.opts.Bucket, a.opts.Log.Node(), m.Written)
	case len(m.Segments) > len(sealed):
		return fmt.Errorf("%s in %s lists %d segments of node %q, and this log has %d: it is another log, or has lost some: restore them, or give this node another name",
			key, a.opts.Bucket, len(m.Segments), a.opts.Log.Node(), len(sealed))
	}
	for i := range m.Segments {
		if m.Segments[i].Link != sealed[i].link {
			return fmt.Errorf("%s in %s lists another segment %d than this log has: find out whose archive it is, and give this node another name",
				key, a.opts.Bucket, m.Segments[i].Number)
		}
	}
	a.manifest, a.sum = m, sum
	a.asOf.Store(unixNano(m.AsOf))
	return nil
}

// publish writes the manifest with one more segment, or none, and through when the
// log has arrived with it.
func (a *Archiver) publish(ctx context.Context, more ...ArchivedSegment) error {
	next := *a.manifest
	next.Format, next.Node, next.Writer, next.Revision = manifestFormat, a.opts.Log.Node(), a.writer, next.Revision+1
	next.Segments = append(next.Segments[:len(next.Segments):len(next.Segments)], more...)
	if through := a.arrived(uint32(len(next.Segments))); through.After(next.AsOf) {
		next.AsOf = through
	}
	next.Written = a.opts.Log.opts.Now().UTC()
	if next.AsOf.After(next.Written) {
		a.opts.Logger.Warn("the clock is behind the archive's manifest; the archive is as of a moment that has not come yet", "as_of", next.AsOf, "now", next.Written)
	}
	b, err := next.encode()
	if err != nil {
		return err
	}
	content := bucket.Bytes(b)
	// Commit point: the segment is archived once the manifest lists it.
	if a.sum == (bucket.Sum{}) {
		err = a.opts.Bucket.Put(ctx, a.folder+manifestName, content)
	} else {
		err = a.opts.Bucket.Replace(ctx, a.folder+manifestName, a.sum, content)
	}
	if errors.Is(err, bucket.ErrConflict) {
		// Somebody else's, or ours of which nobody told us.
		a.manifest = nil
		if other := a.take(ctx, a.opts.Log.segments.sealed()); other != nil {
			return other
		}
	}
	if err != nil {
		return err
	}
	a.manifest, a.sum, a.wrote = &next, content.Sum, true
	a.asOf.Store(unixNano(next.AsOf))
	return nil
}

// arrived is the moment through which the log is in its first n segments: whatever
// Append had answered before is in them.
func (a *Archiver) arrived(n uint32) time.Time {
	log := a.opts.Log
	now := log.opts.Now().UTC() // before the look at the log's end
	s, ok := log.segments.get(n + 1)
	if !ok || log.End() <= At(s.number, headerSize) {
		return now
	}
	// A segment is created before the one ahead of it is sealed, and takes what comes
	// after that.
	return s.created.UTC()
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
