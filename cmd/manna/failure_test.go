package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"manna/gift"
	"manna/internal/config"
	"manna/internal/disk"
)

// failed reads standard output of a command that failed with --json: one document
// and nothing else.
func failed(t *testing.T, out string) failure {
	t.Helper()
	var f failure
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatalf("no document of a failure: %v in %q", err, out)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("more than one document: %q", out)
	}
	if f.Error.Code == "" || f.Error.Message == "" {
		t.Errorf("the document says nothing: %q", out)
	}
	return f
}

func TestEveryFailureIsADocument(t *testing.T) {
	good := writeConfig(t, strings.NewReplacer(`    secret: "${CHECK_TEST_SECRET}"`+"\n", "", `    request: {headers: {Authorization: "Bearer ${CHECK_TEST_SECRET}"}}`+"\n", "",
		"/srv/manna", filepath.Join(t.TempDir(), "data")).Replace(checked))
	broken := writeConfig(t, strings.Replace(checked, "rate: 100/s", "rate: 100", 1))
	csv := func(text string) string {
		file := filepath.Join(t.TempDir(), "users.csv")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const id = "6d616e6e-6100-5000-8000-676966740001"
	for _, c := range []struct {
		args []string
		exit int
		code string
		says string // the message, or standard error
	}{
		{[]string{"drill"}, exitUsage, "usage", "unknown command"},
		{[]string{"drill", "--help"}, exitUsage, "usage", "unknown command"},
		{[]string{"partner", "--nope"}, exitUsage, "usage", "--nope"},
		{[]string{"order"}, exitUsage, "usage", "accepts 1 arg"},
		{[]string{"order", "x"}, exitUsage, "usage", "is no id"},
		{[]string{"check", "a", "b"}, exitUsage, "usage", "at most 1 arg"},
		{[]string{"serve", "--log", "loud"}, exitUsage, "usage", "loud"},
		{[]string{"switch", "partner/midas", "ajar"}, exitUsage, "usage", "open, closed or auto"},
		{[]string{"log", "cat", "--kind", "odd"}, exitUsage, "usage", "--kind"},
		{[]string{"reconcile", "--from", "yesterday"}, exitUsage, "usage", "is no time"},
		{[]string{"reconcile", "--from", "2027-02-05T21:00:00Z", "--to", "2027-02-05T20:00:00Z"}, exitUsage, "usage", "is not after"},
		{[]string{"grant", csv("user,size\n")}, exitUsage, "usage", `column "size" is unknown`},
		{[]string{"grant", csv("user,user\n")}, exitUsage, "usage", "twice"},
		{[]string{"grant", csv("campaign\n")}, exitUsage, "usage", "no column user"},
		{[]string{"grant", csv("")}, exitUsage, "usage", "is empty"},
		{[]string{"grant", t.TempDir()}, exitUsage, "usage", "no regular file"},
		{[]string{"grant", "no-such.csv"}, exitWrong, "failed", "name a CSV file"},
		{[]string{"init", filepath.Join(t.TempDir(), "sub", "dir", "x.yaml")}, exitWrong, "failed", "mkdir -p "},
		{[]string{"partner"}, exitWrong, "no_server", "manna serve"},
		{[]string{"order", id}, exitWrong, "", ""}, // the log is read instead, and there is none
		{[]string{"reconcile"}, exitWrong, "no_server", "manna serve"},
		{[]string{"serve", "--config", broken}, exitWrong, "config_invalid", "is no rate"},
		{[]string{"serve", "--config", "no-such.yaml"}, exitWrong, "failed", "manna init"},
		{[]string{"demo", "--claims", "1"}, exitUsage, "usage", "--claims"},
		{[]string{"partner-sim", "--rate", "5"}, exitUsage, "usage", "is no rate"},
	} {
		for _, args := range [][]string{append([]string{"--json", "--config", good}, c.args...), append(append([]string{"--config", good}, c.args...), "--json")} {
			exit, out, errOut := command(t, args...)
			f := failed(t, out)
			if exit != c.exit || c.code != "" && f.Error.Code != c.code {
				t.Errorf("%v: exit code %d and code %s, want %d and %s", args, exit, f.Error.Code, c.exit, c.code)
			}
			if !strings.Contains(f.Error.Message, c.says) || !strings.HasPrefix(errOut, "manna: ") || !strings.Contains(errOut, c.says) {
				t.Errorf("%v: got %q and for people %q, want %q in both", args, f.Error.Message, errOut, c.says)
			}
		}
		if exit, out, errOut := command(t, append([]string{"--config", good}, c.args...)...); exit != c.exit || out != "" || errOut == "" {
			t.Errorf("%v without --json: exit code %d, %q on standard output, %q for people", c.args, exit, out, errOut)
		}
	}
}

func TestFailure(t *testing.T) {
	one := config.Problem{File: "m.yaml", Line: 7, Column: 11, Key: "partners.midas.rate", Message: `"100" is no rate`, Remedy: "did you mean 100/s?"}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"any", io.ErrUnexpectedEOF, `{"error":{"code":"failed","message":"unexpected EOF"}}`},
		{"usage", usageError{gift.Errorf(gift.BadRequest, "a < b & c")}, `{"error":{"code":"usage","message":"bad_request: a < b & c"}}`},
		{"refused by the server", &gift.Error{Code: gift.BadRequest, Field: "to", Detail: "is not after from"}, `{"error":{"code":"bad_request","message":"is not after from","field":"to"}}`},
		{"refused, with more to say", fmt.Errorf("%w\nafter 5 rows", &gift.Error{Code: gift.Unavailable, Detail: "the disk is full"}), `{"error":{"code":"unavailable","message":"unavailable: the disk is full\nafter 5 rows"}}`},
		{"placed", usageError{placed{"u.csv", 3, io.ErrUnexpectedEOF}}, `{"error":{"code":"usage","message":"u.csv:3: unexpected EOF","file":"u.csv","line":3}}`},
		{"partly", partly{errInterrupted, grantSummary{File: "u.csv", Rows: 2, Accepted: 2}},
			`{"error":{"code":"interrupted","message":"interrupted"},"done":{"file":"u.csv","rows":2,"skipped":0,"accepted":2,"duplicates":0,"refused":0,"elapsed_s":0}}`},
		{"locked", fmt.Errorf("lock x: %w", disk.ErrLocked), `{"error":{"code":"locked","message":"lock x: locked by another process"}}`},
		{"disk full", fmt.Errorf("write x: %w", disk.ErrFull), `{"error":{"code":"disk_full","message":"write x: disk is full"}}`},
		{"aborted", errAborted, `{"error":{"code":"interrupted","message":"interrupted a second time, and stopped at once: what was under way is as a crash leaves it"}}`},
		{"configuration", config.Errors{one}, `{"error":{"code":"config_invalid","message":"\"100\" is no rate","field":"partners.midas.rate","file":"m.yaml","line":7,"column":11,"remedy":"did you mean 100/s?"}}`},
	} {
		var out, errOut bytes.Buffer
		exit := fail(&out, &errOut, true, c.err)
		if got := strings.TrimSpace(out.String()); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
		if want := "manna: " + c.err.Error() + "\n"; errOut.String() != want {
			t.Errorf("%s: people read %q, want %q", c.name, errOut.String(), want)
		}
		if usage := strings.Contains(c.want, `"usage"`); usage != (exit == exitUsage) || exit == exitDone {
			t.Errorf("%s: exit code %d", c.name, exit)
		}
	}
	if got := newFailure(config.Errors{one, one}).Error.Problems; len(got) != 2 {
		t.Errorf("of two problems %d are told", len(got))
	}
}

func TestWantsJSON(t *testing.T) {
	for line, want := range map[string]bool{
		"partner":                      false,
		"partner --nope --json":        true,
		"--json=true x":                true,
		"--json=false x":               false,
		"--json --json=0 x":            false,
		"--json=perhaps":               true,
		"check -- --json":              false,
		"partner --jsonish":            false,
		"switch p open --why --json=1": true,
	} {
		if got := wantsJSON(strings.Fields(line)); got != want {
			t.Errorf("%s: got %v, want %v", line, got, want)
		}
	}
}
