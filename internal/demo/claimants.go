package demo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"manna/gift"
)

const (
	claimants = 64
	// patience bounds how long a claimant repeats a claim that was not answered.
	patience   = 60 * time.Second
	retryPause = 100 * time.Millisecond
)

// crowd claims over HTTP, open loop: each claim has its moment, whether or not
// the ones before it were answered.
type crowd struct {
	plan *plan
	urls []string // of the fronts, which are asked in turn
	http *http.Client

	turn atomic.Uint64 // of the fronts

	sent, accepted, duplicates, refused, repeated atomic.Int64

	mu     sync.Mutex
	claims map[gift.ClaimID]bool // those that somebody was told were accepted
	failed error
}

func newCrowd(p *plan, urls []string) *crowd {
	return &crowd{
		plan: p, urls: urls, claims: make(map[gift.ClaimID]bool),
		http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: claimants}},
	}
}

// ask is one claim to be made.
type ask struct {
	Campaign string `json:"campaign"`
	Scene    string `json:"scene"`
	User     string `json:"user"`
	Gift     string `json:"gift"`
}

// run makes all claims of the plan. tell is called with how many have been sent;
// claims go on meanwhile.
func (c *crowd) run(ctx context.Context, tell func(sent int)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asks := make(chan ask, c.plan.claims)
	var workers sync.WaitGroup
	for range claimants {
		workers.Go(func() {
			for a := range asks {
				if err := c.claim(ctx, a); err != nil {
					c.mu.Lock()
					c.failed = err
					c.mu.Unlock()
					cancel()
				}
			}
		})
	}
	begin := time.Now()
	random := rand.New(rand.NewPCG(c.plan.seed, 1))
	gap := claimTime / time.Duration(c.plan.claims)
	var past []ask
	for i := range c.plan.claims {
		if wait := time.Until(begin.Add(time.Duration(i) * gap)); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
		var a ask
		if i%repeats == repeats-1 {
			a = past[random.IntN(len(past))]
		} else {
			a = ask{Campaign: campaignName, Scene: sceneName, User: fmt.Sprintf("u%d-%d", c.plan.seed, i), Gift: pick(random)}
			past = append(past, a)
		}
		asks <- a
		c.sent.Add(1)
		tell(i)
	}
	close(asks)
	workers.Wait()
	c.http.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	// ctx may have ended while nobody was at work.
	return cmp.Or(c.failed, ctx.Err())
}

func pick(r *rand.Rand) string {
	switch x := r.Float64(); {
	case x < askPack:
		return "pack"
	case x < askPack+askCoupon:
		return "coupon"
	case x < askPack+askCoupon+askGolden:
		return "golden"
	}
	return "packet"
}

// claim makes one claim and repeats it until it is answered, as a user would.
func (c *crowd) claim(ctx context.Context, a ask) error {
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	// The next try asks the next front, as a balancer would.
	for turn := c.turn.Add(1); ; turn++ {
		err := c.try(ctx, c.urls[turn%uint64(len(c.urls))], body)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("a claim was not answered for %v: %w", patience, err)
		}
		c.repeated.Add(1)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}

// try makes one request. An error means that nothing is known of its fate.
func (c *crowd) try(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/claims", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	var said struct {
		ClaimID   gift.ClaimID `json:"claim_id"`
		Duplicate bool         `json:"duplicate"`
		Code      gift.Code    `json:"code"`
		Detail    string       `json:"detail"`
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return fmt.Errorf("answer %d: %w", res.StatusCode, err)
	}
	switch {
	case res.StatusCode == http.StatusOK || res.StatusCode == http.StatusAccepted:
		c.mu.Lock()
		c.claims[said.ClaimID] = true
		c.mu.Unlock()
		if said.Duplicate {
			c.duplicates.Add(1)
		} else {
			c.accepted.Add(1)
		}
		return nil
	case res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%s: %s", said.Code, said.Detail)
	}
	c.refused.Add(1)
	return nil
}
