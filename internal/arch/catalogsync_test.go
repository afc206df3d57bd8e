package arch_test

import (
	"go/ast"
	"strings"
	"testing"
)

// What docs/catalog-sync.md promises is held by tests that exist: in each row of its
// table, and in the packages that it names.
func TestPromisesOfCatalogSyncAreHeldByTests(t *testing.T) {
	const name, defects = "docs/catalog-sync.md", 14
	in := map[string]map[string]bool{} // test functions, and the folders that have one of the name
	for _, f := range goFiles(t) {
		for _, decl := range f.syntax.Decls {
			if decl, ok := decl.(*ast.FuncDecl); ok && f.test() {
				if in[decl.Name.Name] == nil {
					in[decl.Name.Name] = map[string]bool{}
				}
				in[decl.Name.Name][f.dir()] = true
			}
		}
	}
	promises := 0
	for _, row := range rows(page(t, name)) {
		cell := row[len(row)-1]
		if !strings.Contains(cell, "`Test") {
			continue
		}
		promises++
		for place := range strings.SplitSeq(cell, "; ") {
			_, where, _ := strings.Cut(place, "(")
			where = strings.TrimSuffix(where, ")")
			for _, test := range quoted(place) {
				function, _, _ := strings.Cut(test, "/")
				dir := "internal/" + where
				if where == "e2e" {
					dir = "test/e2e"
					if why := noSuchTest(t, test); why != "" {
						t.Errorf("%s: %s: %s", name, test, why)
					}
				}
				if !in[function][dir] {
					t.Errorf("%s: %s has no test %s", name, dir, function)
				}
			}
		}
	}
	if promises != defects {
		t.Errorf("%s: %d rows name tests, want %d", name, promises, defects)
	}
}
