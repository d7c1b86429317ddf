package producer

import (
	"encoding/json"
	"strconv"

	"manna/gift"
)

// decodeRequest reads the body of POST /v1/claims. The strings of the request are
// parts of body. Its errors are *gift.Error.
func decodeRequest(body string) (Request, error) {
	p := parser{text: body}
	req, err := p.request()
	if err == nil {
		err = p.done()
	}
	return req, err
}

// decodeBatch reads the body of POST /v1/claims/batch: {"claims":[…]}. What is wrong with
// one claim is in refused, by its place in the list, where it has no request; nil where
// nothing is.
func decodeBatch(body string, most int) (reqs []Request, refused map[int]error, err error) {
	p := parser{text: body}
	if err := p.begin(); err != nil {
		return nil, nil, err
	}
	for first := true; ; first = false {
		key, more, err := p.member(first)
		switch {
		case err != nil:
			return nil, nil, err
		case !more && reqs == nil:
			return nil, nil, fieldError("claims", "is missing: write {\"claims\":[{…},{…}]} with 1 to %d claims", most)
		case !more:
			return reqs, refused, p.done()
		case key != "claims":
			return nil, nil, fieldError(clipped(key), "there is no such field; a batch has claims")
		case reqs != nil:
			return nil, nil, fieldError("claims", "is there twice")
		}
		if reqs, refused, err = p.requests(most); err != nil {
			return nil, nil, err
		}
	}
}

func (p *parser) requests(most int) (reqs []Request, refused map[int]error, err error) {
	if c := p.next(); c != '[' {
		return nil, nil, fieldError("claims", "is %s, want an array", kindOf(c))
	}
	p.at++
	reqs = []Request{}
	for {
		more, err := p.element(len(reqs) == 0)
		switch {
		case err != nil:
			return nil, nil, err
		case !more && len(reqs) == 0:
			return nil, nil, fieldError("claims", "is empty")
		case !more:
			return reqs, refused, nil
		case len(reqs) == most:
			return nil, nil, fieldError("claims", "has more than %d claims", most)
		}
		began := p.at
		req, wrong := p.request()
		if wrong != nil {
			if err := p.passClaim(began, wrong); err != nil {
				return nil, nil, inClaim(err, len(reqs))
			}
			if refused == nil {
				refused = make(map[int]error)
			}
			req, refused[len(reqs)] = Request{}, wrong
		}
		reqs = append(reqs, req)
	}
}

// passClaim goes past a claim that began there and has something wrong. Where that is that
// it is not JSON, nobody knows where it ends.
func (p *parser) passClaim(began int, wrong error) error {
	at := p.at
	p.at = began
	err := p.pass()
	if err != nil && p.at == at {
		return wrong // the same, and it may name the field
	}
	return err
}

// inClaim says in which claim of a batch an error is.
func inClaim(err error, i int) error {
	e, ok := err.(*gift.Error)
	if !ok {
		return err
	}
	in := *e
	in.Field = "claims[" + strconv.Itoa(i) + "]"
	if e.Field != "" {
		in.Field += "." + e.Field
	}
	return &in
}

// begin consumes the '{' of the document.
func (p *parser) begin() error {
	switch c := p.next(); c {
	case '{':
		p.at++
		return nil
	case 0:
		return gift.Errorf(gift.BadRequest, "the body is empty: send a JSON object")
	case '"', '[', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 't', 'f', 'n':
		return gift.Errorf(gift.BadRequest, "the body is %s, want a JSON object", kindOf(c))
	default:
		return p.fail("%s begins no object", p.here())
	}
}

// request reads one claim.
func (p *parser) request() (Request, error) {
	var req Request
	if err := p.begin(); err != nil {
		return req, err
	}
	for first, seen := true, uint(0); ; first = false {
		key, more, err := p.member(first)
		if err != nil || !more {
			return req, err
		}
		var into *string
		var bit uint
		switch key {
		case "campaign":
			into, bit = &req.Campaign, 0
		case "scene":
			into, bit = &req.Scene, 1
		case "stage":
			into, bit = &req.Stage, 2
		case "gift":
			into, bit = &req.Gift, 3
		case "user":
			into, bit = &req.User, 4
		case "platform":
			into, bit = &req.Platform, 5
		case "target":
			bit = 6
		default:
			return req, fieldError(clipped(key), "there is no such field; a claim has campaign, scene, stage, gift, user, platform and target")
		}
		if seen&(1<<bit) != 0 {
			return req, fieldError(key, "is there twice")
		}
		seen |= 1 << bit
		if into == nil {
			if req.Target, err = p.target(); err != nil {
				return req, err
			}
			continue
		}
		if c := p.next(); c != '"' {
			return req, fieldError(key, "is %s, want a string; leave it out where there is none", kindOf(c))
		}
		if *into, err = p.str(); err != nil {
			return req, inField(err, key)
		}
		if *into == "" {
			return req, fieldError(key, "is empty; leave it out where there is none")
		}
	}
}

// target reads the JSON object that says where the gift goes.
func (p *parser) target() (json.RawMessage, error) {
	if c := p.next(); c != '{' {
		return nil, fieldError("target", "is %s, want an object", kindOf(c))
	}
	raw, err := p.raw(gift.MaxTarget)
	if err == errTooLong {
		return nil, fieldError("target", "is longer than %d bytes", gift.MaxTarget)
	}
	if err != nil {
		return nil, inField(err, "target")
	}
	return json.RawMessage(raw), nil
}

// checkTarget checks a target that did not come through the decoder.
func checkTarget(target json.RawMessage) error {
	if len(target) == 0 {
		return nil
	}
	p := parser{text: string(target)}
	if _, err := p.target(); err != nil {
		return err
	}
	return inField(p.done(), "target")
}

// inField adds the field to an error of the parser.
func inField(err error, field string) error {
	if e, ok := err.(*gift.Error); ok && e.Field == "" {
		in := *e
		in.Field = field
		return &in
	}
	return err
}

// kindOf says in words what a value begins with.
func kindOf(c byte) string {
	switch {
	case c == 0:
		return "missing"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	}
	return "no JSON value"
}

// clipped shows an unknown key as the field at fault.
func clipped(key string) string {
	if len(key) <= gift.MaxName {
		return key
	}
	return key[:gift.MaxName] + "…"
}
