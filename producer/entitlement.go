package producer

import (
	"time"

	"manna/gift"
)

// entitlement is a claim that may be made as far as no I/O can tell.
type entitlement struct {
	campaign *campaign
	scene    *gift.Scene
	stage    string
	gift     *gift.Gift // what was asked for
	user     string
	platform string
	target   []byte
	id       gift.ClaimID
}

// legible refuses a request with a text that people could not read as it is:
// texts are shown again, in answers, logs and the stories of orders. The target is
// not: it goes to the partner as it came.
func (r *Request) legible() error {
	if r.Campaign == "" {
		return fieldError("campaign", "is missing: name the campaign")
	}
	if err := gift.CheckUser(r.User); err != nil {
		return fieldError("user", "%v", err)
	}
	for _, f := range [...]struct{ name, text string }{
		{"campaign", r.Campaign}, {"scene", r.Scene}, {"stage", r.Stage}, {"gift", r.Gift}, {"platform", r.Platform},
	} {
		if err := gift.CheckText(f.text); err != nil {
			return fieldError(f.name, "%v", err)
		}
	}
	// The other names are looked up; this one a gift need not know.
	if r.Platform != "" {
		if err := gift.CheckName(r.Platform); err != nil {
			return fieldError("platform", "%v", err)
		}
	}
	return nil
}

// entitle checks a request against the snapshot. With an error that is the
// configuration's it returns the id that the claim has all the same: one that was
// recorded under an earlier configuration is still answered. Without an id, the
// error is the request's.
func (s *Snapshot) entitle(req *Request, now time.Time) (entitlement, error) {
	e := entitlement{user: req.User, platform: req.Platform, target: req.Target, stage: req.Stage}
	if err := req.legible(); err != nil {
		return e, err
	}
	c, ok := s.byName[req.Campaign]
	if !ok {
		e.id = gift.NewCampaignID(req.Campaign).ClaimID(req.Scene, req.User, req.Stage)
		return e, &gift.Error{Code: gift.CampaignUnknown, Field: "campaign", Detail: "there is no campaign " + quoted(req.Campaign)}
	}
	e.campaign = c
	err := e.place(req)
	scene := req.Scene
	if e.scene != nil {
		scene = e.scene.Name
	}
	e.id = c.ID.ClaimID(scene, e.user, e.stage)
	if err == nil {
		err = e.choose(req)
	}
	switch {
	case err != nil:
		return e, err
	case now.Before(c.Opens):
		return e, &gift.Error{Code: gift.CampaignNotOpen, Detail: "campaign " + c.Name + " opens at " + c.Opens.Format(time.RFC3339)}
	case !now.Before(c.Closes):
		return e, &gift.Error{Code: gift.CampaignClosed, Detail: "campaign " + c.Name + " closed at " + c.Closes.Format(time.RFC3339)}
	case !c.eligible(e.user):
		return e, &gift.Error{Code: gift.NotEligible, Field: "user", Detail: "this user is not among those who may claim in campaign " + c.Name}
	}
	return e, e.fit()
}

// place finds scene and stage; an absent one is the only one there is.
func (e *entitlement) place(req *Request) error {
	c := e.campaign
	if e.scene = c.onlyScene; req.Scene != "" {
		e.scene = c.scenes[req.Scene]
	}
	switch {
	case e.scene == nil && req.Scene == "":
		return fieldError("scene", "is missing: campaign %s has %d scenes", c.Name, len(c.scenes))
	case e.scene == nil:
		return fieldError("scene", "campaign %s has no scene %s", c.Name, quoted(req.Scene))
	case req.Stage == "" && len(e.scene.Stages) == 1:
		e.stage = e.scene.Stages[0]
	case req.Stage == "":
		return fieldError("stage", "is missing: %s has %d stages", e.stagesOf(), len(e.scene.Stages))
	case !hasStage(e.scene, req.Stage):
		return fieldError("stage", "%s has no stage %s", e.stagesOf(), quoted(req.Stage))
	}
	return nil
}

// stagesOf names what has the stages: the scene, or the campaign where that has
// none with a name.
func (e *entitlement) stagesOf() string {
	if e.scene.Name == "" {
		return "campaign " + e.campaign.Name
	}
	return "scene " + e.scene.Name
}

// choose finds the gift; an absent one is the only one that can be chosen.
func (e *entitlement) choose(req *Request) error {
	c := e.campaign
	if e.gift = c.onlyGift; req.Gift != "" {
		e.gift = c.gifts[req.Gift]
	}
	switch {
	case e.gift == nil && req.Gift == "":
		return fieldError("gift", "is missing: campaign %s has several gifts", c.Name)
	case e.gift == nil:
		return fieldError("gift", "campaign %s has no gift %s", c.Name, quoted(req.Gift))
	}
	return nil
}

func hasStage(s *gift.Scene, stage string) bool {
	for _, have := range s.Stages {
		if have == stage {
			return true
		}
	}
	return false
}

// fit checks that the gift has something for the platform.
func (e *entitlement) fit() error {
	bound := false
	for i := range e.gift.Items {
		bound = bound || len(e.gift.Items[i].Platforms) > 0
	}
	switch {
	case !bound:
		return nil
	case e.platform == "":
		return fieldError("platform", "is missing: gift %s differs by platform", e.gift.Name)
	case !e.campaign.platforms[e.platform]:
		return fieldError("platform", "campaign %s knows no platform %s", e.campaign.Name, quoted(e.platform))
	case !fits(e.gift, e.platform):
		return &gift.Error{Code: gift.NotEligible, Field: "platform", Detail: "gift " + e.gift.Name + " has nothing for platform " + e.platform}
	}
	return nil
}

// fits reports whether the gift has an item for the platform.
func fits(g *gift.Gift, platform string) bool {
	for i := range g.Items {
		if g.Items[i].Fits(platform) {
			return true
		}
	}
	return false
}

// siblings are the ids of the user's claims in all stages of the scene, in the
// scene's order; nil where the user may claim them all.
func (e *entitlement) siblings() []gift.ClaimID {
	limit := e.campaign.ClaimsPerUser
	if limit <= 0 || limit >= len(e.scene.Stages) {
		return nil
	}
	ids := make([]gift.ClaimID, len(e.scene.Stages))
	for i, stage := range e.scene.Stages {
		ids[i] = e.campaign.ID.ClaimID(e.scene.Name, e.user, stage)
	}
	return ids
}
