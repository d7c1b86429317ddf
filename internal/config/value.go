package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// value is one value of the file and where it stands.
type value struct {
	doc  *document
	key  string // from the top: "partners.midas.rate"
	at   place
	node ast.Node // never an alias, anchor, tag or null
}

func (v value) fail(remedy, format string, args ...any) {
	v.doc.fail(v.at, v.key, fmt.Sprintf(format, args...), remedy)
}

func (v value) warn(remedy, format string, args ...any) {
	v.doc.warn(v.at, v.key, fmt.Sprintf(format, args...), remedy)
}

// child makes the value of n under name; ok is false where n has none, which is
// reported.
func (v value) child(name string, n ast.Node, at place, remedy string) (value, bool) {
	c := value{doc: v.doc, key: v.key + name, at: at}
	problems := len(v.doc.problems)
	if n == nil {
		c.fail(remedy, "has no value")
		return c, false
	}
	c.node = v.doc.resolve(n, c.key)
	if c.node == nil {
		if len(v.doc.problems) == problems && v.doc.left > 0 {
			c.fail(remedy, "has no value")
		}
		return c, false
	}
	if !block(c.node) || strings.HasPrefix(name, "[") {
		c.at = placeOf(n)
	}
	v.doc.places[c.key] = c.at
	return c, true
}

// block reports whether n spreads over lines below its key: the key is the
// better place to point at then.
func block(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.MappingNode:
		return !n.IsFlowStyle
	case *ast.SequenceNode:
		return !n.IsFlowStyle
	case *ast.MappingValueNode:
		return true
	}
	return false
}

// kind names what the value is, for people.
func (v value) kind() string {
	switch v.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	}
	return "a single value"
}

// scalar gives the text of a single value as it was written; want says in the
// error what it should be.
func (v value) scalar(want string) (string, bool) {
	switch n := v.node.(type) {
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		v.fail(want, "is %s", v.kind())
		return "", false
	default:
		return n.GetToken().Value, true
	}
}

// plain is scalar for what is written out and may be repeated in errors.
func (v value) plain(want string) (string, bool) {
	s, ok := v.scalar(want)
	if ok && strings.Contains(s, "${") {
		v.fail("write it out: variables stand in texts only (addresses, paths, secrets, headers, bodies)", "takes no variable")
		return "", false
	}
	return s, ok
}

// list gives the values of a list.
func (v value) list(want string) ([]value, bool) {
	n, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.fail(want, "is %s where a list belongs", v.kind())
		return nil, false
	}
	var values []value
	for i, entry := range n.Values {
		if c, ok := v.child(fmt.Sprintf("[%d]", i), entry, v.at, want); ok {
			values = append(values, c)
		}
	}
	return values, true
}

// object is a mapping being read. Each getter makes its key known; done refuses
// the others.
type object struct {
	value
	fields []field
	known  []string
}

type field struct {
	name string
	at   place
	node ast.Node
}

// object reads a mapping. It is empty, and that is reported, where the value is
// something else.
func (v value) object(want string) (*object, bool) {
	o := &object{value: v}
	if _, ok := v.node.(*ast.MappingNode); !ok {
		if _, ok := v.node.(*ast.MappingValueNode); !ok {
			v.fail(want, "is %s where a mapping belongs", v.kind())
			return o, false
		}
	}
	o.add(v.node, nil)
	return o, true
}

// add takes the entries of n; merged are the mappings that n is merged into.
func (o *object) add(n ast.Node, merged []ast.Node) {
	var entries []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	}
	own := map[string]place{}
	var merges []*ast.MappingValueNode
	for _, e := range entries {
		if e.Key.IsMergeKey() {
			merges = append(merges, e)
			continue
		}
		at := placeOfToken(e.Key.GetToken())
		name, ok := keyText(e.Key)
		if !ok {
			o.doc.fail(at, o.key, "a key is a single word", "write name: value")
			continue
		}
		if first, twice := own[name]; twice {
			o.doc.fail(at, o.under(name), fmt.Sprintf("is written twice, first in line %d", first.line), "keep one of the two")
			continue
		}
		own[name] = at
		// A mapping's own keys win over merged ones.
		if !slices.ContainsFunc(o.fields, func(f field) bool { return f.name == name }) {
			o.fields = append(o.fields, field{name, at, e.Value})
		}
	}
	for _, e := range merges {
		o.merge(e, append(merged, n))
	}
}

