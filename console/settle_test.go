package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
)

// leftLog is the log of node b, with three claims of one gift and one of another.
type leftLog struct {
	*fallbacklog.Log
	losses []fallbacklog.Loss
	closed int
}

func (l *leftLog) Indexes(ctx context.Context) ([]*fallbacklog.Index, error) { return l.Seal(ctx) }

func (l *leftLog) Losses(context.Context) ([]fallbacklog.Loss, error) { return l.losses, nil }

func (l *leftLog) Read(_ context.Context, at fallbacklog.Position) (*fallbacklog.Record, error) {
	return l.Log.Read(at)
}

func (l *leftLog) Close() error {
	l.closed++
	return nil
}

func openLeft(t *testing.T) (*leftLog, ledger.Mark) {
	t.Helper()
	log, err := fallbacklog.Open(fallbacklog.Options{Dir: filepath.Join(t.TempDir(), "log"), Node: "b"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	var last *fallbacklog.Record
	for user, of := range map[string]string{"u1": "pack", "u2": "pack", "u3": "pack", "u4": "coin"} {
		claim := claimOf(&ledger.ClaimRow{ID: gift.NewCampaignID("spring").ClaimID("", user, ""), Campaign: "spring", Gift: of, User: user, ClaimedAt: time.Now().UTC()})
		last = &fallbacklog.Record{Kind: fallbacklog.Claimed, Time: claim.ClaimedAt, Claim: claim}
		if err := log.Append(t.Context(), last); err != nil {
			t.Fatal(err)
		}
	}
	// As it is read back.
	if last, err = log.Read(last.At); err != nil {
		t.Fatal(err)
	}
	return &leftLog{Log: log}, ledger.MarkOf(last)
}

// settling is a node that has left in order, with its log in an archive; a test changes
// what it is about.
type settling struct {
	estate ledger.Estate
	former bool
	place  ledger.Place
	left   Left
	log    *leftLog
	shared *shared
	err    error // of opening the log
}

func TestSettle(t *testing.T) {
	lease := func(of string, held int64) ledger.GiftLease {
		return ledger.GiftLease{StockKey: ledger.StockKey{Campaign: "spring", Gift: of}, Lease: ledger.Lease{Held: held, Version: 1}}
	}
	crashed := func(s *settling) { s.estate.State, s.estate.Ended = ledger.NodeLost, false }
	saved := func(s *settling) { s.left.Home, s.left.Where = "home of b", "the data directory there" }
	former := func(s *settling) {
		s.former, s.estate.Holder, s.estate.State = true, ledger.Holder{Node: "b@1"}, ""
		s.place = ledger.Place{Position: 5, Mark: ledger.Mark{At: 4}} // of the log that has the name now
	}
	all := func(changes ...func(*settling)) func(*settling) {
		return func(s *settling) {
			for _, change := range changes {
				change(s)
			}
		}
	}
	const settled = `"gifts":[{"campaign":"spring","gift":"coin","leased":5,"used":1,"given_back":4},{"campaign":"spring","gift":"pack","leased":60,"used":3,"given_back":57},{"campaign":"spring","gift":"rest","leased":7,"used":0,"given_back":7}]`
	for name, c := range map[string]struct {
		change func(*settling)
		status int
		words  []string
	}{
		"from the archive":                    {func(*settling) {}, http.StatusOK, []string{settled, `"log":"the archive"`}},
		"from the archive, retired":           {func(s *settling) { s.estate.State = ledger.NodeRetired }, http.StatusOK, []string{settled}},
		"from the disk, left in order":        {saved, http.StatusOK, []string{settled, `"log":"the data directory there"`}},
		"from the disk, crashed":              {all(crashed, saved), http.StatusOK, []string{settled}},
		"from the disk, nothing was taken in": {all(crashed, saved, func(s *settling) { s.place = ledger.Place{} }), http.StatusOK, []string{settled}},
		"a former log from its disk":          {all(former, crashed, saved, func(s *settling) { s.estate.State = "" }), http.StatusOK, []string{settled, `"node":"b@1"`}},
		"more was used than was leased": {func(s *settling) {
			s.estate.Leases = []ledger.GiftLease{lease("pack", 2)}
			s.shared.settling = ledger.ErrOverdrawn
		}, http.StatusOK, []string{`"leased":2,"used":3,"given_back":0`}},
		"nothing was leased":                   {func(s *settling) { s.estate.Leases, s.estate.Formers = nil, []string{"b@1"} }, http.StatusOK, []string{`"gifts":[]`, `"formers":["b@1"]`}},
		"it is up":                             {func(s *settling) { s.estate.State, s.estate.Formers = ledger.NodeUp, []string{"b@1"} }, http.StatusBadRequest, []string{"it is up", "stop it", "60 of spring/pack", "one by one: b@1"}},
		"no archive":                           {func(s *settling) { s.err = fmt.Errorf("%w: there is none", ErrUnarchived) }, http.StatusBadRequest, []string{"there is none", "start it again on its own data directory", "manna node settle b --data DIR", "60 of spring/pack"}},
		"no data directory":                    {func(s *settling) { s.err = errors.New("it is locked") }, http.StatusBadRequest, []string{"it is locked; until then"}},
		"from the archive, crashed":            {crashed, http.StatusBadRequest, []string{"it has not left in order", "last heard of with its log up to", "start it again on its own data directory", "--data DIR", "at most 5 of spring/coin, 60 of spring/pack, 7 of spring/rest"}},
		"the archive lacks the end":            {func(s *settling) { s.estate.LogEnd += 1 }, http.StatusBadRequest, []string{"its log ends at", "the archive has it up to", "start it again", "at most 5"}},
		"the disk is an older copy":            {all(crashed, saved, func(s *settling) { s.estate.LogEnd += 1 }), http.StatusBadRequest, []string{"the data directory there has it up to"}},
		"the disk is another node's":           {all(saved, func(s *settling) { s.left.Home = "another" }), http.StatusBadRequest, []string{"home.id is another"}},
		"another log in the archive":           {func(s *settling) { s.place.Mark.Sum[3] ^= 1 }, http.StatusBadRequest, []string{"another log than the one that the ledger followed"}},
		"a record is missing in the archive":   {func(s *settling) { s.place.Mark.At = fallbacklog.At(9, 4096) }, http.StatusBadRequest, []string{"another log than the one that the ledger followed"}},
		"another log of the same home":         {all(crashed, saved, func(s *settling) { s.place.Mark.Sum[3] ^= 1 }), http.StatusBadRequest, []string{"another log than the one that the ledger followed"}},
		"in the archive, nothing was taken in": {func(s *settling) { s.place = ledger.Place{} }, http.StatusBadRequest, []string{"nobody can tell whether the archive has that one"}},
		"records were lost":                    {func(s *settling) { s.log.losses = []fallbacklog.Loss{{Segment: 1, Bytes: 77}} }, http.StatusBadRequest, []string{"not whole", "77 bytes", "manna log restore"}},
		"a former log from the archive":        {former, http.StatusBadRequest, []string{"does not say which log of this name it has", "manna node settle b@1 --data DIR"}},
		"a former log of a home that two had":  {all(former, saved, func(s *settling) { s.estate.Home = "" }), http.StatusBadRequest, []string{"nobody can tell the two apart", "stays for good"}},
		"many gifts": {all(crashed, func(s *settling) {
			for i := range 5 {
				s.estate.Leases = append(s.estate.Leases, lease(fmt.Sprint("g", i), 1))
			}
		}), http.StatusBadRequest, []string{"1 of spring/g1, and 3 more gifts"}},
		"it was started meanwhile": {func(s *settling) { s.shared.settling = ledger.ErrLeaseChanged }, http.StatusBadRequest, []string{"it was started while its log was read"}},
		"the ledger goes away":     {func(s *settling) { s.shared.settling = errServer }, http.StatusServiceUnavailable, []string{"does not answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			log, mark := openLeft(t)
			s := &settling{
				log: log, left: Left{Log: log, Where: "the archive"}, place: ledger.Place{Position: log.End(), Mark: mark}, shared: &shared{},
				estate: ledger.Estate{
					Holder: ledger.Holder{Node: "b", Epoch: 4}, State: ledger.NodeLeft, Home: "home of b", LogEnd: log.Tip(), Ended: true,
					Leases: []ledger.GiftLease{lease("coin", 5), lease("pack", 60), lease("rest", 7)},
				},
			}
			c.change(s)
			s.shared.estates = map[string]ledger.Estate{s.estate.Holder.Node: s.estate}
			s.shared.places = map[string]ledger.Place{"b": s.place}
			opened := 0
			d := openDesk(t, func(o *Options) {
				o.Cluster = s.shared
				o.Logs = func(_ context.Context, node string) (Left, error) {
					same(t, "whose log", node, "b")
					if s.err == nil {
						opened++
					}
					return s.left, s.err
				}
			})
			r := d.call(c.status, "POST", "/v1/admin/nodes/"+s.estate.Holder.Node+"/settle", `{"why":"gone","who":"ana"}`)
			says(t, "the answer", r.text, c.words...)
			same(t, "logs left open", opened-log.closed, 0)
			if c.status == http.StatusBadRequest {
				same(t, "field", r.field(), "name")
				if s.shared.settling == nil {
					same(t, "leases that were settled", len(s.shared.done), 0)
				}
			}
			if c.status == http.StatusOK && len(s.estate.Leases) > 0 {
				same(t, "leases that were settled", len(s.shared.done), len(s.estate.Leases))
				same(t, "the first of them", s.shared.done[0], fmt.Sprintf("settle spring/%s of %s, epoch %d: %d", s.estate.Leases[0].Gift, s.estate.Holder.Node, s.estate.Holder.Epoch, map[string]int{"coin": 1, "pack": 3}[s.estate.Leases[0].Gift]))
				if lines := d.audited(); len(lines) != 2 {
					t.Errorf("the audit holds %q", lines)
				}
			}
		})
	}
}

func TestSettleNeedsWords(t *testing.T) {
	d, s := openShared(t)
	same(t, "field", d.call(http.StatusBadRequest, "POST", "/v1/admin/nodes/b/settle", `{"why":""}`).field(), "why")
	says(t, "one that there is not", d.call(http.StatusNotFound, "POST", "/v1/admin/nodes/c/settle", `{"why":"x"}`).text, "manna node")
	s.fail = errServer
	d.call(http.StatusServiceUnavailable, "POST", "/v1/admin/nodes/b/settle", `{"why":"x"}`)
	same(t, "deeds", len(s.done), 0)
	d.wantAudit()
}
