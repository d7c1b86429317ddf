package crashdisk

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestOnlyWhatWasWrittenSurvives does random work on one file beside a model that
// keeps every version of every sector since the last sync: after a power loss
// each sector must be one of them, and the size one that the file had or one to
// which surviving sectors reach.
func TestOnlyWhatWasWrittenSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := New(rapid.Uint64().Draw(t, "seed"))
		if err := d.WriteFile("/a", nil); err != nil {
			t.Fatal(err)
		}
		f, err := d.Open("/a")
		if err != nil {
			t.Fatal(err)
		}
		const space = 8 * sectorSize
		versions := [][]byte{{}} // since the last sync, which is the first
		note := func(t *rapid.T) {
			now, err := d.ReadFile("/a")
			if err != nil {
				t.Fatal(err)
			}
			versions = append(versions, now)
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				p := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, rapid.IntRange(1, 3*sectorSize).Draw(t, "length"))
				if _, err := f.WriteAt(p, rapid.Int64Range(0, space-3*sectorSize).Draw(t, "offset")); err != nil {
					t.Fatal(err)
				}
				note(t)
			},
			"truncate": func(t *rapid.T) {
				if err := f.Truncate(rapid.Int64Range(0, space).Draw(t, "size")); err != nil {
					t.Fatal(err)
				}
				note(t)
			},
			"allocate": func(t *rapid.T) {
				if err := f.Allocate(rapid.Int64Range(0, space).Draw(t, "size")); err != nil {
					t.Fatal(err)
				}
				note(t)
			},
			"sync": func(t *rapid.T) {
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				versions = versions[len(versions)-1:]
			},
			"": func(t *rapid.T) {
				checkCrash(t, d, versions, 0)
				checkCrash(t, d, versions, 0.5)
				checkCrash(t, d, versions, 1)
			},
		})
	})
}

func checkCrash(t *rapid.T, d *Disk, versions [][]byte, keep float64) {
	got, err := d.Crash(keep).ReadFile("/a")
	if err != nil {
		t.Fatal(err)
	}
	if keep == 0 && !bytes.Equal(got, versions[0]) {
		t.Fatal("keep 0 is not what was synced")
	}
	if keep == 1 && !bytes.Equal(got, versions[len(versions)-1]) {
		t.Fatal("keep 1 is not what was written")
	}
	reach := false
	for _, v := range versions {
		reach = reach || len(v) == len(got) || len(v) > len(got) && len(got)%sectorSize == 0
	}
	if !reach {
		t.Fatalf("size %d is none that the file had, nor a sector's end", len(got))
	}
	for at := 0; at < len(got); at += sectorSize {
		end := min(at+sectorSize, len(got))
		known := bytes.Count(got[at:end], []byte{0}) == end-at
		for _, v := range versions {
			// A version may be shorter than what survived: zeros follow it.
			s := make([]byte, end-at)
			copy(s, v[min(at, len(v)):])
			known = known || bytes.Equal(got[at:end], s)
			if cut := cutAlong(s, versions, at); slices.ContainsFunc(cut, func(c []byte) bool { return bytes.Equal(c, got[at:end]) }) {
				known = true
			}
		}
		if !known {
			t.Fatalf("sector %d was never written like that", at/sectorSize)
		}
	}
}

// cutAlong gives s, the sector at at, cut off at each size that the file had.
func cutAlong(s []byte, versions [][]byte, at int) (cuts [][]byte) {
	for _, v := range versions {
		if n := len(v) - at; n >= 0 && n < len(s) {
			c := slices.Clone(s)
			clear(c[n:])
			cuts = append(cuts, c)
		}
	}
	return cuts
}
