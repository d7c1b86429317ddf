//go:build !engines

package ops

import (
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatIsLeftOut says what a run without servers leaves out. With the tag engines
// there is nothing, and no such test.
func TestWhatIsLeftOut(t *testing.T) {
	left := make(map[string]int) // tests that need servers, by package
	var tests int
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || path == filepath.Join("..", "ops", "local", "run")) {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil || !needsServers(file) {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
				left[strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../")]++
				tests++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if tests == 0 {
		t.Fatal("no test needs servers: is the tag still called engines?")
	}
	t.Logf("left out are %d tests that need servers: %v; run them with: ops/local/up && go test -tags engines ./...", tests, left)
}

// needsServers tells a file that is only built with the tag engines.
func needsServers(file *ast.File) bool {
	for _, group := range file.Comments {
		if group.Pos() > file.Package {
			break
		}
		for _, c := range group.List {
			if x, err := constraint.Parse(c.Text); err == nil && !x.Eval(func(tag string) bool { return tag != "engines" }) {
				return x.Eval(func(string) bool { return true })
			}
		}
	}
	return false
}
