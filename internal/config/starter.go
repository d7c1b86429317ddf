package config

import (
	"bytes"
	_ "embed"
	"text/template"
	"time"
)

//go:embed starter.yaml.tmpl
var starter string

// Starter gives a commented file for a first campaign that opens today and runs
// for 30 days. `manna serve --dev` runs it as it is, beside `manna partner-sim`.
// engines are the lines of the sections queue, guard, ledger and archive; empty: those
// that need no server.
func Starter(now time.Time, engines string) []byte {
	opens := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	var b bytes.Buffer
	// The template is ours and writes into memory: neither can fail.
	template.Must(template.New("starter").Parse(starter)).Execute(&b, map[string]string{
		"Opens":   opens.Format(time.RFC3339),
		"Engines": engines,
		"Closes":  opens.AddDate(0, 0, 30).Format(time.RFC3339),
	})
	return b.Bytes()
}
