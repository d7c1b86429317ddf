package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInit(t *testing.T) {
	t.Chdir(t.TempDir())
	code, out, errOut := command(t, "init")
	if code != exitDone || errOut != "" {
		t.Fatalf("got exit code %d and %q", code, errOut)
	}
	for _, want := range []string{"Wrote manna.yaml", "  manna partner-sim\n", "  manna serve --dev\n", `  curl -H 'Content-Type: application/json' -d '{"campaign":"welcome","user":"alice"}' http://127.0.0.1:8080/v1/claims`} {
		if !strings.Contains(out, want) {
			t.Errorf("got\n%s\nwithout %q", out, want)
		}
	}
	code, out, errOut = command(t, "check")
	if code != exitDone || strings.Contains(out, "warning") {
		t.Errorf("the starter does not pass check: exit code %d\n%s%s", code, out, errOut)
	}
}

func TestInitWithEngines(t *testing.T) {
	t.Chdir(t.TempDir())
	sections := `queue: {engine: rocketmq, nameservers: ["127.0.0.1:9876"]}
guard: {engine: memcached, servers: ["127.0.0.1:11211"]}
ledger: {engine: postgres, dsn: "postgres://manna@127.0.0.1/manna"}
archive: {url: "s3://manna?endpoint=http://127.0.0.1:7070"}`
	if err := os.WriteFile("engines.yaml", []byte(sections), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := command(t, "init", "--engines", "engines.yaml"); code != exitDone {
		t.Fatalf("got exit code %d and %q", code, errOut)
	}
	code, out, errOut := command(t, "check", "--offline")
	if code != exitDone || strings.Contains(out, "warning") || !strings.Contains(out, "queue rocketmq, guard memcached, ledger postgres; archive s3://manna") {
		t.Errorf("got exit code %d\n%s%s", code, out, errOut)
	}
	if info, err := os.Stat("manna.yaml"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with passwords: %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile("engines.yaml", []byte("queue: {engine: embedded}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := command(t, "init", "--engines", "engines.yaml", "other.yaml"); code != exitWrong || !strings.Contains(errOut, "engines.yaml") {
		t.Errorf("a file without servers: got exit code %d and %q", code, errOut)
	}
}

func TestInitNeverOverwrites(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a file.yaml")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errOut := command(t, "init", file)
	if got, _ := os.ReadFile(file); code != exitWrong || !strings.Contains(errOut, "--force") || string(got) != "mine" {
		t.Errorf("got exit code %d, %q, file %q", code, errOut, got)
	}
	code, out, _ := command(t, "init", "--force", "--json", file)
	var doc struct {
		File string   `json:"file"`
		Next []string `json:"next"`
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || code != exitDone || doc.File != file || len(doc.Next) != 3 {
		t.Fatalf("got exit code %d, %v, %s", code, err, out)
	}
	if want := "manna serve --dev --config '" + file + "'"; doc.Next[1] != want {
		t.Errorf("got %q, want %q", doc.Next[1], want)
	}
	if got, _ := os.ReadFile(file); !strings.Contains(string(got), "partners:") {
		t.Errorf("the file is not overwritten: %q", got)
	}
	dir := filepath.Join(t.TempDir(), "not yet")
	if code, _, errOut := command(t, "init", filepath.Join(dir, "x.yaml")); code != exitWrong || !strings.Contains(errOut, "mkdir -p '"+dir+"'") {
		t.Errorf("in a missing directory: got exit code %d and %q", code, errOut)
	}
	if code, _, errOut := command(t, "init", filepath.Join(file, "x.yaml")); code != exitWrong || errOut == "" {
		t.Errorf("below a file: got exit code %d and %q", code, errOut)
	}
}
