package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"manna/gift"
)

const (
	defaultPromise = 48 * time.Hour
	maxCampaigns   = 1000
	maxStock       = 1_000_000_000_000
	maxQuantity    = 1_000_000
	maxAmount      = 1_000_000_000_000_000
	maxSKU         = 256 // bytes
)

// readCampaigns reads
//
//	campaigns:
//	  NAME:
//	    opens, closes: times with their zone (required)
//	    scenes: [NAME, {name: NAME, stages: [NAME]}]; default one without a name
//	    stages: [NAME] of every scene without its own; default one without a name
//	    claims_per_user: stages of a scene that one user may claim; default all
//	    promise: time from a claim to the end of its orders; default 48h
//	    eligibility: {segment: FILE of the bitmap of users who may}; default all
//	    gifts: (required)
//	      NAME:
//	        stock: how many; left out: unlimited
//	        low_stock: {under: 10% or a number left, give: another gift}
//	        items: (required)
//	          - {item: NAME, partner: NAME, sku, quantity: 1, amount, currency, platforms: [NAME]}
//
// amount is in the smallest unit of currency; an item with platforms goes to
// claims of these platforms only.
func (c *Config) readCampaigns(o *object) {
	v, ok := o.need("campaigns", "write campaigns: and below it what is given when; `manna init` shows how")
	if !ok {
		return
	}
	list, ok := v.object("write a name: for each campaign, and its keys below")
	if !ok {
		return
	}
	if len(list.fields) == 0 {
		v.fail("write a name: for each campaign, and its keys below", "has no campaign")
	}
	if len(list.fields) > maxCampaigns {
		v.fail(fmt.Sprintf("at most %d are possible; take out what is long over", maxCampaigns), "has %d campaigns", len(list.fields))
		return
	}
	r := campaignReader{config: c, used: map[string]bool{}}
	list.named(func(name string, v value) {
		k := &gift.Campaign{Name: name, ID: gift.NewCampaignID(name)}
		c.Campaigns = append(c.Campaigns, k)
		if o, ok := v.object("write the campaign's keys: opens, closes, gifts"); ok {
			r.campaign(o, k)
			o.done()
		}
	})
	for _, p := range c.Partners {
		if !r.used[p.Name] {
			key := "partners." + p.Name
			c.doc.warn(c.doc.places[key], key, "no item of a campaign is delivered by this partner", "take the partner out, or name it in an item")
		}
	}
}

type campaignReader struct {
	config *Config
	used   map[string]bool // partners with an item
}

func (r *campaignReader) campaign(o *object, k *gift.Campaign) {
	opens, closes := false, false
	if v, ok := o.need("opens", "write opens: and a time with its zone, like 2027-02-05T20:00:00+08:00"); ok {
		opens = v.time(&k.Opens)
	}
	if v, ok := o.need("closes", "write closes: and a time with its zone, like 2027-02-05T20:30:00+08:00"); ok {
		closes = v.time(&k.Closes)
	}
	if opens && closes && !k.Closes.After(k.Opens) {
		o.place("closes").fail("write a time after opens, which is "+k.Opens.Format(time.RFC3339), "is not after opens")
	}
	readScenes(o, k)
	k.Promise = defaultPromise
	o.duration("promise", &k.Promise, time.Second, 366*24*time.Hour)
	o.sub("eligibility", func(o *object) {
		if v, ok := o.need("segment", "write segment: and the file of the bitmap of users who may claim"); ok {
			v.existing(&k.Segment)
		}
	})
	v, ok := o.need("gifts", "write gifts: and a name: with items: for each")
	if !ok {
		return
	}
	list, ok := v.object("write a name: with items: for each gift")
	if !ok {
		return
	}
	if len(list.fields) == 0 {
		v.fail("write a name: with items: for each gift", "has no gift")
	}
	list.named(func(name string, v value) {
		g := &gift.Gift{Name: name}
		k.Gifts = append(k.Gifts, g)
		if o, ok := v.object("write stock: and items:"); ok {
			r.gift(o, k, g)
			o.done()
		}
	})
	checkInstead(list, k)
	warnPlatforms(list, k)
}

func readScenes(o *object, k *gift.Campaign) {
	stages := []string{""}
	o.names("stages", gift.MaxStages, &stages)
	k.Scenes = []gift.Scene{{Stages: stages}}
	if v, ok := o.get("scenes"); ok {
		if scenes, ok := v.scenes(stages); ok {
			k.Scenes = scenes
		}
	}
	most := 0
	for _, s := range k.Scenes {
		most = max(most, len(s.Stages))
	}
	k.ClaimsPerUser = most
	if o.count("claims_per_user", &k.ClaimsPerUser, 1, gift.MaxStages) && k.ClaimsPerUser > most {
		o.place("claims_per_user").warn(fmt.Sprintf("write %d, or name more stages", most),
			"no scene has more than %d to claim", most)
	}
}

