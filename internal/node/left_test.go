package node

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"manna/console"
	"manna/fallbacklog"
)

// archive puts the log of a node that is gone into the archive of the world's
// configuration.
func (w *world) archive(n *Node, node string) {
	w.t.Helper()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: w.t.TempDir(), Node: node})
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	err = log.Append(w.t.Context(), &fallbacklog.Record{Kind: fallbacklog.Switched, Switch: &fallbacklog.Switch{Name: "queue", Mode: "automatic"}})
	if err == nil {
		_, err = log.Seal(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	archiver, err := fallbacklog.NewArchiver(fallbacklog.ArchiverOptions{Log: log, Bucket: n.bucket})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- archiver.Run(ctx) }()
	waiting, stop := context.WithTimeout(ctx, patience)
	defer stop()
	err = archiver.Wait(waiting)
	cancel()
	if err := errors.Join(err, <-ended); err != nil {
		w.t.Fatal(err)
	}
}

func TestArchiveIsReadByOneAfterTheOther(t *testing.T) {
	w := newWorld(t)
	c := w.config("campaigns:", "archive: {url: \"file://"+filepath.Join(w.dir, "archive")+"\"}\ncampaigns:")
	n, err := Open(t.Context(), Options{Config: c, Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	defer n.shut()
	w.archive(n, "gone")
	first, err := n.archived(t.Context(), "gone")
	if err != nil {
		t.Fatal(err)
	}
	hurried, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := n.archived(hurried, "gone"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside another: got %v, want that it waited", err)
	}
	if err := first.Log.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := n.archived(t.Context(), "nobody"); !errors.Is(err, console.ErrUnarchived) {
			t.Errorf("of nobody: got %v", err)
		}
		l, err := n.archived(t.Context(), "gone")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Log.Close(); err != nil {
			t.Error(err)
		}
	}
}
