package reconcile

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"time"

	"manna/gift"
)

// sink takes the discrepancies of a run as they come: each becomes a line of the
// report's file, the first ones of the list are kept, and what is missing goes
// back to its lane. It is used by one goroutine at a time.
type sink struct {
	names *names
	marks []watermarks
	taken time.Time
	out   io.Writer
	again *reissue // nil: nothing is reissued
	entry *entry
	worst []Discrepancy
	twice []gift.ClaimID // the first alarmOrders of those given twice
	// alarms has the first orders of the classes that raise one.
	alarms [classes]struct {
		count  int64
		orders []gift.OrderID
	}
}

// alarmOrders bounds how many orders an alarm names.
const alarmOrders = 5

func (s *sink) take(ctx context.Context, findings []finding) error {
	for i := range findings {
		f := &findings[i]
		d := s.discrepancy(f)
		line, err := json.Marshal(&d)
		if err != nil {
			return err
		}
		if _, err := s.out.Write(append(line, '\n')); err != nil {
			return err
		}
		s.list(d)
		if f.twice != nil {
			if len(s.twice) < alarmOrders {
				s.twice = append(s.twice, f.twice.claim)
			}
			continue
		}
		if f.class == Unexpected || f.class == Duplicate {
			a := &s.alarms[f.class]
			if a.count++; len(a.orders) < alarmOrders {
				a.orders = append(a.orders, f.id)
			}
		}
		if s.again == nil || f.class != Missing && f.class != InDoubt || !s.served(f.lane) {
			continue
		}
		if err := s.again.add(ctx, f, d.Partner); err != nil {
			return err
		}
	}
	return s.entry.alive(ctx)
}

// served reports whether there is a lane to take the order.
func (s *sink) served(lane uint16) bool { return int(lane) < len(s.marks) && s.marks[lane].served }

func (s *sink) discrepancy(f *finding) Discrepancy {
	at := time.UnixMilli(f.at).UTC()
	d := Discrepancy{
		ID: discrepancyID(f.class, f.id), Class: f.class, OrderID: f.id, Partner: s.names.name(f.lane), Campaign: s.names.name(f.camp),
		AgeS: int64(s.taken.Sub(at) / time.Second), Amount: f.amount, At: at,
	}
	if f.twice != nil {
		d.ID = discrepancyID(f.class, gift.OrderID(f.twice.claim))
		d.ClaimID, d.Gifts, d.Partner = f.twice.claim, f.twice.gifts, f.twice.partner
	}
	if f.differs {
		granted := f.granted // the finding's room is used again
		d.Granted = &granted
	}
	return d
}

// list keeps the MaxListed discrepancies that need a look first.
func (s *sink) list(d Discrepancy) {
	if s.worst = append(s.worst, d); len(s.worst) >= 2*MaxListed {
		s.worst = s.listed()
	}
}

func (s *sink) listed() []Discrepancy {
	slices.SortFunc(s.worst, compareDiscrepancies)
	return append([]Discrepancy{}, s.worst[:min(len(s.worst), MaxListed)]...)
}

// end hands over what waits.
func (s *sink) end(ctx context.Context) error {
	if s.again == nil {
		return nil
	}
	return s.again.flush(ctx)
}

// alarm says loudly what must never happen.
func (s *sink) alarm(logger *slog.Logger, run string, twice int64) {
	if twice > 0 {
		logger.Error("ALARM: claims that were given two gifts", "run", run, "claims", twice, "first", s.twice)
	}
	for class, text := range map[Class]string{
		Unexpected: "ALARM: grants that no claim explains",
		Duplicate:  "ALARM: orders granted more than once",
	} {
		if a := s.alarms[class]; a.count > 0 {
			logger.Error(text, "run", run, "orders", a.count, "first", a.orders)
		}
	}
}
