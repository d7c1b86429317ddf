package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"manna/fallbacklog"
	"manna/internal/config"
	"manna/internal/disk"
)

// A gift with little stock is given to the last piece and not beyond, over a
// SIGKILL in the middle; sealed segments are in the archive afterwards.
func TestStockIsGivenToTheLastAndNotBeyond(t *testing.T) {
	const stock, users = 60, 100
	s := newServer(t, goodPartner, fmt.Sprintf("        stock: %d\n", stock)+"archive: {url: \"file://ARCHIVE\"}\n")
	archive := filepath.Join(s.dir, "archive")
	s.rewrite("ARCHIVE", archive)
	s.start()
	soldOut := 0
	for i := range users {
		if i == users/3 {
			s.kill()
			s.start()
		}
		if err := s.claim(fmt.Sprint("u", i)); err != nil {
			if !strings.Contains(err.Error(), "sold_out") {
				t.Fatal(err)
			}
			soldOut++
		}
	}
	if soldOut != users-stock {
		t.Errorf("%d users were told sold_out, want %d", soldOut, users-stock)
	}
	s.settle()
	s.terminate()
	c, err := config.Load(s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.campaigns, s.soldOut = c.Campaigns, map[string]bool{"k/g": true}
	s.check()
	// The segment that the kill left behind was sealed by the start after it and
	// archived by the time of the end.
	sound, err := fallbacklog.Verify(disk.OS{}, filepath.Join(archive, "a"), fallbacklog.Reached{}, func(v fallbacklog.Verdict) error {
		if v.Records == 0 {
			t.Errorf("archived segment %d has no records", v.Number)
		}
		return nil
	})
	if err != nil || !sound {
		t.Errorf("the archive is not sound: %v", err)
	}
	if infos, err := fallbacklog.Segments(disk.OS{}, filepath.Join(archive, "a")); err != nil || len(infos) == 0 {
		t.Errorf("the archive holds %d segments: %v", len(infos), err)
	}
}
