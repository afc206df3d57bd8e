package arch_test

import (
	"go/ast"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageHasADocComment(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range goFiles(t) {
		if !f.test() {
			documented[f.dir()] = documented[f.dir()] || f.syntax.Doc.Text() != ""
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no file has a package comment", dir)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	const most = 500
	for _, f := range goFiles(t) {
		if n := strings.Count(f.text, "\n"); n >= most && !ast.IsGenerated(f.syntax) {
			t.Errorf("%s has %d lines: split it by concern before it reaches %d", f.path, n, most)
		}
	}
}

// A test that is skipped proves nothing, and one that sleeps is slow, flaky or
// both: wait for the condition that is meant. In a synctest bubble sleeping is
// how time is moved on, and takes none.
func TestTestsNeitherSkipNorSleep(t *testing.T) {
	for _, f := range goFiles(t) {
		if !f.test() {
			continue
		}
		bubbled := bubbles(f)
		f.uses("time", func(name string, n ast.Node) {
			if name == "Sleep" && !slices.ContainsFunc(bubbled, func(b ast.Node) bool { return b.Pos() <= n.Pos() && n.End() <= b.End() }) {
				t.Errorf("%s: time.Sleep in a test", f.at(n))
			}
		})
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				t.Errorf("%s: a test is skipped", f.at(n))
			}
			return true
		})
	}
}

// bubbles are the calls of synctest.Test in a file.
func bubbles(f file) []ast.Node {
	var found []ast.Node
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Test" {
				if x, ok := sel.X.(*ast.Ident); ok && f.packageOf(x.Name) == "testing/synctest" {
					found = append(found, call)
				}
			}
		}
		return true
	})
	return found
}

// No file depends on, or tells about, the machine that it was written on.
func TestNoMachineInTheRepository(t *testing.T) {
	paths := regexp.MustCompile(`(^|[^A-Za-z0-9_.-])/(root|work)/`)
	// Written in two parts, so that this file passes.
	hosts := []string{"proxy." + "golang.org", "sum." + "golang.org", "pypi." + "org", "registry." + "npmjs.org", "deb." + "debian.org"}
	out, err := exec.Command("go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatalf("ask go for its module proxy: %v", err)
	}
	for proxy := range strings.FieldsFuncSeq(string(out), func(r rune) bool { return strings.ContainsRune(",|\n", r) }) {
		if u, err := url.Parse(proxy); err == nil && u.Hostname() != "" {
			hosts = append(hosts, u.Hostname())
		}
	}
	for _, f := range files(t) {
		for n, line := range strings.Split(f.text, "\n") {
			if paths.MatchString(line) {
				t.Errorf("%s:%d: a path of one machine: %s", f.path, n+1, line)
			}
			for _, host := range hosts {
				if strings.Contains(line, host) {
					t.Errorf("%s:%d: names the package registry %s; go and apt know theirs", f.path, n+1, host)
				}
			}
		}
	}
}
