package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/producer"
)

// claim makes durable claims in process and, in turns with it, writes and syncs
// as many bytes at a time as one of its commits does, and does nothing else: the
// limit that the disk sets for commits of that size, one after the other.
func claim(ctx context.Context, o *options) (*result, error) {
	w, err := newClaimWorld(filepath.Join(o.temp, "log"), o.linger)
	if err != nil {
		return nil, err
	}
	bare, err := newBareDisk(filepath.Join(o.temp, "bare"))
	if err != nil {
		return nil, errors.Join(err, w.log.Close())
	}
	r, err := w.measure(ctx, o, bare)
	return r, errors.Join(err, bare.file.Close(), w.log.Close())
}

// claimWorld is a front over a log of its own.
type claimWorld struct {
	log     *fallbacklog.Log
	front   *producer.Front
	metrics *prometheus.Registry
	users   atomic.Int64
}

func newClaimWorld(dir string, linger time.Duration) (*claimWorld, error) {
	w := &claimWorld{metrics: prometheus.NewRegistry()}
	now := time.Now()
	snapshot, err := producer.NewSnapshot([]*gift.Campaign{{
		Name: "bench", Opens: now.Add(-time.Hour), Closes: now.Add(24 * time.Hour), Scenes: []gift.Scene{{Name: "rain"}},
		ClaimsPerUser: 1, Promise: 48 * time.Hour,
		Gifts: []*gift.Gift{{Name: "pack", Items: []gift.Item{{Name: "vip-30", Partner: "nobody", SKU: "V30", Quantity: 1}}}},
	}})
	if err != nil {
		return nil, err
	}
	key := make([]byte, 32)
	rand.Read(key)
	if w.log, err = fallbacklog.Open(fallbacklog.Options{Dir: dir, Node: "bench", Linger: linger, Metrics: w.metrics}); err != nil {
		return nil, err
	}
	w.front, err = producer.NewFront(context.Background(), producer.Options{
		Log: w.log, Snapshot: snapshot, Dev: true, ReceiptKey: key, Metrics: w.metrics, Limits: producer.Limits{InFlight: 1 << 20},
	})
	if err != nil {
		return nil, errors.Join(err, w.log.Close())
	}
	return w, nil
}

func (w *claimWorld) measure(ctx context.Context, o *options, bare *bareDisk) (*result, error) {
	if _, _, err := w.round(ctx, o.claimants, warmUp); err != nil {
		return nil, err
	}
	var ours, theirs, perCommit []float64
	var times []time.Duration
	for round := range o.rounds {
		before := w.commits()
		took, n, err := w.round(ctx, o.claimants, o.round)
		if err != nil {
			return nil, err
		}
		after := w.commits()
		commits := after.count - before.count
		claims := float64(n) / commits
		syncs, err := bare.round(ctx, int((after.bytes-before.bytes)/commits), o.round)
		if err != nil {
			return nil, err
		}
		times = append(times, took...)
		ours = append(ours, float64(n)/o.round.Seconds())
		theirs = append(theirs, claims*float64(syncs)/o.round.Seconds())
		perCommit = append(perCommit, claims)
		fmt.Fprintf(o.out, "round %d  %8.0f claims/s, %.0f in a commit; the disk alone %8.0f\n", round+1, ours[round], claims, theirs[round])
	}
	slices.Sort(times)
	value, limit := median(ours), median(theirs)
	r := &result{Value: value, Unit: "claims/s", Against: []peer{{"write and fdatasync alone", limit, value / limit}}}
	r.add("p50", percentile(times, 0.5), "ms")
	r.add("p99", percentile(times, 0.99), "ms")
	r.add("claims in a commit", median(perCommit), "")
	return r, nil
}

// round claims for d with so many at a time.
func (w *claimWorld) round(ctx context.Context, claimants int, d time.Duration) (times []time.Duration, claims int, err error) {
	var running sync.WaitGroup
	var mu sync.Mutex
	until := time.Now().Add(d)
	for range claimants {
		running.Go(func() {
			own, failed := w.claimUntil(ctx, until)
			mu.Lock()
			defer mu.Unlock()
			times = append(times, own...)
			err = errors.Join(err, failed)
		})
	}
	running.Wait()
	return times, len(times), err
}

func (w *claimWorld) claimUntil(ctx context.Context, until time.Time) (times []time.Duration, err error) {
	req := producer.Request{Campaign: "bench", Scene: "rain", Gift: "pack", Platform: "ios", Target: []byte(`{"wallet":"w-0000000000"}`)}
	for began := time.Now(); began.Before(until); {
		req.User = "u-" + strconv.FormatInt(w.users.Add(1), 10)
		if _, err := w.front.Claim(ctx, req); err != nil {
			return times, err
		}
		now := time.Now()
		if now.Before(until) {
			times = append(times, now.Sub(began))
		}
		began = now
	}
	return times, nil
}

type commits struct{ count, bytes float64 }

// commits reads the log's own metrics.
func (w *claimWorld) commits() (c commits) {
	families, err := w.metrics.Gather()
	if err != nil {
		return c
	}
	for _, f := range families {
		switch f.GetName() {
		case "manna_log_bytes_total":
			c.bytes = f.GetMetric()[0].GetCounter().GetValue()
		case "manna_log_commit_seconds":
			c.count = float64(f.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
	return c
}

// bareDisk is a file whose room has been reserved, as a segment's is.
type bareDisk struct {
	file disk.File
	at   int64
}

const bareSize = 64 << 20

func newBareDisk(path string) (*bareDisk, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := disk.OS{}.Create(path)
	if err != nil {
		return nil, err
	}
	if err := f.Allocate(bareSize); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &bareDisk{file: f}, nil
}

// round writes and syncs n bytes over and over for d.
func (b *bareDisk) round(ctx context.Context, n int, d time.Duration) (syncs int, err error) {
	buf := make([]byte, n)
	rand.Read(buf)
	for until := time.Now().Add(d); time.Now().Before(until); syncs++ {
		if err := ctx.Err(); err != nil {
			return syncs, err
		}
		if b.at+int64(n) > bareSize {
			b.at = 0
		}
		if _, err := b.file.WriteAt(buf, b.at); err != nil {
			return syncs, err
		}
		if err := b.file.Sync(); err != nil {
			return syncs, err
		}
		b.at += int64(n)
	}
	return syncs, nil
}
