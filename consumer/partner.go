package consumer

import (
	"fmt"
	"time"

	"manna/breaker"
	"manna/delivery"
	"manna/gift"
)

// Partner is what a lane has to know of the partner it serves. It is not changed
// while in use: a reload brings another.
type Partner struct {
	Name        string
	Adapter     delivery.Adapter
	Rate        gift.Rate
	MaxInFlight int
	// Retry holds the pauses after the first, second, … attempt. One attempt more
	// than it is long is made before the order is parked.
	Retry   []time.Duration
	Breaker *breaker.Breaker
}

func (p *Partner) validate() error {
	if err := gift.CheckName(p.Name); err != nil {
		return fmt.Errorf("partner's name %w", err)
	}
	if p.Adapter == nil || p.Breaker == nil || p.Rate <= 0 || p.MaxInFlight <= 0 {
		return fmt.Errorf("partner %s: adapter, breaker, rate and max_in_flight are required", p.Name)
	}
	return nil
}
