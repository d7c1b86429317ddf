package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"manna/gift"
)

// campaign makes one that opens at hour, is open for some hours, and gives stock
// gifts of one item from partner p.
func campaign(name string, hour, open int, stock int64, promise time.Duration) *gift.Campaign {
	opens := time.Date(2027, 2, 5, 0, 0, 0, 0, time.UTC).Add(time.Duration(hour) * time.Hour)
	return &gift.Campaign{
		Name: name, Opens: opens, Closes: opens.Add(time.Duration(open) * time.Hour), Promise: promise,
		Gifts: []*gift.Gift{{Name: "g", Stock: stock, Items: []gift.Item{{Name: "i", Partner: "p"}}}},
	}
}

func TestForecasts(t *testing.T) {
	const perHour = 3600 // at 1/s
	for _, c := range []struct {
		name      string
		campaigns []*gift.Campaign
		want      []string
	}{
		{"alone", []*gift.Campaign{campaign("a", 0, 1, 2*perHour, 3*time.Hour)}, []string{"a 7200 of 7200 takes 2h kept"}},
		{"too much", []*gift.Campaign{campaign("a", 0, 1, 4*perHour, 3*time.Hour)}, []string{"a 14400 of 14400 takes 4h BROKEN"}},
		{"exactly", []*gift.Campaign{campaign("a", 0, 1, 3*perHour, 3*time.Hour)}, []string{"a 10800 of 10800 takes 3h kept"}},
		{"both open", []*gift.Campaign{campaign("a", 0, 2, perHour, 3*time.Hour), campaign("b", 1, 2, 3*perHour, 4*time.Hour)},
			[]string{"a 3600 of 14400 takes 4h BROKEN with b", "b 10800 of 14400 takes 4h kept with a"}},
		{"the second waits for what the first left", []*gift.Campaign{campaign("a", 0, 1, 4*perHour, 9*time.Hour), campaign("b", 3, 1, perHour, 9*time.Hour)},
			[]string{"a 14400 of 14400 takes 4h kept", "b 3600 of 10800 takes 3h kept with a"}},
		{"the first is worked off", []*gift.Campaign{campaign("a", 0, 1, 2*perHour, 9*time.Hour), campaign("b", 3, 1, perHour, 9*time.Hour)},
			[]string{"a 7200 of 7200 takes 2h kept", "b 3600 of 3600 takes 1h kept"}},
		{"written in another order", []*gift.Campaign{campaign("b", 3, 1, perHour, 9*time.Hour), campaign("a", 0, 1, 4*perHour, 9*time.Hour)},
			[]string{"b 3600 of 10800 takes 3h kept with a", "a 14400 of 14400 takes 4h kept"}},
		{"one closes as the other opens", []*gift.Campaign{campaign("a", 0, 1, perHour, 9*time.Hour), campaign("b", 1, 1, perHour, 9*time.Hour)},
			[]string{"a 3600 of 3600 takes 1h kept", "b 3600 of 7200 takes 2h kept with a"}},
		{"unlimited", []*gift.Campaign{campaign("a", 0, 1, 0, time.Hour), campaign("b", 5, 1, 1, time.Hour)},
			[]string{"a 0 of 0 takes 0s unbounded", "b 1 of 1 takes 1s unbounded with a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := &Config{Partners: []*Partner{{Name: "p", Rate: 1}, {Name: "idle", Rate: 1}}, Campaigns: c.campaigns}
			var got []string
			for _, f := range config.Forecasts() {
				s := fmt.Sprintf("%s %d of %d takes %s", f.Campaign, f.Orders, f.Waiting, Short(f.Takes))
				switch {
				case f.Unbounded:
					s += " unbounded"
				case f.Kept():
					s += " kept"
				default:
					s += " BROKEN"
				}
				if len(f.With) > 0 {
					s += " with " + strings.Join(f.With, " ")
				}
				got = append(got, s)
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// A claim of a pack makes an order for each item that fits its platform: variants
// of one item do not add up.
func TestOrdersOf(t *testing.T) {
	on := func(partner string, platforms ...string) gift.Item {
		return gift.Item{Name: "i", Partner: partner, Platforms: platforms}
	}
	for _, c := range []struct {
		items []gift.Item
		want  int64
	}{
		{[]gift.Item{on("p"), on("p"), on("q")}, 2},
		{[]gift.Item{on("p", "ios"), on("p", "android")}, 1},
		{[]gift.Item{on("p", "ios"), on("p", "android"), on("p")}, 2},
		{[]gift.Item{on("q")}, 0},
	} {
		if got := ordersOf(&gift.Gift{Items: c.items}, "p"); got != c.want {
			t.Errorf("%v: got %d, want %d", c.items, got, c.want)
		}
	}
}

func TestDiff(t *testing.T) {
	old := mustParse(t, "data: ./a\n"+minimal)
	if got := Diff(old, mustParse(t, "data: ./a\n"+minimal)); len(got.Restart)+len(got.Live) > 0 {
		t.Errorf("the same file: got %+v", got)
	}
	changed := strings.NewReplacer("3000/s", "2000/s", "  spring:", "  autumn:").Replace(minimal)
	got := Diff(old, mustParse(t, `data: ./b
listen: {public: ":9090"}
node: other
log: {linger: 1ms}
auth: {callers: {shop: {secret: "${TOKEN}"}}}
`+strings.Replace(changed, "partners:\n", "partners:\n  new: {url: 'http://x/', rate: 1/s}\n", 1)))
	want := Changes{
		Restart: []string{"data", "listen.public", "node", "log"},
		Live:    []string{"auth", "partners.midas", "partners.new", "campaigns.autumn", "campaigns.spring"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
