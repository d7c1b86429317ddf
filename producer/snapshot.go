package producer

import (
	"fmt"
	"strconv"

	"manna/gift"
)

// Snapshot is a compiled configuration of campaigns. It is immutable and safe for
// concurrent use. A reload makes a new one; a claim that is under way keeps the
// one it began with.
type Snapshot struct {
	byName map[string]*campaign
	all    []*campaign // in the order of the configuration
}

// campaign is a campaign with everything that a claim looks up.
type campaign struct {
	*gift.Campaign
	scenes    map[string]*gift.Scene
	gifts     map[string]*gift.Gift
	onlyScene *gift.Scene // nil where there are several
	onlyGift  *gift.Gift  // nil where a user could choose
	platforms map[string]bool
	segment   segment // nil: everyone may claim
}

// NewSnapshot compiles campaigns and loads the bitmaps of their segments. It
// fails where a segment's file cannot be read or is no bitmap.
func NewSnapshot(campaigns []*gift.Campaign) (*Snapshot, error) {
	s := &Snapshot{byName: make(map[string]*campaign, len(campaigns))}
	segments := make(map[string]segment) // campaigns often share one
	for _, c := range campaigns {
		if _, twice := s.byName[c.Name]; twice {
			return nil, fmt.Errorf("campaign %s: is there twice", c.Name)
		}
		compiled := compile(c)
		if c.Segment != "" {
			if segments[c.Segment] == nil {
				loaded, err := loadSegment(c.Segment)
				if err != nil {
					return nil, fmt.Errorf("campaign %s: eligibility segment: %w", c.Name, err)
				}
				segments[c.Segment] = loaded
			}
			compiled.segment = segments[c.Segment]
		}
		s.byName[c.Name] = compiled
		s.all = append(s.all, compiled)
	}
	return s, nil
}

func compile(from *gift.Campaign) *campaign {
	own := *from
	own.ID = gift.NewCampaignID(from.Name)
	c := &campaign{
		Campaign:  &own,
		scenes:    make(map[string]*gift.Scene, len(own.Scenes)),
		gifts:     make(map[string]*gift.Gift, len(own.Gifts)),
		platforms: make(map[string]bool),
	}
	if len(own.Scenes) == 0 {
		own.Scenes = []gift.Scene{{}}
	}
	for i := range own.Scenes {
		scene := own.Scenes[i]
		if len(scene.Stages) == 0 {
			scene.Stages = []string{""}
		}
		c.scenes[scene.Name] = &scene
		c.onlyScene = &scene
	}
	if len(own.Scenes) > 1 {
		c.onlyScene = nil
	}
	substitute := make(map[string]bool)
	for _, g := range own.Gifts {
		substitute[g.Instead] = true
		c.gifts[g.Name] = g
		for _, item := range g.Items {
			for _, p := range item.Platforms {
				c.platforms[p] = true
			}
		}
	}
	// A gift that only stands in for another is none that a user would choose.
	choices := 0
	for _, g := range own.Gifts {
		if len(own.Gifts) == 1 || !substitute[g.Name] {
			c.onlyGift = g
			choices++
		}
	}
	if choices != 1 {
		c.onlyGift = nil
	}
	return c
}

// eligible reports whether user may claim in the campaign.
func (c *campaign) eligible(user string) bool {
	if c.segment == nil {
		return true
	}
	n, err := strconv.ParseUint(user, 10, 64)
	// ParseUint takes leading zeros; a user has one spelling.
	return err == nil && (len(user) == 1 || user[0] != '0') && c.segment.Contains(n)
}
