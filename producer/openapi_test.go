package producer

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// document is openapi.json, and checks answers against it. It knows the part of
// JSON Schema that the document uses and refuses any other keyword.
type document struct{ root map[string]any }

func readDocument(t testing.TB) *document {
	t.Helper()
	d := &document{}
	if err := json.Unmarshal(openapi, &d.root); err != nil {
		t.Fatal(err)
	}
	return d
}

// at follows "/"-separated keys; a segment of a path has "~1" for "/".
func (d *document) at(v any, keys ...string) any {
	for _, k := range keys {
		m, ok := d.resolve(v).(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return d.resolve(v)
}

func (d *document) resolve(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	ref, ok := m["$ref"].(string)
	if !ok {
		return v
	}
	return d.at(d.root, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
}

// operation finds the operation that a request meets.
func (d *document) operation(method, path string) any {
	best := ""
	for template := range d.at(d.root, "paths").(map[string]any) {
		parts, names := strings.Split(path, "/"), strings.Split(template, "/")
		fits := len(parts) == len(names)
		for i := range parts {
			fits = fits && i < len(names) && (parts[i] == names[i] || strings.HasPrefix(names[i], "{"))
		}
		// As in the mux, a literal segment goes before a wildcard.
		if fits && (best == "" || strings.Count(template, "{") < strings.Count(best, "{")) && d.at(d.root, "paths", template, strings.ToLower(method)) != nil {
			best = template
		}
	}
	return d.at(d.root, "paths", best, strings.ToLower(method))
}

func (d *document) checkAnswer(method, path string, r reply) error {
	kind := r.header.Get("Content-Type")
	op := d.operation(method, path)
	if op == nil {
		if r.status != 404 && r.status != 405 {
			return fmt.Errorf("there is no such operation")
		}
		return d.check(d.at(d.root, "components", "schemas", "Problem"), r.body, "")
	}
	answer := d.at(op, "responses", fmt.Sprint(r.status))
	if answer == nil {
		return fmt.Errorf("status %d is not documented", r.status)
	}
	schema := d.at(answer, "content", kind, "schema")
	if schema == nil {
		return fmt.Errorf("content type %q is not documented for status %d", kind, r.status)
	}
	if r.status >= 400 {
		// The description of each status names its codes.
		if says := d.at(answer, "description").(string); !strings.Contains(says, r.code()) {
			return fmt.Errorf("code %q is not documented for status %d", r.code(), r.status)
		}
		if r.body["status"] != float64(r.status) {
			return fmt.Errorf("the problem says status %v", r.body["status"])
		}
	}
	for name := range asMap(d.at(answer, "headers")) {
		if r.header.Get(name) == "" {
			return fmt.Errorf("the header %s is missing", name)
		}
	}
	return d.check(schema, r.body, "")
}

func asMap(v any) map[string]any { m, _ := v.(map[string]any); return m }

func (d *document) check(schema, v any, at string) error {
	s := asMap(d.resolve(schema))
	fail := func(format string, args ...any) error { return fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)) }
	switch s["type"] {
	case "object":
		m, ok := v.(map[string]any)
		if !ok {
			return fail("%v is no object", v)
		}
		properties := asMap(s["properties"])
		required, _ := s["required"].([]any)
		for _, name := range required {
			if _, ok := m[name.(string)]; !ok {
				return fail("%v is missing", name)
			}
		}
		for name, value := range m {
			if properties[name] == nil {
				if s["additionalProperties"] == false {
					return fail("%s is not documented", name)
				}
				continue
			}
			if err := d.check(properties[name], value, at+"/"+name); err != nil {
				return err
			}
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			return fail("%v is no array", v)
		}
		if most, ok := s["maxItems"].(float64); ok && len(list) > int(most) {
			return fail("has %d elements", len(list))
		}
		for i, e := range list {
			if err := d.check(s["items"], e, fmt.Sprint(at, "/", i)); err != nil {
				return err
			}
		}
	case "string":
		text, ok := v.(string)
		if !ok {
			return fail("%v is no string", v)
		}
		if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, v) {
			return fail("%q is none of %v", text, enum)
		}
		if pattern, ok := s["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(text) {
			return fail("%q is not like %s", text, pattern)
		}
		if s["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339, text); err != nil {
				return fail("%v", err)
			}
		}
		if most, ok := s["maxLength"].(float64); ok && utf8.RuneCountInString(text) > int(most) {
			return fail("is longer than %v", most)
		}
	case "integer":
		n, ok := v.(float64)
		if !ok || n != float64(int64(n)) {
			return fail("%v is no integer", v)
		}
		if least, ok := s["minimum"].(float64); ok && n < least {
			return fail("%v is below %v", n, least)
		}
		if most, ok := s["maximum"].(float64); ok && n > most {
			return fail("%v is above %v", n, most)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return fail("%v is no boolean", v)
		}
	default:
		return fail("the schema has no type that is known here: %v", s)
	}
	return nil
}

func TestDocumentHasTheRoutesAndTheMuxHasTheDocument(t *testing.T) {
	d := readDocument(t)
	var documented, served []string
	for path, operations := range d.at(d.root, "paths").(map[string]any) {
		for method := range operations.(map[string]any) {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	for _, r := range (&Front{}).routes() {
		served = append(served, r.method+" "+r.path)
	}
	slices.Sort(documented)
	slices.Sort(served)
	if !slices.Equal(documented, served) {
		t.Errorf("documented %v\nserved     %v", documented, served)
	}
}

func TestDocumentHasEveryCode(t *testing.T) {
	d := readDocument(t)
	var codes []string
	for _, c := range d.at(d.root, "components", "schemas", "Problem", "properties", "code", "enum").([]any) {
		codes = append(codes, c.(string))
	}
	var have []string
	for code := range problems {
		have = append(have, string(code))
	}
	slices.Sort(codes)
	slices.Sort(have)
	if !slices.Equal(codes, have) {
		t.Errorf("documented %v\nhave       %v", codes, have)
	}
	var described strings.Builder
	for _, r := range d.at(d.root, "components", "responses").(map[string]any) {
		fmt.Fprintln(&described, d.at(r, "description"))
	}
	for code := range problems {
		if !strings.Contains(described.String(), string(code)) {
			t.Errorf("no answer's description names %s", code)
		}
	}
}

func TestDocumentHasTheFieldsOfARequest(t *testing.T) {
	d := readDocument(t)
	for name := range asMap(d.at(d.root, "components", "schemas", "ClaimRequest", "properties")) {
		value := `"x"`
		if name == "target" {
			value = `{}`
		}
		if _, err := decodeRequest(fmt.Sprintf(`{%q:%s}`, name, value)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	want(t, "fields", len(asMap(d.at(d.root, "components", "schemas", "ClaimRequest", "properties"))), 7)
}

func TestDocumentRefersOnlyToWhatIsThere(t *testing.T) {
	d := readDocument(t)
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"]; ok && d.resolve(v) == nil {
				t.Errorf("%v leads nowhere", ref)
			}
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(v[k])
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(d.root)
	for code, kind := range problems {
		if kind.status < 400 || kind.title == "" {
			t.Errorf("%s: %+v", code, kind)
		}
	}
}