func (o *object) merge(e *ast.MappingValueNode, merged []ast.Node) {
	at := placeOfToken(e.Key.GetToken())
	target := o.doc.resolve(e.Value, o.key)
	var sources []ast.Node
	switch t := target.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		sources = []ast.Node{t}
	case *ast.SequenceNode:
		for _, s := range t.Values {
			sources = append(sources, o.doc.resolve(s, o.key))
		}
	}
	for _, s := range sources {
		switch s.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
		default:
			s = nil
		}
		if s == nil || slices.Contains(merged, s) {
			sources = nil
			break
		}
		o.add(s, merged)
	}
	if sources == nil {
		o.doc.fail(at, o.key, "<< takes in no mapping here", "write <<: *name, where name is the anchor of another mapping")
	}
}

func keyText(k ast.MapKeyNode) (string, bool) {
	switch k := k.(type) {
	case *ast.MappingKeyNode:
		if s, ok := k.Value.(ast.ScalarNode); ok && s.GetToken() != nil {
			return s.GetToken().Value, true
		}
		return "", false
	case *ast.AliasNode, *ast.AnchorNode, *ast.TagNode:
		return "", false
	}
	if k.GetToken() == nil {
		return "", false
	}
	return k.GetToken().Value, true
}

func (o *object) under(name string) string {
	if o.key == "" {
		return clip(name)
	}
	return o.key + "." + clip(name)
}

// get gives the value of a key; ok is false where it is absent or has none.
func (o *object) get(name string) (value, bool) {
	o.known = append(o.known, name)
	for _, f := range o.fields {
		if f.name == name {
			return o.of(f)
		}
	}
	return value{doc: o.doc, key: o.under(name), at: o.at}, false
}

func (o *object) of(f field) (value, bool) {
	parent := o.value
	parent.key = ""
	return parent.child(o.under(f.name), f.node, f.at, "write "+clip(f.name)+": and a value, or take the line out")
}

// has reports whether the key is there, with or without a value.
func (o *object) has(name string) bool {
	return slices.ContainsFunc(o.fields, func(f field) bool { return f.name == name })
}

// need is get for a key without which nothing goes.
func (o *object) need(name, remedy string) (value, bool) {
	if !o.has(name) {
		o.known = append(o.known, name)
		o.doc.fail(o.at, o.key, "has no "+name, remedy)
		return value{doc: o.doc, key: o.under(name), at: o.at}, false
	}
	return o.get(name)
}

// place gives the value of a key for an error about it, or the object's own
// where the key is absent.
func (o *object) place(name string) value {
	for _, f := range o.fields {
		if f.name == name {
			v := value{doc: o.doc, key: o.under(name), at: f.at}
			if at, ok := o.doc.places[v.key]; ok {
				v.at = at
			}
			return v
		}
	}
	return value{doc: o.doc, key: o.under(name), at: o.at}
}

// each gives every entry of a mapping whose keys are the user's own: the key, to
// report errors about it, and the value.
func (o *object) each(use func(name string, key, v value)) {
	for _, f := range o.fields {
		o.known = append(o.known, f.name)
		if v, ok := o.of(f); ok {
			use(f.name, value{doc: o.doc, key: v.key, at: f.at}, v)
		}
	}
}

// named is each for keys that are names.
func (o *object) named(use func(name string, v value)) {
	o.each(func(name string, key, v value) {
		if key.checkName(name) {
			use(name, v)
		}
	})
}

// done refuses the keys that no getter asked for.
func (o *object) done() {
	for _, f := range o.fields {
		if slices.Contains(o.known, f.name) {
			continue
		}
		free := slices.DeleteFunc(slices.Clone(o.known), o.has)
		remedy := "take it out"
		if len(free) > 0 {
			remedy = "known here and not yet used: " + strings.Join(free, ", ")
		}
		if meant := nearest(f.name, o.known); meant != "" {
			remedy = "did you mean " + meant + "?"
		}
		o.doc.fail(f.at, o.under(f.name), "is no key of a configuration here", remedy)
	}
}
