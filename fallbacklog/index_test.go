package fallbacklog_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/disk/crashdisk"
)

// written writes rows as an index and opens it. The rows are sorted by it.
func written(t interface{ Fatal(...any) }, rows []fallbacklog.Row, names *fallbacklog.Names) *fallbacklog.Index {
	d := crashdisk.New(18)
	if err := d.MkdirAll("log"); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(rows, fallbacklog.CompareRows)
	if err := fallbacklog.WriteIndex(d, "log", 1, rows, names); err != nil {
		t.Fatal(err)
	}
	x, err := fallbacklog.OpenIndex(d, "log", 1)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// id makes an id whose first eight bytes, which the fences hold, are key.
func id(key, rest uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[:], key)
	binary.BigEndian.PutUint64(id[8:], rest)
	return id
}

func rowsOf(rows []fallbacklog.Row, id [16]byte) (found []fallbacklog.Row) {
	for _, r := range rows {
		if r.ID == id {
			found = append(found, r)
		}
	}
	return found
}

// TestFindAroundPageBorders looks up every id, and the ids beside it, where one
// id's rows begin and end at every place of a page.
func TestFindAroundPageBorders(t *testing.T) {
	const per = fallbacklog.RowsPerPage
	for _, run := range []int{1, per - 1, per, per + 1, 3 * per} {
		for before := per - 2; before <= per+2; before++ {
			var rows []fallbacklog.Row
			for i := range before {
				rows = append(rows, fallbacklog.Row{ID: id(uint64(i+1), 7), At: fallbacklog.Position(i)})
			}
			for i := range run {
				rows = append(rows, fallbacklog.Row{ID: id(1<<32, 7), At: fallbacklog.Position(i)})
			}
			for i := range per {
				rows = append(rows, fallbacklog.Row{ID: id(1<<40+uint64(i), 7), At: fallbacklog.Position(i)})
			}
			x := written(t, rows, fallbacklog.NewNames())
			for _, r := range rows {
				key := binary.BigEndian.Uint64(r.ID[:])
				for _, at := range [][16]byte{r.ID, id(key, 6), id(key, 8), id(key-1, 9), id(key+1, 0)} {
					got, err := x.Find(at)
					if want := rowsOf(rows, at); err != nil || !slices.Equal(got, want) {
						t.Fatalf("run of %d after %d rows, id %x: got %d rows, %v, want %d", run, before, at, len(got), err, len(want))
					}
				}
			}
			x.Close()
		}
	}
}

// TestAnIndexIsItsRows compares an index of few and clustered ids with its rows.
func TestAnIndexIsItsRows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SampledFrom([]uint64{1, 3, 50, 1 << 40}).Draw(t, "keys")
		n := rapid.IntRange(0, 5*fallbacklog.RowsPerPage).Draw(t, "rows")
		var rows []fallbacklog.Row
		seed := rapid.Uint64().Draw(t, "seed")
		for i := range n {
			seed = seed*6364136223846793005 + 1442695040888963407
			rows = append(rows, fallbacklog.Row{ID: id(seed>>20%keys, seed>>50%3), At: fallbacklog.Position(i), Time: int64(i), Value: int64(seed), Kind: fallbacklog.Granted, Lane: uint16(i), OfClaim: i%2 == 0})
		}
		x := written(t, rows, fallbacklog.NewNames())
		defer x.Close()
		if x.Rows() != int64(n) {
			t.Fatalf("%d rows, want %d", x.Rows(), n)
		}
		var all []fallbacklog.Row
		for r, err := range x.All() {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		if !slices.Equal(all, rows) {
			t.Fatal("All does not give the rows")
		}
		some := func(name string) [16]byte {
			if n > 0 && rapid.Bool().Draw(t, name+" is there") {
				return rows[rapid.IntRange(0, n-1).Draw(t, name)].ID
			}
			return id(rapid.Uint64Range(0, keys).Draw(t, name+" key"), rapid.Uint64Range(0, 4).Draw(t, name+" rest"))
		}
		at := some("id")
		if got, err := x.Find(at); err != nil || !slices.Equal(got, rowsOf(rows, at)) {
			t.Fatalf("find %x: got %v, %v", at, got, err)
		}
		from, to := some("from"), some("to")
		var got, want []fallbacklog.Row
		for r, err := range x.Range(from, &to) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		for _, r := range rows {
			if bytes.Compare(r.ID[:], from[:]) >= 0 && bytes.Compare(r.ID[:], to[:]) < 0 {
				want = append(want, r)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("range %x to %x: got %d rows, want %d", from, to, len(got), len(want))
		}
	})
}

