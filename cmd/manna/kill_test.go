package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"manna/delivery/partnertest"
)

var killRounds = flag.Int("kill-rounds", 20, "how often TestKilledUnderLoad kills the server")

// The server is killed with SIGKILL again and again while claims go on and
// partners lie. At the end every promise is checked from the partners' books.
func TestKilledUnderLoad(t *testing.T) {
	const ms = partnertest.Millisecond
	s := newServer(t, map[string]partnertest.Script{
		"dedupes": {Rate: 600, Dedupe: true, ApplyThen500: 0.02, FaultCalls: 2, Latency: partnertest.Span{Min: 1 * ms, Max: 10 * ms}},
		"asked":   {Rate: 600, ApplyThenReset: 0.01, FaultCalls: 2, Latency: partnertest.Span{Min: 5 * ms, Max: 30 * ms}},
	}, "")
	s.start()
	stop := make(chan struct{})
	var crowd sync.WaitGroup
	for worker := range 8 {
		crowd.Go(func() {
			defer http.DefaultClient.CloseIdleConnections()
			for i := 0; ; i++ {
				user := fmt.Sprintf("u%d-%d", worker, i)
				for s.claim(user) != nil {
					// The server is down: the user tries again, as users do.
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
				if i%5 == 4 {
					s.claim(fmt.Sprintf("u%d-%d", worker, rand.IntN(i)))
				}
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	for round := range *killRounds {
		// Each round ends at another moment of the server's work.
		want := s.count() + 20 + rand.IntN(100)
		for began := time.Now(); s.count() < want; time.Sleep(time.Millisecond) {
			if time.Since(began) > patience {
				t.Fatalf("round %d: %d claims accepted, want %d", round, s.count(), want)
			}
		}
		s.kill()
		s.start()
	}
	close(stop)
	crowd.Wait()
	s.settle()
	s.terminate()
	v := s.check()
	t.Logf("%d kills, %d claims, %d orders: %d granted, %d parked, %d doubled, %d lost", *killRounds, v.Claims, v.Orders, v.Granted, v.Parked, v.Doubled, v.Lost)
	if v.Claims < *killRounds*20 {
		t.Errorf("only %d claims over %d rounds: the load was too small to mean anything", v.Claims, *killRounds)
	}
}
