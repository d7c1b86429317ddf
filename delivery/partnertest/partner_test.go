package partnertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestDedupe(t *testing.T) {
	p := Start(t, Script{Dedupe: true})
	first, second := grant(t, p, orderID(1)), grant(t, p, orderID(1))
	if first.status != 200 || second.status != 200 || first.body != second.body {
		t.Errorf("got %v, then %v", first, second)
	}
	if n := p.Books().Count(orderID(1)); n != 1 {
		t.Errorf("applied %d times", n)
	}
	if err := p.SetScript(Script{Dedupe: true, ConflictOnRepeat: true}); err != nil {
		t.Fatal(err)
	}
	if third := grant(t, p, orderID(1)); third.status != 409 || third.field("reference") != first.field("reference") {
		t.Errorf("got %v", third)
	}
}

func TestWithoutDedupe(t *testing.T) {
	p := Start(t, Script{})
	first, second := grant(t, p, orderID(1)), grant(t, p, orderID(1))
	grant(t, p, orderID(2))
	if first.field("reference") == second.field("reference") {
		t.Errorf("two grants with one reference %v", first.field("reference"))
	}
	b := p.Books()
	if len(b.Grants) != 2 || b.Count(orderID(1)) != 2 || b.Count(orderID(2)) != 1 || b.Count(orderID(3)) != 0 {
		t.Errorf("the books hold %+v", b.Grants)
	}
	doubled := b.Doubled()
	if len(doubled) != 1 || doubled[0].OrderID != orderID(1) || doubled[0].Reference != first.field("reference") {
		t.Errorf("doubled: %+v", doubled)
	}
}

func TestRefusalIsForGood(t *testing.T) {
	p := Start(t, Script{Refuse: 1})
	for range 2 {
		if r := grant(t, p, orderID(1)); r.status != 422 || r.field("code") != refusedCode || r.field("reason") != refusedReason {
			t.Errorf("got %v", r)
		}
	}
	if err := p.SetScript(Script{}); err != nil {
		t.Fatal(err)
	}
	if r := grant(t, p, orderID(1)); r.status != 422 {
		t.Errorf("under a mild script: got %v", r)
	}
	if r := query(t, p, orderID(1)); r.field("state") != "refused" {
		t.Errorf("query: got %v", r)
	}
	if n := len(p.Books().Grants); n != 0 {
		t.Errorf("%d grants", n)
	}
}

func TestQueries(t *testing.T) {
	p := Start(t, Script{PendingFirst: 2})
	if r := query(t, p, orderID(1)); r.status != 404 || r.field("state") != "none" {
		t.Errorf("unknown order: got %v", r)
	}
	reference := grant(t, p, orderID(1)).field("reference")
	for _, want := range []string{"pending", "pending", "granted", "granted"} {
		r := query(t, p, orderID(1))
		if r.field("state") != want {
			t.Errorf("got %v, want %s", r, want)
		}
		if want == "granted" && (r.field("reference") != reference || r.field("amount") != 500.0) {
			t.Errorf("got %v", r)
		}
	}
	for mode, want := range map[string]any{QueryPending: "pending", QueryAbsent: nil, QueryAnswers: "granted"} {
		if err := p.SetScript(Script{Query: mode}); err != nil {
			t.Fatal(err)
		}
		if r := query(t, p, orderID(1)); r.field("state") != want {
			t.Errorf("%s: got %v", mode, r)
		}
	}
}