func TestNamesHaveBounds(t *testing.T) {
	names := fallbacklog.NewNames()
	if got := names.Add(strings.Repeat("x", 256)); got != 0 {
		t.Fatalf("a name of 256 bytes got number %d", got)
	}
	long := strings.Repeat("x", 250)
	for i := 1; i <= fallbacklog.MaxNames; i++ {
		if got := names.Add(fmt.Sprintf("%05d%s", i, long)); got != uint16(i) {
			t.Fatalf("name %d got number %d", i, got)
		}
	}
	if got := names.Add("one more"); got != 0 {
		t.Fatalf("a name past the last number got number %d", got)
	}
	x := written(t, nil, names)
	defer x.Close()
	for _, n := range []int{1, 300, fallbacklog.MaxNames} {
		name := fmt.Sprintf("%05d%s", n, long)
		if got := x.Names().Name(uint16(n)); got != name {
			t.Fatalf("name %d reads back as %.10q", n, got)
		}
		if got, ok := x.Names().Number(name); !ok || got != uint16(n) {
			t.Fatalf("name %d has number %d, %v", n, got, ok)
		}
	}
	if got, ok := x.Names().Number("one more"); ok {
		t.Fatalf("a name that no row can have has number %d", got)
	}
	if got := x.Names().Name(0); got != "" {
		t.Fatalf("number 0 is %q", got)
	}
}

// A log whose records name more than an index can hold is sealed, opened and
// answers all the same.
func TestRecordsWithMonstrousNames(t *testing.T) {
	d := crashdisk.New(19)
	l, err := fallbacklog.Open(small(d))
	if err != nil {
		t.Fatal(err)
	}
	rec := claimRecord("u")
	rec.Claim.Campaign = strings.Repeat("c", 70_000)
	rec.Claim.Orders[0].Partner = strings.Repeat("p", 80_000)
	if err := l.Append(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, small(d))
	got, _, err := l.Claim(rec.Claim.ID)
	if err != nil || got.Campaign != rec.Claim.Campaign {
		t.Fatalf("claim: %v", err)
	}
}

// TestAnIDInManySegments asks for an id that has rows in sealed and active
// segments and fills several pages of one.
func TestAnIDInManySegments(t *testing.T) {
	d := crashdisk.New(20)
	l := openLog(t, small(d))
	claim := modelClaim(2)
	o := claim.Orders[0]
	var want []fallbacklog.Position
	appendRec := func(rec *fallbacklog.Record) {
		t.Helper()
		if err := l.Append(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		want = append(want, rec.At)
	}
	appendRec(&fallbacklog.Record{Kind: fallbacklog.Claimed, Time: when, Claim: claim})
	for i := range 4 * fallbacklog.RowsPerPage {
		appendRec(&fallbacklog.Record{Kind: fallbacklog.Deferred, Time: when, Event: &fallbacklog.Event{Order: o.ID, Claim: claim.ID, Partner: "p", Attempts: i + 1}})
		if i%(2*fallbacklog.RowsPerPage) == fallbacklog.RowsPerPage {
			if _, err := l.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func() {
		t.Helper()
		rows, err := l.Lookup(o.ID)
		if err != nil {
			t.Fatal(err)
		}
		var got []fallbacklog.Position
		for _, r := range rows {
			got = append(got, r.At)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %d rows, want %d", len(got), len(want))
		}
		s, err := l.Order(o.ID)
		if err != nil || s.State != gift.StateDeferred || s.Attempts != 4*fallbacklog.RowsPerPage || len(s.Records) != len(want) {
			t.Fatalf("story: %+v, %v", s, err)
		}
	}
	check()
	if _, err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
}
