package arch_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

const module = "fairway.dev/fairway"

// file is one text file of the repository.
type file struct {
	path string // from the root, with slashes
	text string
	// syntax is set for Go files of this module; those of nested modules and
	// of testdata are text to us.
	syntax *ast.File
	fset   *token.FileSet
}

func (f file) test() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f file) dir() string { return path.Dir(f.path) }

// at is where a node stands, for messages.
func (f file) at(n ast.Node) string {
	return f.path + ":" + strconv.Itoa(f.fset.Position(n.Pos()).Line)
}

// packageOf is the import path that name stands for in the file, empty if it
// is no import.
func (f file) packageOf(name string) string {
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if spec.Name != nil && spec.Name.Name == name || spec.Name == nil && path.Base(p) == name {
			return p
		}
	}
	return ""
}

// uses tells of each name of a package that the file uses, under whatever name
// it is imported: uses("time", ...) of Now and Second.
func (f file) uses(pkg string, visit func(name string, n ast.Node)) {
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && f.packageOf(x.Name) == pkg {
				visit(sel.Sel.Name, n)
			}
		}
		return true
	})
}

// root is the folder of this module.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if !hasModule(dir) {
		t.Fatalf("%s holds no go.mod: this package has moved", dir)
	}
	return dir
}

func hasModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// files are all text files of the repository, read once.
func files(t *testing.T) []file {
	t.Helper()
	all, err := read()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var read = sync.OnceValues(func() ([]file, error) {
	const root = "../.."
	var all []file
	nested := map[string]bool{} // folders that belong to another module
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if entry.IsDir() {
			switch entry.Name() {
			case ".git", "bin", "dist": // as in .gitignore
				return filepath.SkipDir
			}
			nested[rel] = nested[path.Dir(rel)] || entry.Name() == "testdata" || rel != "." && hasModule(name)
			return nil
		}
		if !entry.Type().IsRegular() || rel == ".git" { // a file in a second worktree
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if !utf8.Valid(text) || bytes.ContainsRune(text, 0) {
			return nil
		}
		f := file{path: rel, text: string(text), fset: fset}
		if strings.HasSuffix(rel, ".go") && !nested[path.Dir(rel)] {
			if f.syntax, err = parser.ParseFile(fset, rel, text, parser.ParseComments); err != nil {
				return err
			}
		}
		all = append(all, f)
		return nil
	})
	return all, err
})

// goFiles are the Go files of this module.
func goFiles(t *testing.T) []file {
	t.Helper()
	var found []file
	for _, f := range files(t) {
		if f.syntax != nil {
			found = append(found, f)
		}
	}
	if len(found) == 0 {
		t.Fatal("no Go files found")
	}
	return found
}

// page is the text of a documentation page.
func page(t *testing.T, name string) string {
	t.Helper()
	for _, f := range files(t) {
		if f.path == name {
			return f.text
		}
	}
	t.Fatalf("there is no %s", name)
	return ""
}

// rows are the rows of all tables in Markdown text, as cells. Header rows and
// rulers are rows too.
func rows(text string) [][]string {
	var found [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		found = append(found, cells)
	}
	return found
}

// quoted are the pieces of Markdown text between backticks.
func quoted(text string) []string {
	var found []string
	for i, piece := range strings.Split(text, "`") {
		if i%2 == 1 {
			found = append(found, piece)
		}
	}
	return found
}

// sameNames fails for each name that only one of code and page knows.
func sameNames(t *testing.T, what, pageName string, code map[string]string, documented map[string]bool) {
	t.Helper()
	if len(code) == 0 {
		t.Errorf("no %s found in the code: the test looks for the wrong thing", what)
	}
	for name, where := range code {
		if !documented[name] {
			t.Errorf("%s %s (%s) is not in %s", what, name, where, pageName)
		}
	}
	for name := range documented {
		if _, ok := code[name]; !ok {
			t.Errorf("%s names %s %s, which the code does not have", pageName, what, name)
		}
	}
}
