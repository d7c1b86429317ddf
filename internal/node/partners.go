package node

import (
	"fmt"
	"strings"

	"manna/breaker"
	"manna/consumer"
	"manna/delivery"
	"manna/fallbacklog"
	"manna/internal/config"
)

// breakerName is the name of a partner's switch.
func breakerName(partner string) string { return partnerPrefix + partner }

const partnerPrefix = "partner/"

func breakerSettings(p *config.Partner) breaker.Settings {
	return breaker.Settings{
		Window: p.Breaker.Window, FailureRatio: p.Breaker.FailureRatio, MinCalls: p.Breaker.MinCalls,
		SlowCall: p.Breaker.SlowCall, OpenFor: p.Breaker.OpenFor, Timeout: p.Timeout,
	}
}

// Adapter makes the adapter of a partner. It connects to nothing.
func Adapter(p *config.Partner) (delivery.Adapter, error) {
	headers := make(map[string]string)
	for name, value := range p.Request.Headers {
		headers[name] = string(value)
	}
	return delivery.NewHTTP(delivery.HTTPOptions{
		Name: p.Name, URL: p.URL, QueryURL: p.QueryURL, Secret: string(p.Secret), Idempotent: p.Idempotent,
		Timeout: p.Timeout, SettlesWithin: p.SettlesWithin, MaxInFlight: p.MaxInFlight,
		Method: p.Request.Method, Headers: headers, Body: string(p.Request.Body),
		ConflictMeans: p.ConflictMeans, Answers: p.Answers, States: p.States,
		ReferencePath: p.Mapping.Reference, VoucherPath: p.Mapping.Voucher, AmountPath: p.Mapping.Amount,
		CodePath: p.Mapping.Code, ReasonPath: p.Mapping.Reason, StatePath: p.Mapping.State,
	})
}

// partners builds what the lanes need. Breakers that exist are kept and not yet
// changed; new ones are made and not yet added.
func (n *Node) partners(c *config.Config) ([]*consumer.Partner, error) {
	var list []*consumer.Partner
	for _, p := range c.Partners {
		settings := breakerSettings(p)
		if err := settings.Validate(); err != nil {
			return nil, fmt.Errorf("partner %s: breaker: %w", p.Name, err)
		}
		b, ok := n.breakers.Get(breakerName(p.Name))
		if !ok {
			var err error
			if b, err = breaker.New(breakerName(p.Name), settings, breaker.OnChange(newBreakerLog(n.logger).changed)); err != nil {
				return nil, fmt.Errorf("partner %s: %w", p.Name, err)
			}
		}
		a, err := Adapter(p)
		if err != nil {
			return nil, fmt.Errorf("partner %s: %w", p.Name, err)
		}
		list = append(list, &consumer.Partner{Name: p.Name, Adapter: a, Rate: p.Rate, MaxInFlight: p.MaxInFlight, Retry: p.Retry, Breaker: b})
	}
	return list, nil
}

// adopt puts the breakers of the partners in force: new ones are added with the
// mode that a person last gave them, known ones get their new settings, and those
// of partners that are gone are removed.
func (n *Node) adopt(c *config.Config, list []*consumer.Partner) error {
	keep := make(map[string]bool)
	for i, p := range list {
		keep[p.Breaker.Name()] = true
		if _, ok := n.breakers.Get(p.Breaker.Name()); ok {
			if err := p.Breaker.Reconfigure(breakerSettings(c.Partners[i])); err != nil {
				return err
			}
			continue
		}
		if err := n.addBreaker(p.Breaker); err != nil {
			return err
		}
	}
	for _, b := range n.breakers.All() {
		if strings.HasPrefix(b.Name(), partnerPrefix) && !keep[b.Name()] {
			n.breakers.Remove(b.Name())
		}
	}
	return nil
}

// addBreaker has people hold a breaker, which has the mode that they last gave it.
func (n *Node) addBreaker(b *breaker.Breaker) error {
	if err := n.restore(b); err != nil {
		return err
	}
	return n.breakers.Add(b)
}

// restore gives a breaker the mode of its last `switched` record.
func (n *Node) restore(b *breaker.Breaker) error {
	row, ok, err := n.log.Last(fallbacklog.NamedID(fallbacklog.Switched, b.Name()))
	if err != nil || !ok {
		return err
	}
	rec, err := n.log.Read(row.At)
	if err != nil {
		return err
	}
	var mode breaker.Mode
	if err := mode.UnmarshalText([]byte(rec.Switch.Mode)); err != nil {
		return fmt.Errorf("switch %s at %v: %w", b.Name(), rec.At, err)
	}
	if mode != breaker.Automatic {
		n.logger.Warn("switch is still held", "switch", b.Name(), "mode", rec.Switch.Mode, "who", rec.Switch.Who, "why", rec.Switch.Why)
	}
	b.Hold(mode)
	return nil
}
