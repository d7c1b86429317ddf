package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on a file. The YAML parser takes time in the square of tokens and of
// depth: these keep the worst file under a few seconds.
const (
	maxFile   = 1 << 20 // bytes
	maxTokens = 100_000
	maxDepth  = 32      // of flows and of lists begun in one line
	maxNodes  = 200_000 // read, counting what aliases repeat
)

// place is where something stands in the file, from 1.
type place struct{ line, column, width int }

// document is a file being read: its text and all that was found wrong so far.
type document struct {
	file     string
	dir      string
	lines    []string // as they may be shown
	lookup   func(string) (string, bool)
	root     ast.Node
	anchors  map[string]ast.Node
	left     int               // nodes that may still be read
	written  map[string]string // texts with variables, as they are written, by key
	places   map[string]place
	seen     map[Problem]bool
	problems []Problem
	warnings []Problem
}

// open parses data. The document's root is nil where it found a problem.
func open(name string, data []byte, lookup func(string) (string, bool)) *document {
	d := &document{
		file: name, dir: filepath.Dir(name), lookup: lookup, left: maxNodes,
		anchors: map[string]ast.Node{}, written: map[string]string{}, places: map[string]place{}, seen: map[Problem]bool{},
	}
	if len(data) > maxFile {
		d.fail(place{}, "", "is larger than 1 MiB", "a configuration names campaigns and partners; lists of users belong into an eligibility segment")
		return d
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	d.lines = maskSecrets(strings.Split(text, "\n"))
	for i, line := range strings.Split(text, "\n") {
		if at := strings.IndexFunc(line, func(r rune) bool { return r == utf8.RuneError || r < ' ' && r != '\t' }); at >= 0 {
			d.fail(place{line: i + 1, column: utf8.RuneCountInString(line[:at]) + 1}, "",
				"holds a byte that is no text", "save the file as UTF-8 without control characters")
			return d
		}
	}
	tokens := lexer.Tokenize(text)
	if !d.bounded(tokens) {
		return d
	}
	file, err := parser.Parse(joinAddresses(tokens), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(err)
		return d
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, comment := doc.Body.(*ast.CommentGroupNode); comment {
			continue
		}
		if body != nil {
			d.fail(placeOf(doc.Body), "", "is a second document in one file", "take the line --- out: a file is one document")
			return d
		}
		body = doc.Body
	}
	if body == nil {
		d.fail(place{}, "", "is empty", "manna init writes a file to begin with")
		return d
	}
	d.findAnchors(body)
	d.root = body
	return d
}

// bounded refuses what would keep the parser busy.
func (d *document) bounded(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		d.fail(place{}, "", fmt.Sprintf("has more than %d words and signs", maxTokens), "split it: one file for each server")
		return false
	}
	flow, row, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, row = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			row++
		}
		if flow > maxDepth || row > maxDepth && flow == 0 {
			d.fail(placeOfToken(t), "", fmt.Sprintf("nests deeper than %d", maxDepth), "no part of a configuration is that deep: look for a stray bracket or dash")
			return false
		}
	}
	return true
}

// joinAddresses makes one word again of host:port in a list within a mapping,
// {servers: [127.0.0.1:11211]}: the scanner takes its colon for a key's.
func joinAddresses(tokens token.Tokens) token.Tokens {
	joined := make(token.Tokens, 0, len(tokens))
	var open []token.Type
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, t.Type)
		case token.SequenceEndType, token.MappingEndType:
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		case token.MappingValueType:
			if i > 0 && i+1 < len(tokens) && len(open) > 0 && open[len(open)-1] == token.SequenceStartType &&
				adjacent(tokens[i-1], t) && adjacent(t, tokens[i+1]) {
				before, after := joined[len(joined)-1], tokens[i+1]
				joined = joined[:len(joined)-1]
				i++
				t = token.New(before.Value+":"+after.Value, before.Origin+":"+after.Origin, before.Position)
			}
		}
		joined.Add(t)
	}
	return joined
}

