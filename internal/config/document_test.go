package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestMaskSecrets(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"variable", `secret: "${X}"`, `secret: "${X}"`},
		{"variable in a flow", `shop: {secret: "${X}", url: y}`, `shop: {secret: "${X}", url: y}`},
		{"bare variable", `dsn: ${X}`, `dsn: ${X}`},
		{"bearer variable", `Authorization: "Bearer ${X}"`, `Authorization: "Bearer ${X}"`},
		{"plain", `secret: hush, hush`, `secret: [redacted]`},
		{"quoted", `{secret: "hush", url: y}`, `{secret: [redacted], url: y}`},
		{"two in a line", `{secret: 'hush', token: "hush", url: y}`, `{secret: [redacted], token: [redacted], url: y}`},
		{"escaped quote", `{secret: "a\", hush", url: y}`, `{secret: [redacted], url: y}`},
		{"doubled quote", `secret: 'a'', hush'`, `secret: [redacted]`},
		{"variable and more", `secret: "${X}hush"`, `secret: [redacted]`},
		{"block", "secret: |\n  hush\n\n  hush\nurl: y", "secret: [redacted]\n  [redacted]\n\n  [redacted]\nurl: y"},
		{"next line", "secret:\n  hush\nurl: y", "secret:\n  [redacted]\nurl: y"},
		{"goes on", "  secret: \"hu\n    sh\"\n  url: y", "  secret: [redacted]\n    [redacted]\n  url: y"},
		{"in a list", "- secret: hu\n   sh\n  url: y", "- secret: [redacted]\n   [redacted]\n  url: y"},
		{"in a flow over lines", "{secret: hu\n  sh,\n}\nurl: y", "{secret: [redacted]\n  [redacted]\n}\nurl: y"},
		{"quoted key", `"x-api-key" : hush`, `"x-api-key" : [redacted]`},
		{"password in an address", `url: "https://user:hush@host/x"`, `url: "https://[redacted]@host/x"`},
		{"not a secret", `key_file: k.pem`, `key_file: k.pem`},
		{"comment", `# secret: the partner's`, `# secret: the partner's`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(maskSecrets(strings.Split(c.text, "\n")), "\n")
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// Files that keep a parser busy for minutes, or multiply to more than memory.
func TestBounds(t *testing.T) {
	bomb := "partners: {a: &a {url: 'http://x/', rate: 1/s, idempotent: true}}\nguard: {servers: &l0 ['x:1']}\ncampaigns:\n"
	platforms := "[" + strings.Repeat("p, ", 31) + "p]"
	items := "[" + strings.Repeat("{item: i, partner: a, platforms: *p}, ", 31) + "{item: i, partner: a, platforms: *p}]"
	bomb += "  c: &c\n    gifts:\n      g0: &g {stock: 1, items: &i [{item: i, partner: a, platforms: &p " + platforms + "}]}\n      g1: &h {stock: 1, items: &j " + items + "}\n"
	for i := range 500 {
		bomb += fmt.Sprintf("      h%d: *h\n", i)
	}
	for i := range 500 {
		bomb += fmt.Sprintf("  d%d: *c\n", i)
	}
	for _, c := range []struct{ name, text, want string }{
		{"brackets", strings.Repeat("[", 1<<14), "nests deeper than 32"},
		{"braces", strings.Repeat("{a: ", 1<<14), "nests deeper than 32"},
		{"dashes", strings.Repeat("- ", 1<<14), "nests deeper than 32"},
		{"question marks", strings.Repeat("? ", 1<<14), "nests deeper than 32"},
		{"anchors", strings.Repeat("&a ", 1<<14), "nests deeper than 32"},
		{"tags", strings.Repeat("!!a ", 1<<14), "nests deeper than 32"},
		{"words", strings.Repeat("a: b\n", 1<<17), "has more than 100000 words and signs"},
		{"aliases", bomb, "comes to more than 200000 values"},
		{"alias of itself", "partners: &p [*p, *p]\ncampaigns: *p\n", "is a list where a mapping belongs"},
		{"merge of itself", "partners: &p {<<: [*p, *p]}\n", "<< takes in no mapping"},
		{"NUL", "data: \x00\n", "holds a byte that is no text"},
		{"not UTF-8", "data: \xff\n", "holds a byte that is no text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("manna.yaml", []byte(c.text), environment)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %.300v, want %q", err, c.want)
			}
			if found := err.(Errors); len(found) > 10_000 {
				t.Errorf("got %d errors", len(found))
			}
		})
	}
}

func TestMergeAndAlias(t *testing.T) {
	c := mustParse(t, `partners:
  a: &a {url: "http://a.example/", rate: 1/s, idempotent: true, retry: &r [1s, 2s]}
  b: {rate: 2/s, <<: *a}
  c: {url: "http://c.example/", <<: [*a], retry: *r}
`+strings.Replace(minimal[strings.Index(minimal, "campaigns:"):], "partner: midas", "partner: a", 1))
	b, c3 := c.Partners[1], c.Partners[2]
	if b.Rate != 2 || b.URL != "http://a.example/" || !b.Idempotent {
		t.Errorf("b: got %+v", b)
	}
	if c3.URL != "http://c.example/" || c3.Rate != 1 || len(c3.Retry) != 2 {
		t.Errorf("c: got %+v", c3)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"queue", "guard", "ledger", "backlog_under", "data"}
	for word, want := range map[string]string{
		"qeueu": "queue", "Queue": "queue", "gaurd": "guard", "ledgers": "ledger", "backlog": "backlog_under",
		"dat": "data", "zebra": "", "x": "", "": "", strings.Repeat("q", 1<<20): "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("%.20q: got %q, want %q", word, got, want)
		}
	}
}
