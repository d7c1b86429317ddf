// Package ops holds the tests that keep what operators are given true: the
// configurations pass, and the pages say what the program says.
package ops

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"manna/internal/config"
)

// variables are what stands in for the secrets.
func variables(name string) (string, bool) {
	switch name {
	case "MANNA_NODE":
		return "node-0", true
	case "MANNA_DSN":
		return "postgres://manna:manna@127.0.0.1:5432/manna", true
	}
	return strings.Repeat("5ec2e7", 8), true
}

func TestConfigurationsAreOfAClusterAndKeepTheirPromises(t *testing.T) {
	files := find(t, ".", "manna.yaml")
	if len(files) < 3 {
		t.Fatalf("found %v, want those of compose and of each overlay", files)
	}
	for _, file := range files {
		c, err := config.Parse(file, read(t, file), variables)
		if err != nil {
			t.Errorf("%s is refused:\n%v", file, err)
			continue
		}
		for _, w := range c.Warnings {
			t.Errorf("%s: %v", file, w)
		}
		if c.Node != "node-0" || c.Data != "/var/lib/manna" || c.Listen.Admin != ":8081" || c.Listen.Public != ":8080" {
			t.Errorf("%s: node %q, data %s, listen %v: not what image and manifests expect", file, c.Node, c.Data, c.Listen)
		}
		if c.Queue.Engine != config.RocketMQ || c.Guard.Engine != config.Memcached || !c.Clustered() || c.Durability != config.Replicated || c.Archive.URL == "" {
			t.Errorf("%s: queue %s, guard %s, ledger %s, durability %s, archive %q: that is no cluster", file, c.Queue.Engine, c.Guard.Engine, c.Ledger.Engine, c.Durability, c.Archive.URL)
		}
		forecasts := c.Forecasts()
		if len(forecasts) == 0 {
			t.Errorf("%s delivers nothing", file)
		}
		for _, f := range forecasts {
			if !f.Kept() {
				t.Errorf("%s: campaign %s takes %s at %s, and promises %s", file, f.Campaign, f.Takes, f.Partner, f.Promise)
			}
		}
	}
}

// Kustomize reads no file outside of an overlay, so the trial has copies.
func TestTheTrialIsTheComposeCluster(t *testing.T) {
	for copied, original := range map[string]string{
		"kubernetes/trial/manna.yaml":  "compose/manna.yaml",
		"kubernetes/trial/broker.conf": "compose/broker-inside.conf",
	} {
		if got, want := content(t, copied), content(t, original); got != want {
			t.Errorf("%s is not %s any more:\n%s\nwant:\n%s", copied, original, got, want)
		}
	}
}

// content is a file without the comment at its top.
func content(t *testing.T, file string) string {
	t.Helper()
	text := string(read(t, file))
	for strings.HasPrefix(text, "#") {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}

func TestImageIsBuiltWithTheLanguageOfTheModule(t *testing.T) {
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(read(t, "../go.mod"))
	image := regexp.MustCompile(`(?m)^ARG GO=(\S+)$`).FindSubmatch(read(t, "../Containerfile"))
	if language == nil || image == nil || string(language[1]) != string(image[1]) {
		t.Errorf("go.mod has %q, Containerfile has %q", language, image)
	}
}

var (
	fence   = regexp.MustCompile("(?s)```.*?```|(?m)^    .*$")
	span    = regexp.MustCompile("`([^`\n]+)`")
	metric  = regexp.MustCompile(`\bmanna_[a-z_]+\b`)
	command = regexp.MustCompile(`(?:^|[\s;(])manna ([a-z][a-z-]*)`)
)

// A metric, a command, and a code span in quotes are the program's own words.
func TestPagesSayWhatTheProgramSays(t *testing.T) {
	said := vocabulary(t)
	seen := 0
	for _, page := range append(find(t, "runbooks", ".md"), "README.md") {
		text := string(read(t, page))
		for _, name := range metric.FindAllString(text, -1) {
			if seen++; !said.whole[name] {
				t.Errorf("%s names the metric %s, which the program does not have", page, name)
			}
		}
		code := fence.FindAllString(text, -1)
		for _, s := range span.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			code = append(code, s[1])
			if line, ok := strings.CutPrefix(s[1], `"`); ok && strings.HasSuffix(line, `"`) {
				if seen++; !said.says(strings.TrimSuffix(line, `"`)) {
					t.Errorf("%s quotes %s, which the program does not say", page, s[1])
				}
			}
		}
		for _, s := range code {
			// kubectl's namespace is no command.
			for _, c := range command.FindAllStringSubmatch(strings.ReplaceAll(s, "-n manna ", ""), -1) {
				if seen++; !said.commands[c[1]] {
					t.Errorf("%s has the command manna %s, which there is not", page, c[1])
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("found %d words of the program in the pages: too few to have looked", seen)
	}
}

// words are the texts in the program's source.
type words struct {
	whole    map[string]bool
	all      []string
	commands map[string]bool // the words that commands begin with
}

func (w *words) says(text string) bool {
	for _, s := range w.all {
		if strings.Contains(s, text) {
			return true
		}
	}
	return false
}

func vocabulary(t *testing.T) *words {
	t.Helper()
	w := &words{whole: make(map[string]bool), commands: make(map[string]bool)}
	for _, file := range find(t, "..", ".go") {
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "../bench/") || strings.HasPrefix(file, "../ops/") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if s, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					w.whole[s] = true
					w.all = append(w.all, s)
				}
			case *ast.KeyValueExpr:
				key, _ := n.Key.(*ast.Ident)
				value, _ := n.Value.(*ast.BasicLit)
				if key != nil && value != nil && key.Name == "Use" {
					if use, err := strconv.Unquote(value.Value); err == nil {
						w.commands[strings.Fields(use + " ")[0]] = true
					}
				}
			}
			return true
		})
	}
	return w
}

// find lists the files below a directory whose paths end so.
func find(t *testing.T, dir, suffix string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "run" && filepath.Base(filepath.Dir(path)) == "local" || d.Name() == "testdata" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, suffix) {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
