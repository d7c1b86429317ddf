package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever the bytes are: a whole Config or Errors that point into the file, and
// no value of the environment in either.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/refused/*.yaml")
	for _, file := range append(files, "testdata/design.yaml", "testdata/ten-partners.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(minimal))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("testdata/fuzz.yaml", data, environment)
		if err == nil {
			if len(c.Partners) == 0 || len(c.Campaigns) == 0 {
				t.Fatalf("a Config without partners or campaigns: %+v", c)
			}
			c.Forecasts()
			if d := Diff(c, c); len(d.Restart)+len(d.Live) > 0 {
				t.Fatalf("a Config differs from itself: %+v", d)
			}
			for _, w := range c.Warnings {
				if strings.Contains(w.Error(), leak) {
					t.Fatalf("a warning shows a variable's value: %v", w)
				}
			}
			return
		}
		var found Errors
		if !errors.As(err, &found) || len(found) == 0 || c != nil {
			t.Fatalf("got %v with %v", c, err)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, p := range found {
			if p.Line < 0 || p.Line > lines || p.Message == "" || p.Line > 0 && p.Column < 1 {
				t.Fatalf("a problem outside of the file: %+v", p)
			}
			if strings.Contains(p.Error(), leak) && !strings.Contains(string(data), leak) {
				t.Fatalf("an error shows a variable's value: %v", p)
			}
		}
	})
}
