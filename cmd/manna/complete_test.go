package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// complete asks as a shell does and gives the words that fit, with what the shell
// is to do with them: 4 offer nothing else, 8 files with these endings, 16
// directories.
func complete(t *testing.T, line ...string) (words []string, directive string) {
	t.Helper()
	code, out, _ := command(t, append([]string{"__complete"}, line...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitDone || len(lines) == 0 {
		t.Fatalf("%q: exit code %d and %q", line, code, out)
	}
	return lines[:len(lines)-1], lines[len(lines)-1]
}

func TestCompletion(t *testing.T) {
	t.Setenv("CHECK_TEST_SECRET", "a-secret-that-nobody-sees")
	file := writeConfig(t, checked)
	kinds := kindNames()
	for _, kind := range []string{"claimed", "granted", "switched"} {
		if !slices.Contains(kinds, kind) {
			t.Errorf("the kinds of records are %v, without %s", kinds, kind)
		}
	}
	for _, c := range []struct {
		line      string // its last word, which may be empty, is being typed
		want      []string
		directive string
	}{
		{"partner ", []string{"midas", "points"}, ":4"},
		{"partner midas ", nil, ":4"},
		{"switch ", []string{"partner/midas", "partner/points"}, ":4"},
		{"switch partner/midas ", []string{"open", "closed", "auto"}, ":4"},
		{"switch partner/midas open ", nil, ":4"},
		{"reconcile --campaign ", []string{"spring", "autumn"}, ":4"},
		{"grant --campaign ", []string{"spring", "autumn"}, ":4"},
		{"grant --gift ", []string{"pack", "card", "leaf"}, ":4"},
		{"grant --campaign autumn --gift ", []string{"leaf"}, ":4"},
		{"grant --scene ", []string{"rain-2000", "rain-2100"}, ":4"},
		{"grant ", []string{"csv"}, ":8"},
		{"log cat --kind ", kinds, ":4"},
		{"log export --kind ", kinds, ":4"},
		{"log cat --partner ", []string{"midas", "points"}, ":4"},
		{"log ls --dir ", nil, ":16"},
		{"check ", []string{"yaml", "yml"}, ":8"},
		{"init ", []string{"yaml", "yml"}, ":8"},
		{"partner-sim --script ", []string{"json"}, ":8"},
		{"partner-sim --query ", []string{"answers", "pending", "absent"}, ":4"},
		{"serve --log ", []string{"debug", "info", "warn", "error"}, ":4"},
		{"demo --keep ", nil, ":16"},
		{"order ", nil, ":4"},
		{"version ", nil, ":4"},
	} {
		got, directive := complete(t, append([]string{"--config", file}, strings.Split(c.line, " ")...)...)
		if !slices.Equal(got, c.want) || directive != c.directive {
			t.Errorf("%q: got %v %s, want %v %s", c.line, got, directive, c.want, c.directive)
		}
	}
	if got, directive := complete(t, "--config", ""); !slices.Equal(got, []string{"yaml", "yml"}) || directive != ":8" {
		t.Errorf("--config: got %v %s", got, directive)
	}
}

// Somebody in the middle of a line is not told what is wrong with a file.
func TestCompletionWithoutAConfigurationIsSilent(t *testing.T) {
	for _, file := range []string{filepath.Join(t.TempDir(), "none.yaml"), writeConfig(t, "nonsense: true\n")} {
		for _, line := range []string{"partner ", "switch ", "reconcile --campaign ", "log cat --partner "} {
			code, out, errOut := command(t, append([]string{"__complete", "--config", file}, strings.Split(line, " ")...)...)
			if code != exitDone || out != ":4\n" || strings.Contains(errOut, file) {
				t.Errorf("%q: exit code %d, %q, %q", line, code, out, errOut)
			}
		}
	}
}
