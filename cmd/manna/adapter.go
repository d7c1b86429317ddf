package main

import (
	"manna/delivery"
	"manna/internal/config"
)

// newAdapter makes the adapter of a partner. It connects to nothing.
func newAdapter(p *config.Partner) (delivery.Adapter, error) {
	headers := make(map[string]string, len(p.Request.Headers))
	for name, value := range p.Request.Headers {
		headers[name] = string(value)
	}
	adapter, err := delivery.NewHTTP(delivery.HTTPOptions{
		Name: p.Name, URL: p.URL, QueryURL: p.QueryURL, Secret: string(p.Secret), Idempotent: p.Idempotent,
		Timeout: p.Timeout, SettlesWithin: p.SettlesWithin, MaxInFlight: p.MaxInFlight,
		Method: p.Request.Method, Headers: headers, Body: string(p.Request.Body),
		ConflictMeans: p.ConflictMeans, Answers: p.Answers,
		ReferencePath: p.Mapping.Reference, VoucherPath: p.Mapping.Voucher, AmountPath: p.Mapping.Amount,
		CodePath: p.Mapping.Code, ReasonPath: p.Mapping.Reason, StatePath: p.Mapping.State,
		States: p.States,
	})
	if err != nil {
		return nil, err
	}
	return adapter, nil
}
