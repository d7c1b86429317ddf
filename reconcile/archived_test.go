package reconcile

import (
	"context"
	"io"
	"path"
	"sync/atomic"
	"testing"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/internal/disk/crashdisk"
)

// manifests counts how often manifests are read.
type manifests struct {
	bucket.Bucket
	read atomic.Int64
}

func (m *manifests) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if path.Base(key) == "manifest.json" {
		m.read.Add(1)
	}
	return m.Bucket.Get(ctx, key, offset, length)
}

// TestManifestsAreReadOnce for all that a run asks of a node's log: they are large
// where a node has run for long.
func TestManifestsAreReadOnce(t *testing.T) {
	f := newFleet(t, "a", "b", "c")
	defer f.close()
	f.claim("b", "ana")
	f.arrive("b", "c")
	counted := &manifests{Bucket: f.bucket}
	archive, err := fallbacklog.OpenArchive(fallbacklog.ArchiveOptions{Bucket: counted, Cache: "cache", Disk: crashdisk.New(2)})
	if err != nil {
		t.Fatal(err)
	}
	list, err := Archived(archive, f.registry, "a")(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Err != nil {
			t.Fatalf("node %s: %v", s.Node, s.Err)
		}
		indexes, err := s.Log.Indexes(t.Context())
		if want := map[string]int{"b": 1}[s.Node]; err != nil || len(indexes) != want {
			t.Errorf("node %s: %d indexes, %v, want %d", s.Node, len(indexes), err, want)
		}
		if err := s.Log.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := counted.read.Load(); len(list) != 2 || n != 2 {
		t.Errorf("for %d nodes manifests were read %d times, want once for each of 2", len(list), n)
	}
	if err := archive.Close(); err != nil {
		t.Error(err)
	}
}