// adjacent reports whether b follows a without a space, both being unquoted
// words or colons.
func adjacent(a, b *token.Token) bool {
	for _, t := range []*token.Token{a, b} {
		if t.Type != token.MappingValueType && t.CharacterType != token.CharacterTypeMiscellaneous {
			return false
		}
	}
	return a.Position.Line == b.Position.Line && a.Position.Column+utf8.RuneCountInString(a.Value) == b.Position.Column
}

// syntax reports what the parser stumbled over: the first place only, because
// after it nothing can be trusted.
func (d *document) syntax(err error) {
	var e yaml.Error
	if !errors.As(err, &e) || e.GetToken() == nil {
		d.fail(place{}, "", "is no YAML", "")
		return
	}
	remedy := "look at the indentation (spaces, no tabs), the brackets and the quotes here and in the line above"
	if strings.Contains(e.GetMessage(), "'\\t'") || strings.Contains(e.GetMessage(), "tab ") || strings.Contains(e.GetMessage(), "'\t'") {
		remedy = "indent with spaces: YAML takes no tabs"
	}
	message := strings.ReplaceAll(e.GetMessage(), "\t", `\t`)
	d.fail(placeOfToken(e.GetToken()), "", "is no YAML: "+message, remedy)
}

// findAnchors records what aliases may stand for.
func (d *document) findAnchors(n ast.Node) {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			d.findAnchors(v)
		}
	case *ast.MappingValueNode:
		d.findAnchors(n.Value)
	case *ast.SequenceNode:
		for _, v := range n.Values {
			d.findAnchors(v)
		}
	case *ast.TagNode:
		d.findAnchors(n.Value)
	case *ast.AnchorNode:
		d.anchors[n.Name.GetToken().Value] = n.Value
		d.findAnchors(n.Value)
	}
}

// resolve follows anchors and aliases to what they stand for; nil where there is
// nothing, which it has reported then unless it is a plain null.
func (d *document) resolve(n ast.Node, key string) ast.Node {
	for {
		if d.left--; d.left < 0 {
			d.fail(placeOf(n), "", fmt.Sprintf("comes to more than %d values with what its aliases repeat", maxNodes), "write the values out, or take aliases of aliases away")
			return nil
		}
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			name := v.Value.GetToken().Value
			target, ok := d.anchors[name]
			if !ok {
				d.fail(placeOf(v), key, fmt.Sprintf("the alias *%s stands for nothing", clip(name)), fmt.Sprintf("write &%s before the value it repeats", clip(name)))
				return nil
			}
			n = target
		case *ast.TagNode:
			d.fail(placeOf(v), key, "tags are not used here", "take "+clip(v.Start.Value)+" out")
			return nil
		case *ast.NullNode:
			return nil
		default:
			return n
		}
	}
}

func (d *document) problem(at place, key, message, remedy string) Problem {
	p := Problem{File: d.file, Key: key, Message: message, Remedy: remedy, Line: at.line, Column: at.column, width: at.width}
	if at.line >= 1 && at.line <= len(d.lines) {
		p.Source = d.lines[at.line-1]
	}
	return p
}

func (d *document) fail(at place, key, message, remedy string) {
	d.note(&d.problems, d.problem(at, key, message, remedy))
}

func (d *document) warn(at place, key, message, remedy string) {
	d.note(&d.warnings, d.problem(at, key, message, remedy))
}

// note keeps one problem of a kind for each place: an alias is read as often as
// it is written.
func (d *document) note(list *[]Problem, p Problem) {
	same := p
	same.Key = ""
	if !d.seen[same] {
		d.seen[same] = true
		*list = append(*list, p)
	}
}

func placeOf(n ast.Node) place {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return placeOf(m.Values[0].Key)
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		return placeOf(m.Key)
	}
	return placeOfToken(n.GetToken())
}

func placeOfToken(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{}
	}
	text, _, _ := strings.Cut(strings.TrimSpace(t.Origin), "\n")
	return place{line: t.Position.Line, column: t.Position.Column, width: utf8.RuneCountInString(text)}
}

func clip(s string) string {
	const limit = 60
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return s
}
