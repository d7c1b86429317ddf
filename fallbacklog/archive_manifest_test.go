package fallbacklog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"manna/fallbacklog"
	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/directory"
	"manna/internal/disk/crashdisk"
)

var renew = flag.Bool("renew-manifest", false, "write testdata/manifest anew")

// manifestOf reads a node's manifest as another machine would.
func manifestOf(t *testing.T, b bucket.Bucket, node string) *fallbacklog.Manifest {
	t.Helper()
	a := openArchive(t, b, crashdisk.New(1), 0)
	nodes, err := a.Nodes(t.Context())
	if err := errors.Join(err, a.Close()); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Node == node {
			if n.Err != nil {
				t.Fatal(n.Err)
			}
			return n.Manifest
		}
	}
	t.Fatalf("there is no node %s in %+v", node, nodes)
	return nil
}

// chance is what differs from one run to the next.
var chance = regexp.MustCompile(`"(writer|sha256|hash|link|chain)":"[^"]*[1-9A-Z][^"]*"|"seed":\d+`)

// TestManifestFormat holds the manifest to the file that releases before have written.
func TestManifestFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := closed(t)
		o := small(d)
		o.Now = func() time.Time { return when.Add(time.Hour) }
		l, err := fallbacklog.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		to := crashdisk.New(41)
		_, stop := archiving(t, l, to)
		synctest.Wait()
		stop()
		got := content(t, to, "archive/a/manifest.json")
		path := filepath.Join("testdata", "manifest", "1.json")
		if *renew {
			if err := os.WriteFile(path, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		masked := func(b []byte) string { return string(chance.ReplaceAll(b, []byte(`"$1":…`))) }
		if masked(got) != masked(want) {
			t.Errorf("the manifest reads\n%s\nwant\n%s", masked(got), masked(want))
		}
		// What a release before has written is read, and so is what the next may add.
		more := bytes.Replace(want, []byte(`{"format":1,`), []byte(`{"format":1,"later":{"x":[1]},`), 1)
		for _, b := range [][]byte{want, more} {
			there := crashdisk.New(1)
			if err := errors.Join(there.MkdirAll("archive/a"), there.WriteFile("archive/a/manifest.json", b)); err != nil {
				t.Fatal(err)
			}
			m := manifestOf(t, directory.New(there, "archive"), "a")
			if len(m.Segments) != 3 || !m.AsOf.Equal(when.Add(time.Hour)) || m.Segments[2].Records["claimed"] == 0 || m.Segments[1].Chain != m.Segments[0].Link {
				t.Errorf("read %+v", m)
			}
		}
	})
}

