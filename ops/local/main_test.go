package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"manna/ops/local/engines"
)

func TestStatusOfServersThatWereNeverUp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	dir := t.TempDir()
	if got := run(t.Context(), []string{"status", "broker", "--json", "--run", dir, "memcached"}, &stdout, &stderr); got != wrong {
		t.Errorf("exit status %d, want %d: %s", got, wrong, &stderr)
	}
	var report struct {
		Run     string
		Servers []engines.Status
	}
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("%v in %s", err, &stdout)
	}
	if report.Run != dir || len(report.Servers) != 2 {
		t.Fatalf("got %+v, want the two servers of %s", report, dir)
	}
	for i, name := range []string{"broker", "memcached"} {
		if st := report.Servers[i]; st.Name != name || st.State != engines.StateDown || st.Address == "" {
			t.Errorf("got %+v, want %s down, with its address", st, name)
		}
	}
}

func TestWhatCannotBeDone(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
		says string
	}{
		{nil, misused, "usage:"},
		{[]string{"restart"}, misused, "usage:"},
		{[]string{"up", "--fast"}, misused, "usage:"},
		{[]string{"up", "redis"}, wrong, "the servers are nameserver, broker, memcached, postgres, s3"},
		{[]string{"kill"}, wrong, "name the servers"},
		{[]string{"start"}, wrong, "name the servers"},
		{[]string{"kill", "broker"}, wrong, "broker does not run"},
	} {
		var stdout, stderr bytes.Buffer
		got := run(t.Context(), append([]string{"--run", t.TempDir()}, c.args...), &stdout, &stderr)
		if got != c.want || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%q: exit status %d, %q; want %d, %q", c.args, got, &stderr, c.want, c.says)
		}
	}
}