func (v value) scenes(stages []string) ([]gift.Scene, bool) {
	const want = "write names in brackets: [rain-2000, rain-2100]"
	values, ok := v.list(want)
	switch {
	case !ok:
		return nil, false
	case len(values) == 0:
		v.fail("write at least one scene, or take the line out", "is an empty list")
		return nil, false
	case len(values) > gift.MaxScenes:
		v.fail(fmt.Sprintf("at most %d are possible", gift.MaxScenes), "has %d scenes", len(values))
		return nil, false
	}
	names := map[string]bool{}
	var scenes []gift.Scene
	for _, e := range values {
		s := gift.Scene{Stages: stages}
		at := e
		if e.kind() == "a mapping" {
			o, ok := e.object("write {name: …, stages: […]}")
			if !ok {
				continue
			}
			if n, ok := o.need("name", "write name: and the scene's name"); ok {
				n.name(&s.Name)
			}
			o.names("stages", gift.MaxStages, &s.Stages)
			o.done()
			at = o.place("name")
		} else if !e.name(&s.Name) {
			continue
		}
		if names[s.Name] {
			at.fail("give each scene a name of its own", "the scene %s is there twice", s.Name)
			continue
		}
		names[s.Name] = true
		scenes = append(scenes, s)
	}
	return scenes, len(scenes) > 0
}

func (r *campaignReader) gift(o *object, k *gift.Campaign, g *gift.Gift) {
	known := o.number("stock", &g.Stock, 1, maxStock) || !o.has("stock")
	if !o.has("stock") {
		o.warn("write stock: and how many there are", "has no stock: as many are given as are claimed, and nobody can say when they are delivered")
	}
	o.sub("low_stock", func(o *object) {
		if v, ok := o.need("under", "write under: 10%, or under: and the number that is left"); ok && known {
			v.lowUnder(g)
		}
		if v, ok := o.need("give", "write give: and the gift that is given instead"); ok {
			v.name(&g.Instead)
		}
	})
	v, ok := o.need("items", "write items: and below it - {item: NAME, partner: NAME, sku: …}")
	if !ok {
		return
	}
	values, ok := v.list("write a list: - {item: NAME, partner: NAME, sku: …}")
	if !ok {
		return
	}
	if len(values) == 0 {
		v.fail("write - {item: NAME, partner: NAME, sku: …}", "is an empty list")
	}
	if len(values) > gift.MaxItems {
		v.fail("make several gifts of it", "has %d items; a gift has at most %d", len(values), gift.MaxItems)
		return
	}
	for _, e := range values {
		if o, ok := e.object("write {item: NAME, partner: NAME, sku: …}"); ok {
			r.item(o, k, g)
			o.done()
		}
	}
}

// lowUnder reads "10%" of the stock or a number that is left.
func (v value) lowUnder(g *gift.Gift) {
	const want = "write a share of the stock above 0% and at most 100%, like 10%, or a number that is left"
	s, ok := v.plain(want)
	if !ok {
		return
	}
	if g.Stock == 0 {
		v.fail("give the gift a stock, or take low_stock out", "has no stock to be low of")
		return
	}
	if number, percent := strings.CutSuffix(s, "%"); percent {
		f, err := strconv.ParseFloat(number, 64)
		if err != nil || !(f > 0 && f <= 100) {
			v.fail(want, "%q is no share", clip(s))
			return
		}
		g.LowUnder = int64(math.Ceil(float64(g.Stock) * f / 100))
		return
	}
	n, err := parseNumber(s)
	if err != nil {
		v.fail(want, "%q is neither a share nor a number", clip(s))
		return
	}
	if n < 1 || n > g.Stock {
		v.fail(fmt.Sprintf("write a number from 1 to the stock, %d", g.Stock), "%s is out of range", clip(s))
		return
	}
	g.LowUnder = n
}

