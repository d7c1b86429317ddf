package config

import (
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// templateFields are what the templates of a partner may name.
var templateFields = []string{
	"order_id", "claim_id", "campaign", "scene", "stage", "user", "platform", "gift", "item", "sku",
	"quantity", "amount", "currency", "target", "claimed_at",
}

// templateFuncs are what they may call. Here they are only looked for.
var templateFuncs = template.FuncMap{
	"json":  func(any) string { return "" },
	"field": func(any, string) any { return nil },
}

// template reads a text/template. Its text is never shown: variables may have
// put a secret into it.
func (v value) template(into *Secret) bool {
	var s string
	if !v.text(&s) {
		return false
	}
	_, variables := v.doc.written[v.key]
	t, err := template.New("line").Funcs(templateFuncs).Parse(s)
	if err != nil {
		message := "is no template"
		if !variables && !strings.Contains(v.key, ".headers.") {
			message += ": " + strings.TrimPrefix(err.Error(), "template: ")
		}
		v.fail(`write {{json .user}} for a value of the order, {{json (field .target "wallet")}} for one of its target`, "%s", message)
		return false
	}
	ok := true
	if t.Tree != nil {
		eachField(t.Root, func(name string) {
			if slices.Contains(templateFields, name) {
				return
			}
			ok = false
			remedy := "there are " + strings.Join(templateFields, ", ")
			if meant := nearest(name, templateFields); meant != "" {
				remedy = "did you mean ." + meant + "?"
			}
			if variables {
				name = "…"
			}
			v.fail(remedy, "the template names .%s, which no order has", clip(name))
		})
	}
	*into = Secret(s)
	return ok
}

// eachField gives the first name of every field of the dot. It looks into no
// {{with}} and {{range}}: the dot is something else there.
func eachField(n parse.Node, use func(string)) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, c := range n.Nodes {
			eachField(c, use)
		}
	case *parse.ActionNode:
		eachField(n.Pipe, use)
	case *parse.PipeNode:
		if n == nil {
			return
		}
		for _, c := range n.Cmds {
			for _, a := range c.Args {
				eachField(a, use)
			}
		}
	case *parse.FieldNode:
		use(n.Ident[0])
	case *parse.IfNode:
		eachField(n.Pipe, use)
		eachField(n.List, use)
		eachField(n.ElseList, use)
	case *parse.WithNode:
		eachField(n.Pipe, use)
	case *parse.RangeNode:
		eachField(n.Pipe, use)
	}
}