func TestMalformed(t *testing.T) {
	p := Start(t, Script{})
	for name, body := range map[string]any{
		"no JSON object": []int{1}, "no id": map[string]string{}, "bad id": map[string]string{"order_id": "7"},
		"too long": strings.Repeat("x", maxRequest),
	} {
		r, err := send(t.Context(), "POST", p.URL+"/grant", body)
		if err != nil || r.status != 400 || r.field("code") != "malformed" {
			t.Errorf("%s: got %.80v, %v", name, r, err)
		}
	}
	req, err := http.NewRequest("POST", p.URL+"/grant", strings.NewReader(`{"order_id":"`+orderID(1).String()+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", orderID(2).String())
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 400 || len(p.Books().Grants) != 0 {
		t.Errorf("two ids: got %s and %+v", resp.Status, p.Books().Grants)
	}
}

func TestWrongAmount(t *testing.T) {
	p := Start(t, Script{WrongAmount: 1})
	if r := grant(t, p, orderID(1)); r.field("amount") != 501.0 {
		t.Errorf("got %v", r)
	}
	if g, _ := p.Books().Grant(orderID(1)); g.Amount != 501 {
		t.Errorf("the books hold %+v", g)
	}
}

func TestRateIsPunished(t *testing.T) {
	p := Start(t, Script{Rate: 5, RetryAfter: 3 * Second})
	punished := 0
	for i := range 20 {
		r := grant(t, p, orderID(i))
		if r.status == 429 {
			punished++
			if r.header.Get("Retry-After") != "3" {
				t.Errorf("got %v", r)
			}
		}
	}
	b := p.Books()
	// A stalled machine excuses calls; then there is a stall in the books.
	if punished == 0 && len(b.Stalls) == 0 {
		t.Error("20 calls at once at 5/s went through")
	}
	if len(b.Grants) != 20-punished || b.Calls["punished"] != int64(punished) || b.Arrivals != 20 {
		t.Errorf("%d punished, the books say %v, %d grants, %d arrivals", punished, b.Calls, len(b.Grants), b.Arrivals)
	}
	if b.OverrunSeconds == 0 && len(b.Stalls) == 0 {
		t.Errorf("no second was overrun with %d in one", b.PeakPerSecond)
	}
}

func TestScriptOverHTTP(t *testing.T) {
	p := Start(t, Script{})
	r, err := send(t.Context(), "POST", p.URL+"/script", map[string]any{"name": "strict", "refuse": 1, "secret": "", "latency": Span{}})
	if err != nil || r.status != 200 || r.field("name") != "strict" {
		t.Fatalf("got %v, %v", r, err)
	}
	if r := grant(t, p, orderID(1)); r.status != 422 {
		t.Errorf("got %v", r)
	}
	r, err = send(t.Context(), "POST", p.URL+"/script", map[string]any{"refuse": 2})
	if err != nil || r.status != 400 || p.Script().Refuse != 1 {
		t.Errorf("a wrong script: got %v, %v", r, err)
	}
	if err := p.SetScript(Script{Secret: "hunter2"}); err != nil {
		t.Fatal(err)
	}
	if r, err = send(t.Context(), "GET", p.URL+"/script", nil); err != nil || strings.Contains(r.body, "hunter2") {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestFetch(t *testing.T) {
	p := Start(t, Script{Name: "midas", Rate: 400})
	for i := range 30 {
		grant(t, p, orderID(i%25))
	}
	want := p.Books()
	got, err := Fetch(t.Context(), p.URL)
	if err != nil {
		t.Fatal(err)
	}
	if got.Partner != "midas" || got.Rate != 400 || got.Arrivals != 30 || got.PeakPerSecond != want.PeakPerSecond || got.Calls["doubled"] != 5 || !got.StartedAt.Equal(want.StartedAt) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if len(got.Grants) != 25 {
		t.Fatalf("%d grants, want 25", len(got.Grants))
	}
	for i, g := range got.Grants {
		if w := want.Grants[i]; !g.FirstAt.Equal(w.FirstAt) || g.OrderID != w.OrderID || g.Count != w.Count || g.Reference != w.Reference || g.Amount != w.Amount || g.SKU != w.SKU || g.User != w.User {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
	for _, rate := range []float64{1, 7, 29} {
		gotPeak, gotOverrun := got.Peak(rate)
		wantPeak, wantOverrun := want.Peak(rate)
		if gotPeak != wantPeak || gotOverrun != wantOverrun {
			t.Errorf("at %v/s: got %d, %d; want %d, %d", rate, gotPeak, gotOverrun, wantPeak, wantOverrun)
		}
	}
	if _, err := Fetch(t.Context(), p.URL+"/nothing"); err == nil {
		t.Error("books were fetched from nowhere")
	}
	for _, text := range []string{"", "[]", `{"grants":[`, `{"grants":{}}`, `{"rate":"x","grants":[]}`, `{"grants":[{"order_id":"7"}]}`, `{"grants":[]`} {
		if b, err := ReadBooks(strings.NewReader(text)); err == nil {
			t.Errorf("%q became %+v", text, b)
		}
	}
}

// While it is down nothing is read or applied, kept connections end, and
// afterwards it serves on the same address.
func TestDown(t *testing.T) {
	for _, by := range []string{DownReset, DownRefuse} {
		t.Run(by, func(t *testing.T) {
			p := Start(t, Script{})
			kept := &http.Client{Transport: &http.Transport{}}
			defer kept.CloseIdleConnections()
			call := func() error {
				resp, err := kept.Get(p.URL + "/healthz")
				if err != nil {
					return err
				}
				io.Copy(io.Discard, resp.Body) // or it would not be kept
				return resp.Body.Close()
			}
			if err := call(); err != nil {
				t.Fatal(err)
			}
			if err := p.SetScript(Script{Down: []Window{{For: Duration(time.Hour), By: by}}}); err != nil {
				t.Fatal(err)
			}
			// The listener's state is seen from outside only.
			deadline := time.Now().Add(10 * time.Second)
			err := call()
			for ; err == nil; err = call() {
				if time.Now().After(deadline) {
					t.Fatal("still serves")
				}
			}
			want := syscall.ECONNREFUSED
			if by == DownReset {
				want = syscall.ECONNRESET
			}
			for i := 0; i < 100 && !errors.Is(err, want); i++ {
				err = call()
			}
			if !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if _, err := send(t.Context(), "POST", p.URL+"/grant", map[string]any{"order_id": orderID(1)}); err == nil {
				t.Error("a grant went through")
			}
			if n := len(p.Books().Grants); n != 0 {
				t.Errorf("%d grants while down", n)
			}
			if err := p.SetScript(Script{}); err != nil {
				t.Fatal(err)
			}
			deadline = time.Now().Add(10 * time.Second)
			for err := call(); err != nil; err = call() {
				if time.Now().After(deadline) {
					t.Fatalf("never came back: %v", err)
				}
			}
			if r := grant(t, p, orderID(1)); r.status != 200 {
				t.Errorf("got %v", r)
			}
		})
	}
}

// Windows begin and end by themselves. There are several, as a busy machine may
// sleep through one.
func TestDownForAWhile(t *testing.T) {
	var s Script
	for i := range Duration(40) {
		s.Down = append(s.Down, Window{After: (20 + 200*i) * Millisecond, For: 100 * Millisecond, By: DownRefuse})
	}
	p := Start(t, s)
	down, deadline := false, time.Now().Add(10*time.Second)
	for time.Now().Before(deadline) {
		_, err := send(t.Context(), "GET", p.URL+"/healthz", nil)
		if down && err == nil {
			return
		}
		down = down || errors.Is(err, syscall.ECONNREFUSED)
	}
	t.Errorf("was down: %v, and did not come back", down)
}

// Ending the partner ends every answer that is held, and applies what is late.
func TestServeEnds(t *testing.T) {
	for name, c := range map[string]struct {
		script  Script
		applied int
	}{
		"held":    {Script{Timeout: 1}, 0},
		"late":    {Script{Late: 1, LateBy: Duration(time.Hour)}, 1},
		"drip":    {Script{Drip: 1}, 1},
		"slow":    {Script{Latency: Span{Min: Duration(time.Hour)}}, 0},
		"at once": {Script{}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			p := New(c.script)
			p.URL = "http://" + l.Addr().String()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- p.Serve(ctx, l) }()
			var call sync.WaitGroup
			call.Go(func() { send(t.Context(), "POST", p.URL+"/grant", map[string]any{"order_id": orderID(1)}) })
			for p.heard() == 0 {
				runtime.Gosched()
			}
			cancel()
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("did not end")
			}
			call.Wait()
			if n := p.Books().Count(orderID(1)); n != c.applied {
				t.Errorf("applied %d times, want %d", n, c.applied)
			}
			if _, err := net.Dial("tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("still listens: %v", err)
			}
		})
	}
}

func (p *Partner) heard() int {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	return len(p.ledger.entries)
}

// Many callers and a reader of the books at once; nothing is miscounted.
func TestConcurrentCalls(t *testing.T) {
	p := Start(t, Script{Dedupe: true, Garbage: 0.2, ApplyThen500: 0.2})
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 25 {
				grant(t, p, orderID(i+w%2*25))
			}
		})
	}
	all.Go(func() {
		for range 20 {
			p.Books()
		}
	})
	all.Wait()
	b := p.Books()
	if len(b.Grants) != 50 || len(b.Doubled()) != 0 || b.Arrivals != 200 || b.Calls["granted"] != 50 || b.Calls["repeated"] != 150 {
		t.Errorf("the books hold %d grants, %d doubled, %d arrivals, %v", len(b.Grants), len(b.Doubled()), b.Arrivals, b.Calls)
	}
}

// A process that was stopped for a while says so.
func TestStallIsNoticed(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	var url string
	if _, err := fmt.Fscanln(out, &url); err != nil {
		t.Fatal(err)
	}
	// It says its address before it serves: stopped too early it notices nothing,
	// so it is stopped more than once.
	const pause = 200 * time.Millisecond
	var stalls []Stall
	for range 5 {
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pause) // the pause is what is tested
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		b, err := Fetch(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if stalls = b.Stalls; slices.ContainsFunc(stalls, func(s Stall) bool { return s.To-s.From > Duration(pause/2) }) {
			return
		}
	}
	t.Errorf("%v of standing still are booked as %v", pause, stalls)
}

func TestStallsAreBounded(t *testing.T) {
	l := newLedger()
	for i := range maxStalls + 1 {
		l.stall(int64(i), int64(i+1))
	}
	if b := l.books("p", 1); len(b.Stalls) != maxStalls || !b.Truncated {
		t.Errorf("%d stalls, truncated %v", len(b.Stalls), b.Truncated)
	}
}