func (r *campaignReader) item(o *object, k *gift.Campaign, g *gift.Gift) {
	item := gift.Item{Quantity: 1}
	name, named := o.need("item", "write item: and a name that the item keeps: order ids are made from it")
	if named = named && name.name(&item.Name); named {
		if slices.ContainsFunc(g.Items, func(i gift.Item) bool { return i.Name == item.Name }) {
			name.fail(ownName, "the item %s is there twice", item.Name)
		}
	}
	if v, ok := o.need("partner", "write partner: and a name from partners"); ok && v.name(&item.Partner) {
		r.partner(v, item.Partner, k)
	}
	if v, ok := o.get("sku"); ok {
		v.sku(&item.SKU)
	}
	o.number("quantity", &item.Quantity, 1, maxQuantity)
	amount := o.number("amount", &item.Amount, 1, maxAmount)
	if v, ok := o.get("currency"); ok {
		v.name(&item.Currency)
	}
	if amount && !o.has("currency") {
		o.place("amount").fail("write currency: too, like CNY; the amount is in its smallest unit", "says nothing without a currency")
	}
	o.names("platforms", gift.MaxItems, &item.Platforms)
	if named && r.config.Clustered() {
		name.alike(k, &item)
	}
	g.Items = append(g.Items, item)
}

func (r *campaignReader) partner(v value, name string, k *gift.Campaign) {
	r.used[name] = true
	if p, ok := r.config.Partner(name); ok {
		if total := p.RetryTotal(); total > k.Promise {
			v.warn("shorten the partner's retry, or promise more than "+Short(total),
				"tries for %s in all, longer than the promise of %s", Short(total), Short(k.Promise))
		}
		return
	}
	names := r.config.partnerNames()
	remedy := "there are " + strings.Join(names, ", ")
	switch meant := nearest(name, names); {
	case meant != "":
		remedy = "did you mean " + meant + "?"
	case len(names) == 0:
		remedy = "write it into partners"
	}
	v.fail(remedy, "there is no partner %s", name)
}

func (c *Config) partnerNames() []string {
	names := make([]string, len(c.Partners))
	for i, p := range c.Partners {
		names[i] = p.Name
	}
	return names
}

func (v value) sku(into *string) {
	s, ok := v.plain("write the partner's number for the item")
	if !ok {
		return
	}
	if s == "" || len(s) > maxSKU || strings.ContainsFunc(s, unicode.IsControl) {
		v.fail(fmt.Sprintf("write 1 to %d characters without line breaks", maxSKU), "%q is no sku", clip(s))
		return
	}
	*into = s
}

// checkInstead makes sure that each gift given instead of another exists, and
// that no chain of them comes back to where it began.
func checkInstead(list *object, k *gift.Campaign) {
	names := make([]string, len(k.Gifts))
	for i, g := range k.Gifts {
		names[i] = g.Name
	}
	reported := map[string]bool{}
	for _, g := range k.Gifts {
		if g.Instead == "" {
			continue
		}
		give := list.place(g.Name)
		give.key += ".low_stock.give"
		if at, ok := list.doc.places[give.key]; ok {
			give.at = at
		}
		if _, ok := k.Gift(g.Instead); !ok {
			remedy := "there are " + strings.Join(names, ", ")
			if meant := nearest(g.Instead, names); meant != "" {
				remedy = "did you mean " + meant + "?"
			}
			give.fail(remedy, "this campaign has no gift %s", g.Instead)
			continue
		}
		chain := []string{g.Name}
		for next := g.Instead; next != "" && !reported[next]; {
			if next == g.Name {
				give.fail("end the chain with a gift that has no low_stock", "comes back to where it began: %s", strings.Join(append(chain, next), " → "))
				for _, n := range chain {
					reported[n] = true
				}
				break
			}
			if slices.Contains(chain, next) {
				break // a circle further on: its own gifts report it
			}
			chain = append(chain, next)
			following, ok := k.Gift(next)
			if !ok {
				break
			}
			next = following.Instead
		}
	}
}

// warnPlatforms finds gifts that have nothing for a platform which other items of
// the campaign are made for.
func warnPlatforms(list *object, k *gift.Campaign) {
	var platforms []string
	for _, g := range k.Gifts {
		for i := range g.Items {
			for _, p := range g.Items[i].Platforms {
				if !slices.Contains(platforms, p) {
					platforms = append(platforms, p)
				}
			}
		}
	}
	for _, g := range k.Gifts {
		var missing []string
		for _, p := range platforms {
			if !slices.ContainsFunc(g.Items, func(i gift.Item) bool { return i.Fits(p) }) {
				missing = append(missing, p)
			}
		}
		if len(missing) > 0 && len(g.Items) > 0 {
			list.place(g.Name).warn("add an item for it, or one without platforms",
				"has nothing for %s, which other gifts of this campaign know", strings.Join(missing, ", "))
		}
	}
}
