package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"manna/delivery/partnertest"
)

// startSim runs `manna partner-sim` in this process until stop is called; stop
// gives the exit code and what was printed after the first line.
func startSim(t *testing.T, args ...string) (first string, stop func() (int, string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	reader, writer := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"partner-sim", "--listen", "127.0.0.1:0"}, args...), strings.NewReader(""), writer, writer)
		writer.Close()
	}()
	out := bufio.NewReader(reader)
	first, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return first, func() (int, string) {
		cancel()
		rest, err := io.ReadAll(out)
		if err != nil {
			t.Error(err)
		}
		return <-code, string(rest)
	}
}

func simGrant(t *testing.T, url, id string) int {
	t.Helper()
	resp, err := http.Post(url+"/grant", "application/json", strings.NewReader(`{"order_id":"`+id+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	return resp.StatusCode
}

const simOrder = "11111111-2222-5333-8444-555555555555"

func TestPartnerSimJSON(t *testing.T) {
	first, stop := startSim(t, "--json", "--rate", "500/s", "--dedupe", "--name", "midas")
	var ready struct{ Listening string }
	if err := json.Unmarshal([]byte(first), &ready); err != nil {
		t.Fatalf("%v in %q", err, first)
	}
	for range 2 {
		if got := simGrant(t, ready.Listening, simOrder); got != 200 {
			t.Errorf("got %d", got)
		}
	}
	b, err := partnertest.Fetch(t.Context(), ready.Listening)
	if err != nil || b.Rate != 500 || len(b.Grants) != 1 || b.Grants[0].Count != 1 {
		t.Errorf("books: %+v, %v", b, err)
	}
	code, rest := stop()
	var got simSummary
	if err := json.Unmarshal([]byte(rest), &got); err != nil || code != exitDone {
		t.Fatalf("exit %d, %v in %q", code, err, rest)
	}
	if got.Partner != "midas" || got.Granted != 1 || got.Doubled != 0 || got.Arrivals != 2 || got.Calls["repeated"] != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestPartnerSimForPeople(t *testing.T) {
	first, stop := startSim(t)
	rest, ok := strings.CutPrefix(first, "partner sim listens on http://127.0.0.1:")
	if !ok || !strings.Contains(rest, "/books") {
		t.Errorf("got %q", first)
	}
	code, out := stop()
	if code != exitDone || !strings.Contains(out, "partner sim: 0 orders granted") {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestPartnerSimFlagsOverScript(t *testing.T) {
	file := filepath.Join(t.TempDir(), "script.json")
	if err := os.WriteFile(file, []byte(`{"name":"filed","rate":5,"refuse":1,"garbage":0.5,"query":"absent"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	first, stop := startSim(t, "--json", "--script", file, "--garbage", "0", "--rate", "900/m", "--latency", "1ms", "--down", "1h+5s:refuse")
	defer stop()
	var ready struct{ Listening string }
	if err := json.Unmarshal([]byte(first), &ready); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(ready.Listening + "/script")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	s, err := partnertest.ReadScript(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "filed" || s.Rate != 15 || s.Refuse != 1 || s.Garbage != 0 || s.Query != partnertest.QueryAbsent ||
		s.Latency.Min != partnertest.Millisecond || len(s.Down) != 1 || s.Down[0].By != partnertest.DownRefuse {
		t.Errorf("got %+v", s)
	}
}

func TestPartnerSimUsage(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--refuse", "2"}, exitUsage, "refuse: a share is from 0 to 1"},
		{[]string{"--rate", "5"}, exitUsage, "write calls per second, minute or hour"},
		{[]string{"--down", "10s"}, exitUsage, "write AFTER+FOR"},
		{[]string{"--script", "/no/such/file"}, exitUsage, "no such file"},
		{[]string{"extra"}, exitUsage, "unknown command"},
		{[]string{"--listen", taken.Addr().String()}, exitWrong, "choose another with --listen"},
	} {
		var out strings.Builder
		code := run(t.Context(), append([]string{"partner-sim"}, c.args...), strings.NewReader(""), io.Discard, &out)
		if code != c.code || !strings.Contains(out.String(), c.want) || strings.Count(out.String(), "\n") > 2 {
			t.Errorf("%v: exit %d, %q; want %d and %q", c.args, code, out.String(), c.code, c.want)
		}
	}
}
