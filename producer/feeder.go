package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk"
	"manna/internal/notice"
	"manna/queue"
)

// FeederOptions configure a Feeder. Log, Queue and Name are required; zero values
// of the rest are replaced by the defaults named.
type FeederOptions struct {
	Log   *fallbacklog.Log
	Queue queue.Feedable
	// Name is the queue's: its watermark is filed under it.
	Name string
	// Batch is how many messages are handed over at once, give or take the orders
	// of one claim; default 256.
	Batch int
	// MarkEvery is the least time between two `sent` records; default 100 ms. What was
	// fed since, and up to two batches that were on their way, is fed twice after a
	// crash.
	MarkEvery time.Duration
	// RetryMin and RetryMax bound the pause after an error of the queue, which
	// doubles each time; default 100 ms and 5 s.
	RetryMin, RetryMax time.Duration
	Logger             *slog.Logger
	Now                func() time.Time // default time.Now
}

// Feeder brings an engine the first deliveries that the log has, in order of age.
//
// Everything before its watermark, the last `sent` record of its name, is in the
// queue. After a restart it goes on from there, so what was handed over since the
// last watermark is handed over again; nothing is left out. Where the queue does not take
// a batch, the one behind it may be there first, and no more than that.
//
// What the queue can never take, an order or all of a partner's, is parked: it waits
// for a person in the log, and holds up nobody else's.
type Feeder struct {
	opts    FeederOptions
	through passed
	under   underWay
	parked  atomic.Int64
	// Each of these comes as often as a batch does.
	unmarked, untaken, refused *notice.Repeated
}

// NewFeeder makes a feeder.
func NewFeeder(opts FeederOptions) (*Feeder, error) {
	if opts.Log == nil || opts.Queue == nil || opts.Name == "" {
		return nil, errors.New("a feeder needs a log, a queue and the queue's name")
	}
	if opts.Batch <= 0 {
		opts.Batch = 256
	}
	def(&opts.MarkEvery, 100*time.Millisecond)
	def(&opts.RetryMin, 100*time.Millisecond)
	def(&opts.RetryMax, 5*time.Second)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	f := &Feeder{
		opts:     opts,
		unmarked: notice.NewRepeated(opts.Logger, slog.LevelWarn, "the watermark cannot be written; feeding goes on"),
		untaken:  notice.NewRepeated(opts.Logger, slog.LevelWarn, "the queue takes nothing; trying again"),
		refused:  notice.NewRepeated(opts.Logger, slog.LevelError, "a partner's orders are parked: the queue takes none; once that is mended a person takes them up again (manna order ID --reissue)"),
	}
	from, err := f.watermark()
	f.through.Store(uint64(from))
	return f, err
}

// Through is the position before which the queue has everything.
func (f *Feeder) Through() fallbacklog.Position {
	return fallbacklog.Position(f.through.Load())
}

// Parked is how many orders this process has parked because the queue can never take
// them.
func (f *Feeder) Parked() int64 { return f.parked.Load() }

// Behind is how long the oldest claim that is being fed has waited; 0 where none is.
func (f *Feeder) Behind() time.Duration {
	oldest, ok := f.under.first()
	if !ok {
		return 0
	}
	return max(0, f.opts.Now().Sub(oldest))
}

// watermark reads where the feeder stopped last.
func (f *Feeder) watermark() (fallbacklog.Position, error) {
	row, ok, err := f.opts.Log.Last(fallbacklog.NamedID(fallbacklog.Sent, f.opts.Name))
	if err != nil || !ok {
		return 0, err
	}
	rec, err := f.opts.Log.Read(row.At)
	if err != nil {
		return 0, err
	}
	if rec.Sent == nil {
		return 0, fmt.Errorf("record %v is no watermark", row.At)
	}
	return rec.Sent.Through, nil
}

