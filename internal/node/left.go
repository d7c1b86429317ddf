package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"

	"manna/console"
	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/internal/config"
)

// errUnarchived: the configuration has no archive.
var errUnarchived = fmt.Errorf("%w: archive.url is not set here", console.ErrUnarchived)

// Archived opens what the archive of a configuration has of a node's log, for a person,
// where no server runs that could be asked.
func Archived(c *config.Config) console.Logs {
	return func(ctx context.Context, node string) (console.Left, error) {
		if c.Archive.URL == "" {
			return console.Left{}, errUnarchived
		}
		b, err := OpenBucket(c)
		if err != nil {
			return console.Left{}, err
		}
		left, err := leftInArchive(ctx, b, c, node)
		if err != nil {
			return left, errors.Join(err, b.Close())
		}
		left.Log = closing{left.Log, b.Close}
		return left, nil
	}
}

// archived opens what the archive has of another node's log. Where no archive is open all
// the time, one such log is at a time: the archive's cache has one owner. The next waits
// until it is closed.
func (n *Node) archived(ctx context.Context, node string) (console.Left, error) {
	switch {
	case n.bucket == nil:
		return console.Left{}, errUnarchived
	case n.archive == nil:
		select {
		case n.reading <- struct{}{}:
		case <-ctx.Done():
			return console.Left{}, ctx.Err()
		}
		done := func() error { <-n.reading; return nil }
		l, err := leftInArchive(ctx, n.bucket, n.opts.Config, node)
		if err != nil {
			return l, errors.Join(err, done())
		}
		l.Log = closing{l.Log, done}
		return l, nil
	}
	return left(ctx, n.archive, n.bucket, node)
}

// leftInArchive opens the archive for one log.
func leftInArchive(ctx context.Context, b bucket.Bucket, c *config.Config, node string) (console.Left, error) {
	archive, err := openArchive(b, c)
	if err != nil {
		return console.Left{}, err
	}
	l, err := left(ctx, archive, b, node)
	if err != nil {
		return l, errors.Join(err, archive.Close())
	}
	l.Log = closing{l.Log, archive.Close}
	return l, nil
}

func left(ctx context.Context, archive *fallbacklog.Archive, b bucket.Bucket, node string) (console.Left, error) {
	log, err := archive.Open(ctx, node)
	if errors.Is(err, bucket.ErrNotFound) {
		return console.Left{}, fmt.Errorf("%w: %s has nothing of node %s", console.ErrUnarchived, b, node)
	}
	if err != nil {
		return console.Left{}, fmt.Errorf("its log in the archive %s cannot be read: %w", b, err)
	}
	return console.Left{Log: log, Where: fmt.Sprintf("the archive %s", b)}, nil
}

// closing is a log that lets more go than itself.
type closing struct {
	console.LeftLog
	last func() error
}

func (c closing) Close() error { return errors.Join(c.LeftLog.Close(), c.last()) }

// Saved opens the log in the data directory of a node that does not run. That is what a
// start of the node would do: a torn tail is cut, and what was open is sealed.
func Saved(data string, logger *slog.Logger) console.Logs {
	return func(_ context.Context, node string) (console.Left, error) {
		home, err := ReadSecret(filepath.Join(data, homeFile))
		if errors.Is(err, fs.ErrNotExist) {
			return console.Left{}, fmt.Errorf("%s is no node's data directory: it has no %s", data, homeFile)
		}
		if err != nil {
			return console.Left{}, err
		}
		dir := filepath.Join(data, "log")
		if _, err := os.Stat(dir); err != nil {
			return console.Left{}, err // Open would make it
		}
		reached, err := Reached(dir)
		if err != nil {
			return console.Left{}, err
		}
		log, err := fallbacklog.Open(fallbacklog.Options{Dir: dir, Node: node, Reached: reached, VerifyBytes: math.MaxInt64, Logger: logger})
		if err != nil {
			return console.Left{}, err
		}
		return console.Left{Log: saved{log}, Where: "the data directory " + data, Home: home}, nil
	}
}

// saved is a log in a data directory, read as an archived one.
type saved struct{ *fallbacklog.Log }

func (s saved) Indexes(ctx context.Context) ([]*fallbacklog.Index, error) { return s.Seal(ctx) }

func (s saved) Losses(context.Context) ([]fallbacklog.Loss, error) { return s.Log.Losses() }

func (s saved) Read(_ context.Context, at fallbacklog.Position) (*fallbacklog.Record, error) {
	return s.Log.Read(at)
}