func TestBadManifestsAreNamed(t *testing.T) {
	good, err := os.ReadFile(filepath.Join("testdata", "manifest", "1.json"))
	if err != nil {
		t.Fatal(err)
	}
	change := func(do func(m map[string]any, segments []any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		do(m, m["segments"].([]any))
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for want, b := range map[string][]byte{
		"does not read as a manifest": good[:len(good)/2],
		"has format 2":                change(func(m map[string]any, _ []any) { m["format"] = 2 }),
		"has format 0":                []byte("{}"),
		`is of node "b"`:              change(func(m map[string]any, _ []any) { m["node"] = "b" }),
		"lists segment 3 in the place of 2": change(func(m map[string]any, s []any) {
			m["segments"] = []any{s[0], s[2]}
		}),
		"does not follow": change(func(_ map[string]any, s []any) {
			s[1].(map[string]any)["link"] = strings.Repeat("07", 32)
		}),
		"a size": change(func(_ map[string]any, s []any) { s[1].(map[string]any)["size"] = 1 << 40 }),
	} {
		d := crashdisk.New(1)
		if err := errors.Join(d.MkdirAll("archive/a"), d.WriteFile("archive/a/manifest.json", b), d.MkdirAll("archive/empty")); err != nil {
			t.Fatal(err)
		}
		a := openArchive(t, directory.New(d, "archive"), crashdisk.New(1), 0)
		nodes, err := a.Nodes(t.Context())
		if err != nil || len(nodes) != 2 || nodes[0].Err == nil || !strings.Contains(nodes[0].Err.Error(), want) || !strings.Contains(nodes[0].Err.Error(), "a/manifest.json") {
			t.Errorf("want %q: %+v, %v", want, nodes, err)
		}
		if len(nodes) == 2 && !errors.Is(nodes[1].Err, bucket.ErrNotFound) {
			t.Errorf("a node without a manifest: %v", nodes[1].Err)
		}
		if _, err := a.Open(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("opened: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSilenceShows: the manifest is as of now while nothing is appended, stands still
// while something waits to be sealed, and ends with its node.
func TestSilenceShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New(1)
		l, err := fallbacklog.Open(small(d)) // seals by age after 10 minutes
		if err != nil {
			t.Fatal(err)
		}
		to := crashdisk.New(2)
		b := directory.New(to, "archive")
		_, stop := archiving(t, l, to)
		synctest.Wait()
		began := time.Now()
		if m := manifestOf(t, b, "a"); !m.AsOf.Equal(began) || len(m.Segments) != 0 {
			t.Fatalf("at the start: as of %v with %d segments", m.AsOf.Sub(began), len(m.Segments))
		}
		time.Sleep(30*time.Minute + time.Second)
		idle := began.Add(30 * time.Minute)
		if m := manifestOf(t, b, "a"); !m.AsOf.Equal(idle) || !m.Written.Equal(idle) || m.Revision != 31 {
			t.Fatalf("after half an hour of nothing: as of %v, written %v, %d times", m.AsOf.Sub(began), m.Written.Sub(began), m.Revision)
		}
		if err := newHistory().append(l, 2); err != nil {
			t.Fatal(err)
		}
		// The log's age began at its start: its next turn is at 40 minutes.
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if m := manifestOf(t, b, "a"); !m.AsOf.Equal(idle) || !m.Written.Equal(began.Add(35*time.Minute)) {
			t.Fatalf("with a record that waits: as of %v, written %v", m.AsOf.Sub(began), m.Written.Sub(began))
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if m := manifestOf(t, b, "a"); len(m.Segments) != 1 || !m.AsOf.Equal(began.Add(40*time.Minute)) {
			t.Fatalf("after it was sealed: as of %v with %d segments", m.AsOf.Sub(began), len(m.Segments))
		}
		stop()
		end := time.Now()
		time.Sleep(time.Hour)
		if m := manifestOf(t, b, "a"); m.AsOf.After(end) {
			t.Fatalf("after the end: as of %v", m.AsOf.Sub(began))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAsOfIsBeforeWhatIsNotArchived: while segments wait, as_of is not past the
// records that are in them.
func TestAsOfIsBeforeWhatIsNotArchived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New(1)
		l, err := fallbacklog.Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		h := newHistory()
		var appended []time.Time // by segment
		for range 3 {
			time.Sleep(time.Minute)
			if err := h.append(l, 1); err != nil {
				t.Fatal(err)
			}
			appended = append(appended, time.Now())
			time.Sleep(time.Minute)
			if _, err := l.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		to := crashdisk.New(2)
		seen := 0
		watched := &tap{Disk: to, told: func(op, path string) {
			if op != "renamed" || path != "manifest.json.tmp" {
				return
			}
			m := manifestOf(t, directory.New(to.Kill(), "archive"), "a")
			seen++
			if n := len(m.Segments); n < 3 && !m.AsOf.Before(appended[n]) || n > 0 && m.AsOf.Before(appended[n-1]) {
				t.Errorf("with %d segments it is as of %v, and they end at %v", n, m.AsOf, appended)
			}
		}}
		_, stop := archiving(t, l, watched)
		synctest.Wait()
		stop()
		if seen != 3 {
			t.Errorf("saw %d manifests", seen)
		}
	})
}