// Run feeds until ctx ends, and returns nil then. Any other end is an error: the
// log has ended or cannot be read. It runs once at a time.
//
// One batch is read while another is handed over and the queue confirms the one before
// that, and watermarks are written beside all three: a queue is kept busy by a feeder
// that is behind.
func (f *Feeder) Run(ctx context.Context) error {
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	batches, onWay, used := make(chan *load, 1), make(chan *load), make(chan *load, 4)
	moved, settled := make(chan struct{}, 1), make(chan struct{})
	defer f.under.clear()
	marked := f.Through()
	var parts sync.WaitGroup
	for _, part := range []func() error{
		func() error { return f.read(work, batches, used) },
		func() error { return f.handAll(work, batches, onWay, settled) },
		func() error {
			defer close(settled)
			return f.settleAll(work, onWay, used, moved)
		},
		func() error { return f.markAll(work, moved, &marked) },
	} {
		parts.Go(func() { stop(part()) })
	}
	parts.Wait()
	if ctx.Err() == nil {
		return context.Cause(work)
	}
	// What was fed is marked also on the way out; a restart is then spared from
	// feeding it again.
	return f.mark(context.WithoutCancel(ctx), &marked)
}

// read reads batches until the log cannot be read or ctx ends.
func (f *Feeder) read(ctx context.Context, into chan<- *load, used <-chan *load) error {
	reader := f.opts.Log.Reader(f.Through(), fallbacklog.Claimed)
	defer reader.Close()
	for {
		var b *load
		select {
		case b = <-used:
		default:
			b = new(load)
		}
		if err := f.collect(ctx, reader, b); err != nil {
			return err
		}
		select {
		case into <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// collect gathers the next batch in b, waiting for its first claim.
func (f *Feeder) collect(ctx context.Context, reader *fallbacklog.Reader, b *load) error {
	rec, err := reader.Next(ctx)
	if err != nil {
		return err
	}
	b.oldest = rec.Time
	for err == nil {
		for _, order := range rec.Claim.Orders {
			b.room = append(b.room, queue.Message{Claim: rec.Claim, Encoded: reader.Claim(), Order: order, Origin: rec.At})
		}
		b.end = reader.Position()
		if len(b.room) >= f.opts.Batch {
			break
		}
		rec, err = reader.TryNext()
	}
	if err != nil && !errors.Is(err, fallbacklog.ErrTail) {
		return err
	}
	for i := range b.room {
		b.msgs = append(b.msgs, &b.room[i])
	}
	return nil
}

// handAll hands batches over until ctx ends or nobody settles them any more, each while
// the one before is settled, and no more than that one: what fails goes before what comes
// after it.
func (f *Feeder) handAll(ctx context.Context, batches <-chan *load, onWay chan<- *load, settled <-chan struct{}) error {
	defer close(onWay)
	for {
		select {
		case b := <-batches:
			f.under.enter(b.oldest)
			b.confirmed = f.opts.Queue.Feed(ctx, b.msgs)
			select {
			case onWay <- b:
			case <-settled:
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settleAll sees to it that the queue has each batch, in their order, until there are no
// more. After ctx has ended it still hears of those that are on their way.
func (f *Feeder) settleAll(ctx context.Context, onWay <-chan *load, used chan<- *load, moved chan<- struct{}) error {
	for b := range onWay {
		if err := f.settle(ctx, b, moved); err != nil {
			return err
		}
		f.under.leave()
		clear(b.room) // and let the claims go
		b.room, b.msgs = b.room[:0], b.msgs[:0]
		select {
		case used <- b:
		default:
		}
	}
	return nil
}

// pass says that everything before a position is in the queue.
func (f *Feeder) pass(through fallbacklog.Position, moved chan<- struct{}) {
	f.through.Store(uint64(through))
	select {
	case moved <- struct{}{}:
	default:
	}
}

// markAll marks what has been fed, every MarkEvery while it moves.
func (f *Feeder) markAll(ctx context.Context, moved <-chan struct{}, marked *fallbacklog.Position) error {
	for {
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
		for f.Through() > *marked {
			if err := f.mark(ctx, marked); errors.Is(err, disk.ErrFull) {
				f.unmarked.Tell("queue", f.opts.Name, "err", err)
			} else if err != nil {
				return err
			}
			select {
			case <-time.After(f.opts.MarkEvery):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// settle waits until the queue has a batch, and hands over again what it has not taken,
// again and again, but for what it can never take. A queue that fails, or refuses some of
// it, is given less at once: it may have taken most of what it is given again.
func (f *Feeder) settle(ctx context.Context, b *load, moved chan<- struct{}) error {
	msgs, part, confirmed := b.msgs, b.msgs, b.confirmed
	pause, most := f.opts.RetryMin, len(msgs)
	for len(msgs) > 0 {
		if confirmed == nil {
			part = msgs[:min(most, len(msgs))]
			confirmed = f.opts.Queue.Feed(ctx, part)
		}
		err := confirmed()
		confirmed = nil
		if err == nil {
			if msgs, most = msgs[len(part):], 2*most; len(msgs) > 0 {
				f.pass(msgs[0].Origin, moved)
			}
			pause = f.opts.RetryMin
			continue
		}
		most = max(len(part)/2, 1)
		if never, why := f.never(part, err); len(never) > 0 {
			if err = f.park(ctx, never, why); err == nil {
				// They come in the order of msgs.
				msgs = slices.DeleteFunc(msgs, func(m *queue.Message) bool {
					gone := len(never) > 0 && never[0] == m
					if gone {
						never = never[1:]
					}
					return gone
				})
				continue
			}
			if errors.Is(err, fallbacklog.ErrPoisoned) || errors.Is(err, fallbacklog.ErrClosed) {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.untaken.Tell("queue", f.opts.Name, "messages", len(part), "pause", pause, "err", err)
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		pause = min(2*pause, f.opts.RetryMax)
	}
	f.pass(b.end, moved)
	return nil
}

// never picks out the messages that the queue can never take, by its error, and
// says so.
func (f *Feeder) never(msgs []*queue.Message, err error) (never []*queue.Message, why error) {
	pick := func(of func(*queue.Message) bool) []*queue.Message {
		var picked []*queue.Message
		for _, m := range msgs {
			if of(m) {
				picked = append(picked, m)
			}
		}
		return picked
	}
	if order, ok := errors.AsType[*queue.RefusedError](err); ok {
		if never = pick(func(m *queue.Message) bool { return m.Order.ID == order.Order }); len(never) > 0 {
			f.opts.Logger.Error("order parked: the queue cannot take it", "order_id", order.Order, "queue", f.opts.Name, "err", order.Err)
			return never, order.Err
		}
	}
	if lane, ok := errors.AsType[*queue.LaneRefusedError](err); ok {
		if never = pick(func(m *queue.Message) bool { return m.Order.Partner == lane.Partner }); len(never) > 0 {
			f.refused.Tell("partner", lane.Partner, "queue", f.opts.Name, "orders", len(never), "err", lane.Err)
			return never, lane.Err
		}
	}
	return nil, nil
}

// park leaves orders to a person.
func (f *Feeder) park(ctx context.Context, msgs []*queue.Message, why error) error {
	var recs []*fallbacklog.Record
	for _, m := range msgs {
		// What was fed again after a crash may have been parked then, or have come
		// further.
		rows, err := f.opts.Log.Lookup(m.Order.ID)
		if err != nil {
			return err
		}
		if state, _ := fallbacklog.StateOf(rows); state != gift.StateAccepted {
			continue
		}
		recs = append(recs, &fallbacklog.Record{Kind: fallbacklog.Parked, Event: &fallbacklog.Event{
			Order: m.Order.ID, Claim: m.Claim.ID, Campaign: m.Claim.Campaign, Partner: m.Order.Partner, Origin: m.Origin,
			Code: "queue_refused", Reason: why.Error(),
		}})
	}
	// Commit point: the orders are a person's, and not fed again.
	if err := f.opts.Log.Append(ctx, recs...); err != nil {
		return err
	}
	f.parked.Add(int64(len(recs)))
	return nil
}

// mark writes the watermark where it has moved.
func (f *Feeder) mark(ctx context.Context, marked *fallbacklog.Position) error {
	through := f.Through()
	if through <= *marked {
		return nil
	}
	rec := &fallbacklog.Record{Kind: fallbacklog.Sent, Sent: &fallbacklog.Watermark{Queue: f.opts.Name, Through: through}}
	// Commit point: the queue is not fed again with what is before the watermark.
	if err := f.opts.Log.Append(ctx, rec); err != nil {
		return fmt.Errorf("watermark of queue %s: %w", f.opts.Name, err)
	}
	*marked = through
	return nil
}
