package arch_test

import (
	"go/ast"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// core are the packages that decide. They are functions of their input: they
// cannot wait, ask, log, or know what time it is.
var core = []string{
	"internal/service",
	"internal/annotation",
	"internal/registration",
	"internal/gate",
	"internal/podset",
	"internal/drain",
	"internal/succession",
	"internal/export",
	"internal/nodeview",
	"internal/diagnosis",
	"internal/nodelease",
	"internal/consulimport",
	"internal/purge",
	"internal/clusterlease",
}

// coreMayImport is what such a function needs. The list is meant to stay this
// short; other core packages come on top.
var coreMayImport = []string{
	"cmp", "errors", "fmt", "hash/fnv", "iter", "maps", "math", "math/bits", "net/netip", "regexp", "slices", "sort", "strconv",
	"strings", "time", "unicode", "unicode/utf8",
}

// clock is what package time offers beyond values.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func TestCoreIsPure(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test() || !slices.Contains(core, f.dir()) {
			continue
		}
		seen[f.dir()] = true
		for _, spec := range f.syntax.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if ours, ok := strings.CutPrefix(p, module+"/"); !(ok && slices.Contains(core, ours)) && !slices.Contains(coreMayImport, p) {
				t.Errorf("%s: the core must not import %s: no client, clock, logger or I/O", f.at(spec), p)
			}
		}
		f.uses("time", func(name string, n ast.Node) {
			if slices.Contains(clock, name) {
				t.Errorf("%s: the core has no clock: take the time as a value instead of time.%s", f.at(n), name)
			}
		})
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: the core starts no goroutine", f.at(n))
			case *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
				t.Errorf("%s: the core has no channels: it returns values", f.at(n))
			}
			return true
		})
	}
	for _, dir := range core {
		if !seen[dir] {
			t.Errorf("%s is a core package and has no Go files", dir)
		}
	}
}
