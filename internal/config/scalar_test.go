package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"64MiB": 64 << 20, "64 KiB": 64 << 10, "1GiB": 1 << 30, "512B": 512, "1_024B": 1024,
		"64": -1, "64MB": -1, "MiB": -1, "-1MiB": -1, "9999999999GiB": -1, "1.5MiB": -1, "": -1,
	} {
		got, err := parseSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
	for n, want := range map[int64]string{64 << 20: "64MiB", 1 << 30: "1GiB", 1000: "1000B", 0: "0B", 3 << 10: "3KiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestParseNumber(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "10": 10, "3_000_000": 3_000_000, "-5": -5,
		"010": -1, "+1": -1, "0x1F": -1, "1e6": -1, "_1": -1, "": -1, "99999999999999999999": -1, "ten": -1,
	} {
		got, err := parseNumber(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		48 * time.Hour: "48h", 72*time.Minute + 36*time.Second: "1h12m36s", 10 * time.Minute: "10m", 20 * time.Second: "20s",
		250 * time.Millisecond: "250ms", 0: "0s", time.Hour + 5*time.Second: "1h0m5s", time.Minute + 300*time.Millisecond: "1m",
		100 * time.Minute: "1h40m",
	} {
		if got := Short(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestCron(t *testing.T) {
	for spec, ok := range map[string]bool{
		"7 * * * *": true, "*/5 0-6 * * MON-FRI": true, "  7 * * * *  ": true, "0 0 29 2 *": true,
		"TZ=UTC": false, "CRON_TZ=UTC": false, " TZ=UTC": false, "TZ=UTC 7 * * * *": false, "@every 1h": false, "@hourly": false,
		"* * * *": false, "* * * * * *": false, "61 * * * *": false, "0 0 31 2 *": false, "*/0 * * * *": false, "x": false,
	} {
		_, err := Parse("manna.yaml", []byte(minimal+fmt.Sprintf("reconcile: {cron: %q}\n", spec)), environment)
		if got := err == nil; got != ok {
			t.Errorf("%q: got %v, want taken %v", spec, err, ok)
		}
	}
}

func TestSecret(t *testing.T) {
	s := struct {
		Secret Secret
		Map    map[string]Secret
	}{"hush", map[string]Secret{"a": "hush"}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%20s", "%T"} {
		if got := fmt.Sprintf(verb, s) + fmt.Sprintf(verb, s.Secret) + fmt.Sprintf(verb, &s.Secret); strings.Contains(got, "hush") || strings.Contains(got, "68757368") {
			t.Errorf("%s: got %s", verb, got)
		}
	}
	text, err := json.Marshal(s)
	if want := `{"Secret":"[redacted]","Map":{"a":"[redacted]"}}`; err != nil || string(text) != want {
		t.Errorf("JSON: got %s, %v, want %s", text, err, want)
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "secret", s.Secret, "all", s)
	}
	if strings.Contains(log.String(), "hush") {
		t.Errorf("slog: got %s", &log)
	}
	if got := Secret("").String(); got != "" {
		t.Errorf("an empty secret: got %q", got)
	}
	if string(s.Secret) != "hush" {
		t.Error("the text itself is lost")
	}
}
