package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/gift"
)

func TestStoppingWaitsForChanges(t *testing.T) {
	for name, c := range map[string]struct {
		change time.Duration // how long the change takes by itself
		deaf   bool          // it does not hear its context
		within time.Duration // of the stop
		took   time.Duration
		cut    bool
	}{
		"there is none":            {0, false, time.Minute, 0, false},
		"it ends by itself":        {changesWithin / 2, false, time.Minute, changesWithin / 2, false},
		"it is cut off":            {time.Hour, false, time.Minute, changesWithin, true},
		"it is cut off at once":    {time.Hour, false, changesWithin / 4, changesWithin / 4, true},
		"it ends in its time":      {2 * changesWithin, true, time.Minute, 2 * changesWithin, true},
		"it is waited for no more": {time.Hour, true, time.Minute, time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := newChanges()
				ended := make(chan error, 1)
				if c.change > 0 {
					go func() {
						ended <- all.do(context.Background(), func(ctx context.Context) error {
							heard := ctx.Done()
							if c.deaf {
								heard = nil
							}
							select {
							case <-time.After(c.change):
							case <-heard:
							}
							return ctx.Err()
						})
					}()
					synctest.Wait()
				} else {
					ended <- nil
				}
				ctx, cancel := context.WithTimeout(context.Background(), c.within)
				defer cancel()
				began := time.Now()
				all.stop(ctx)
				same(t, "took", time.Since(began), c.took)
				err := all.do(context.Background(), func(context.Context) error { t.Error("a change began after the end"); return nil })
				if refused, ok := errors.AsType[*gift.Error](err); !ok || refused.Code != gift.Unavailable || refused.RetryAfter == 0 {
					t.Errorf("after the end: got %v", err)
				}
				same(t, "cut off", <-ended != nil, c.cut)
			})
		})
	}
}

func TestReadsGoOnWhereNothingIsChangedAnyMore(t *testing.T) {
	d := openDesk(t)
	c, o := d.claim("u")
	d.happens(fallbacklog.Parked, c, fallbacklog.Event{})
	d.console.EndChanges(t.Context())
	for path, body := range map[string]string{
		"switches/partner/midas": `{"mode":"held_open","why":"x"}`, "claims": `{"claims":[{"campaign":"spring","user":"late"}]}`, "reconcile": `{}`,
		fmt.Sprintf("orders/%v/reissue", o.ID): `{"why":"x"}`, "nodes/b/lose": `{"why":"x"}`, "nodes/b/settle": `{"why":"x"}`,
	} {
		r := d.call(http.StatusServiceUnavailable, "POST", "/v1/admin/"+path, body)
		says(t, path, r.text, "is stopping")
		if r.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/admin/status", "/v1/admin/switches", "/v1/admin/orders/" + o.ID.String()} {
		d.call(http.StatusOK, "GET", path, "")
	}
	same(t, "records", len(d.records(fallbacklog.Reissued))+len(d.records(fallbacklog.Switched)), 0)
	same(t, "claims", len(d.records(fallbacklog.Claimed)), 1)
	d.wantAudit()
}
