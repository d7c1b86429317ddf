package delivery

import (
	"encoding/json"
	"strings"
	"testing"

	"manna/gift"
)

func TestDefaultBody(t *testing.T) {
	claim, order := testClaim(1)
	rest := `"campaign":"spring","scene":"rain","user":"user-1","gift":"vip-pack","item":"vip","sku":"V30","quantity":1,"amount":500,"currency":"CNY","target":{"wallet":{"id":"w-1"}},"claimed_at":"2027-02-05T12:00:00Z"}`
	got, err := encodeBody(nil, newGrantBody(claim, order))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"order_id":"` + order.ID.String() + `","claim_id":"` + claim.ID.String() + `",` + rest
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	claim.Stage, claim.Platform, claim.Target = "final", "ios", nil
	got, err = encodeBody(nil, newGrantBody(claim, order))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"stage":"final"`, `"platform":"ios"`, `"target":{}`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func TestBodyTemplate(t *testing.T) {
	claim, order := testClaim(1)
	claim.User = `o"brien\` + "\n"
	body, err := parseBody(`{"external_id":"{{.order_id}}","to":{{json .user}},"wallet":{{json (field .target "wallet.id")}},"all":{{json .target}},
		"note":{{json (printf "gift %s" .gift)}},"n":{{.quantity}}{{if gt .amount 0}},"cents":{{.amount}}{{end}}}`)
	if err != nil {
		t.Fatal(err)
	}
	text, err := encodeBody(body, newGrantBody(claim, order))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for name, want := range map[string]any{
		"external_id": order.ID.String(), "to": claim.User, "wallet": "w-1", "note": "gift vip-pack", "n": 1.0, "cents": 500.0,
	} {
		if got[name] != want {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}

	claim.Target = json.RawMessage(`{}`)
	if out, err := encodeBody(body, newGrantBody(claim, order)); err == nil {
		t.Errorf("a target without the field made %s", out)
	}
}

func TestBodyTemplateRefused(t *testing.T) {
	for name, text := range map[string]string{
		"syntax":             `{"a":{{.user}`,
		"unknown field":      `{"a":{{json .usr}}}`,
		"unknown function":   `{"a":{{env "HOME"}}}`,
		"no JSON":            `a={{.order_id}}`,
		"user can break out": `{"to":"{{.user}}"}`,
		"sku can break out":  `{"to":"x-{{.sku}}"}`,
		"target field bare":  `{"to":"{{field .target "phone"}}"}`,
		"endless":            `{"a":"{{range $i := printf "%1000000d" 1}}{{end}}{{printf "%300000d" 1}}"}`,
	} {
		if _, err := parseBody(text); err == nil {
			t.Errorf("%s: %s was taken", name, text)
		}
	}
}

func TestHeaderTemplate(t *testing.T) {
	claim, order := testClaim(1)
	fields := newGrantBody(claim, order).fields()
	for _, c := range []struct {
		value, want string
		idOnly      bool
	}{
		{"Bearer abc", "Bearer abc", true},
		{"{{.order_id}}", order.ID.String(), true},
		{"u={{.user}}", "u=user-1", false},
	} {
		line, err := parseHeader("X-Test", c.value)
		if err != nil {
			t.Fatal(err)
		}
		got, err := line.text(fields)
		if err != nil || got != c.want || line.idOnly != c.idOnly {
			t.Errorf("%q: got %q, id only %v, %v; want %q, %v", c.value, got, line.idOnly, err, c.want, c.idOnly)
		}
		if !line.idOnly {
			continue
		}
		if _, err := line.text(idFields(gift.OrderID{})); err != nil {
			t.Errorf("%q for a query: %v", c.value, err)
		}
	}
	line, err := parseHeader("X-Test", "{{.user}}")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := line.text(map[string]any{"user": "a\r\nEvil: 1"}); err == nil {
		t.Errorf("a line break became %q", got)
	}
}
