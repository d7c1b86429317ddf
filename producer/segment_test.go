package producer

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"manna/gift"
)

// writeBitmap writes a file as it is exported from a warehouse.
func writeBitmap(t testing.TB, bitmap io.WriterTo) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.roaring")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := bitmap.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEligibility(t *testing.T) {
	runs := roaring.New()
	runs.AddRange(100, 100000)
	runs.RunOptimize()
	for name, bitmap := range map[string]io.WriterTo{
		"32-bit":               roaring.BitmapOf(7, 150, 4294967295),
		"32-bit with runs":     roaring.Or(runs, roaring.BitmapOf(7)),
		"64-bit":               roaring64.BitmapOf(7, 150, 1<<40),
		"64-bit of one part":   roaring64.BitmapOf(7, 150),
		"32-bit runs, encoded": runs,
	} {
		t.Run(name, func(t *testing.T) {
			c := testCampaigns()[0]
			c.Segment = writeBitmap(t, bitmap)
			f := openFixture(t, func(o *Options) { o.Snapshot = compileCampaigns(t, c) })
			f.claim(Request{Campaign: "spring", User: "150"})
			for _, user := range []string{"8", "0150", "+150", "150 ", "1_50", "alice", "-1", "18446744073709551616", "0x96"} {
				f.refused(Request{Campaign: "spring", User: user}, gift.NotEligible)
			}
		})
	}
	wide := roaring64.BitmapOf(1<<40, 1<<40+9)
	s, err := loadSegment(writeBitmap(t, wide))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "1<<40", s.Contains(1<<40), true)
	want(t, "0", s.Contains(0), false)
	narrow, err := loadSegment(writeBitmap(t, roaring.BitmapOf(0)))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "1<<32 is not 0", narrow.Contains(1<<32), false)
}

func TestSegmentThatIsNoBitmap(t *testing.T) {
	dir := t.TempDir()
	good := roaring.New()
	good.AddRange(0, 200000)
	whole, err := good.ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty":    nil,
		"text":     []byte("user\n1\n2\n3\n4\n5\n6\n"),
		"cut":      whole[:len(whole)-1],
		"and more": append(append([]byte{}, whole...), 0),
		"huge":     {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3, 4},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c := testCampaigns()[0]
		c.Segment = path
		if _, err := NewSnapshot([]*gift.Campaign{c}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	c := testCampaigns()[0]
	c.Segment = filepath.Join(dir, "missing")
	if _, err := NewSnapshot([]*gift.Campaign{c}); err == nil {
		t.Error("a missing file: no error")
	}
	if _, err := NewSnapshot([]*gift.Campaign{testCampaigns()[0], testCampaigns()[0]}); err == nil {
		t.Error("a campaign twice: no error")
	}
}

func FuzzSegment(f *testing.F) {
	narrow, _ := roaring.BitmapOf(1, 2, 70000).ToBytes()
	wide, _ := roaring64.BitmapOf(1, 1<<40).ToBytes()
	f.Add(narrow)
	f.Add(wide)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSegment(b); err == nil {
			s.Contains(1)
			s.Contains(1 << 40)
		}
	})
}
