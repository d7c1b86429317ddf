package rocketmq

import (
	"strings"
	"testing"

	"manna/gift"
)

func TestNamesOfTopics(t *testing.T) {
	got, err := topicsOf("manna", "iris.eu-1")
	if err != nil {
		t.Fatal(err)
	}
	want := topics{
		of:    [kinds]string{"manna-first-iris%eu-1", "manna-soon-iris%eu-1", "manna-later-iris%eu-1"},
		aside: "manna-aside-iris%eu-1", group: "manna-lane-iris%eu-1",
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := topicsOf("manna", strings.Repeat("p", maxTopic)); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("a name that is too long: %v", err)
	}
}

// TestPartnersDoNotShareATopic: whatever a partner may be called, and the group,
// the topics are its own and the broker takes their names.
func TestPartnersDoNotShareATopic(t *testing.T) {
	seen := map[string]string{}
	for _, group := range []string{"manna", "manna_b", "m"} {
		for _, partner := range []string{"midas", "midas.eu", "midas-eu", "midas_eu", "first-midas", "marks", "aside", "midas.e.u"} {
			if err := gift.CheckName(partner); err != nil {
				t.Fatal(err)
			}
			got, err := topicsOf(group, partner)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range append(got.of[:], got.aside, got.group, marksOf(group)) {
				if other, taken := seen[name]; taken && other != group+"/"+partner && name != marksOf(group) {
					t.Errorf("%s belongs to %s and to %s/%s", name, other, group, partner)
				}
				if i := strings.IndexFunc(name, func(r rune) bool {
					return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-%|", r)
				}); i >= 0 {
					t.Errorf("the broker takes no %q: %s", name[i], name)
				}
				seen[name] = group + "/" + partner
			}
		}
	}
}

func TestGroupsThatAreRefused(t *testing.T) {
	for _, group := range []string{"", "a-b", "a.b", "Ä", strings.Repeat("g", maxGroup+1)} {
		if err := checkGroup(group); err == nil || !strings.Contains(err.Error(), "letters") {
			t.Errorf("group %q: %v, want an error that says what to use", group, err)
		}
	}
}
