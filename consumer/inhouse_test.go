package consumer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"manna/delivery"
	"manna/delivery/partnertest"
	"manna/gift"
)

// inhouse calls a scripted partner in this process, without a network: where time is
// virtual, a call takes what the script says and nothing else. What a lane makes of
// real connections the tests with a world see.
type inhouse struct {
	partner *partnertest.Partner
	traits  delivery.Traits
	calls   *sync.WaitGroup // what the partner is still at, also after its caller gave up
}

func (a *inhouse) Traits() delivery.Traits { return a.traits }
func (a *inhouse) Close()                  {}

// call has the partner answer a request; ok is false where it did not within the
// timeout, or cut the line.
func (a *inhouse) call(ctx context.Context, method, path string, body []byte) (status int, answer []byte, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, a.traits.Timeout)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, path, bytes.NewReader(body))
	w := httptest.NewRecorder()
	answered := make(chan bool, 1)
	a.calls.Go(func() {
		whole := false
		defer func() {
			if cut := recover(); cut != nil && cut != http.ErrAbortHandler {
				panic(cut)
			}
			answered <- whole
		}()
		a.partner.ServeHTTP(w, r)
		whole = ctx.Err() == nil // else it is an answer to nobody
	})
	select {
	case ok = <-answered:
	case <-ctx.Done():
	}
	if !ok {
		return 0, nil, false
	}
	return w.Code, w.Body.Bytes(), true
}

// Grant implements delivery.Adapter.
func (a *inhouse) Grant(ctx context.Context, _ *gift.Claim, o gift.Order) gift.Outcome {
	body, err := json.Marshal(map[string]any{"order_id": o.ID, "amount": o.Amount})
	if err != nil {
		panic(err)
	}
	began := time.Now()
	status, answer, ok := a.call(ctx, http.MethodPost, "/grant", body)
	if !ok {
		return gift.Unknown{Code: "no_answer", Reason: "none came within " + time.Since(began).String()}
	}
	var said struct {
		Reference, Code, Reason string
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return gift.Unknown{Code: "unreadable", Reason: err.Error()}
	}
	switch status {
	case http.StatusOK, http.StatusConflict:
		return gift.Granted{Reference: said.Reference, Before: status == http.StatusConflict}
	case http.StatusUnprocessableEntity:
		return gift.Refused{Code: said.Code, Reason: said.Reason}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return gift.Deferred{Code: said.Code, Reason: said.Reason}
	}
	return gift.Unknown{Code: said.Code, Reason: said.Reason}
}

// Query implements delivery.Adapter.
func (a *inhouse) Query(ctx context.Context, id gift.OrderID) delivery.Standing {
	_, answer, ok := a.call(ctx, http.MethodGet, "/orders/"+id.String(), nil)
	var said struct {
		State, Reference, Code, Reason string
	}
	if !ok || json.Unmarshal(answer, &said) != nil {
		return delivery.Unanswered{Code: "no_answer"}
	}
	switch said.State {
	case "granted":
		return delivery.Settled{Outcome: gift.Granted{Reference: said.Reference}}
	case "refused":
		return delivery.Settled{Outcome: gift.Refused{Code: said.Code, Reason: said.Reason}}
	case "none":
		return delivery.None{}
	}
	return delivery.Pending{}
}
