package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"manna/gift"
)

// maxBody bounds a rendered request body, in bytes.
const maxBody = 256 << 10

// grantBody is the body of a grant where no template is configured.
type grantBody struct {
	OrderID   gift.OrderID    `json:"order_id"`
	ClaimID   gift.ClaimID    `json:"claim_id"`
	Campaign  string          `json:"campaign"`
	Scene     string          `json:"scene"`
	Stage     string          `json:"stage,omitempty"`
	User      string          `json:"user"`
	Platform  string          `json:"platform,omitempty"`
	Gift      string          `json:"gift"`
	Item      string          `json:"item"`
	SKU       string          `json:"sku"`
	Quantity  int64           `json:"quantity"`
	Amount    int64           `json:"amount"`
	Currency  string          `json:"currency"`
	Target    json.RawMessage `json:"target"`
	ClaimedAt time.Time       `json:"claimed_at"`
}

func newGrantBody(c *gift.Claim, o gift.Order) grantBody {
	target := c.Target
	if len(target) == 0 {
		target = json.RawMessage("{}")
	}
	return grantBody{
		OrderID: o.ID, ClaimID: c.ID, Campaign: c.Campaign, Scene: c.Scene, Stage: c.Stage,
		User: c.User, Platform: c.Platform, Gift: c.Gift, Item: o.Item, SKU: o.SKU,
		Quantity: o.Quantity, Amount: o.Amount, Currency: o.Currency,
		Target: target, ClaimedAt: c.ClaimedAt,
	}
}

// fields are what templates see: the default body's names.
func (b grantBody) fields() map[string]any {
	return map[string]any{
		"order_id": b.OrderID.String(), "claim_id": b.ClaimID.String(),
		"campaign": b.Campaign, "scene": b.Scene, "stage": b.Stage,
		"user": b.User, "platform": b.Platform, "gift": b.Gift, "item": b.Item, "sku": b.SKU,
		"quantity": b.Quantity, "amount": b.Amount, "currency": b.Currency,
		"target": b.Target, "claimed_at": b.ClaimedAt.Format(time.RFC3339Nano),
	}
}

// functions are what templates may call.
var functions = template.FuncMap{
	// json writes any value as JSON: {{json .user}} is a quoted string.
	"json": func(v any) (string, error) {
		text, err := json.Marshal(v)
		return string(text), err
	},
	// field reads one value out of the target: {{json (field .target "wallet.id")}}.
	"field": func(target json.RawMessage, path string) (any, error) {
		value, ok := decode(target)
		if !ok {
			return nil, errors.New("the target is not JSON")
		}
		value, ok = lookUp(value, path)
		if !ok {
			return nil, fmt.Errorf("the target has no %q", path)
		}
		return value, nil
	},
}

// hostile is written in place of everything that a caller chooses when a
// template is checked: where it gets into the text as it is, the text is no
// JSON any more.
const hostile = "\"\\\n<"

func parseTemplate(name, text string) (*template.Template, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(functions).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

// sample renders t with the fields of a made-up order.
func sample(t *template.Template, fields map[string]any) (string, error) {
	t, err := t.Clone()
	if err != nil {
		return "", err
	}
	// Nobody knows yet what a target holds, so every field of it is there.
	t.Funcs(template.FuncMap{"field": func(json.RawMessage, string) (any, error) { return fields["user"], nil }})
	return render(t, fields)
}

func sampleFields(free string) map[string]any {
	var id [16]byte
	return grantBody{
		OrderID: id, ClaimID: id, Campaign: "c", Scene: "s", Stage: "t", Platform: "p", Gift: "g", Item: "i",
		User: free, SKU: free, Currency: free, Quantity: 1, Amount: 1,
		Target: json.RawMessage("{}"), ClaimedAt: time.Unix(0, 0).UTC(),
	}.fields()
}

func render(t *template.Template, fields map[string]any) (string, error) {
	out := bounded{room: maxBody}
	if err := t.Execute(&out, fields); err != nil {
		return "", err
	}
	return out.String(), nil
}

// parseBody reads a body template and makes sure that no user id can break out
// of it.
func parseBody(text string) (*template.Template, error) {
	t, err := parseTemplate("body", text)
	if err != nil {
		return nil, err
	}
	out, err := sample(t, sampleFields("x"))
	if err != nil {
		return nil, err
	}
	if !json.Valid([]byte(out)) {
		return nil, errors.New("body: the template does not make JSON")
	}
	out, err = sample(t, sampleFields(hostile))
	if err != nil {
		return nil, err
	}
	if !json.Valid([]byte(out)) {
		return nil, errors.New(`body: a quote in a value breaks the JSON: write {{json .user}} instead of "{{.user}}"`)
	}
	return t, nil
}

// encodeBody makes the body of a grant. Its errors mean that nothing was sent.
func encodeBody(t *template.Template, b grantBody) ([]byte, error) {
	if t == nil {
		return json.Marshal(b)
	}
	out, err := render(t, b.fields())
	if err != nil {
		return nil, err
	}
	if !json.Valid([]byte(out)) {
		return nil, errors.New("body: the template made no JSON of this order")
	}
	return []byte(out), nil
}

// headerLine is one configured header. A value without {{ is sent as it is.
type headerLine struct {
	name, value string
	template    *template.Template
	idOnly      bool // it needs nothing of an order but its id
}

func parseHeader(name, value string) (headerLine, error) {
	line := headerLine{name: name, value: value, idOnly: true}
	if !strings.Contains(value, "{{") {
		return line, checkHeaderValue(name, value)
	}
	t, err := parseTemplate("header "+name, value)
	if err != nil {
		return line, err
	}
	out, err := sample(t, sampleFields("x"))
	if err != nil {
		return line, err
	}
	line.template = t
	_, err = sample(t, idFields(gift.OrderID{}))
	line.idOnly = err == nil
	return line, checkHeaderValue(name, out)
}

func idFields(id gift.OrderID) map[string]any { return map[string]any{"order_id": id.String()} }

func (l headerLine) text(fields map[string]any) (string, error) {
	if l.template == nil {
		return l.value, nil
	}
	out, err := render(l.template, fields)
	if err != nil {
		return "", err
	}
	return out, checkHeaderValue(l.name, out)
}

func checkHeaderValue(name, value string) error {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("header %s: the value holds a control character", name)
		}
	}
	return nil
}

// bounded is a buffer that takes room bytes.
type bounded struct {
	bytes.Buffer
	room int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.room {
		return 0, fmt.Errorf("the rendered text is longer than %d bytes", b.room)
	}
	return b.Buffer.Write(p)
}
