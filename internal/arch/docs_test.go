package arch_test

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The source map is the tables of docs/ARCHITECTURE.md below the heading
// "Source map": the first cell of a row holds paths from the root, in
// backticks.
//
//	| `internal/gate` | may this pod be Ready |
func TestSourceMap(t *testing.T) {
	const name = "docs/ARCHITECTURE.md"
	_, text, found := strings.Cut(page(t, name), "\n## Source map\n")
	if !found {
		t.Fatalf("%s has no heading %q", name, "## Source map")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	mapped := map[string]bool{}
	for _, row := range rows(text) {
		for _, p := range quoted(row[0]) {
			mapped[path.Clean(p)] = true
			if _, err := os.Stat(filepath.Join(root(t), filepath.FromSlash(p))); err != nil {
				t.Errorf("%s maps %s, which does not exist", name, p)
			}
		}
	}
	if len(mapped) == 0 {
		t.Errorf("the source map of %s is empty", name)
	}
	missing := map[string]bool{}
	for _, f := range goFiles(t) {
		if r := room(f.dir()); !mapped[r] {
			missing[r] = true
		}
	}
	for r := range missing {
		t.Errorf("%s is not in the source map of %s", r, name)
	}
}

// room is the part of a package's path that the source map must name: two
// elements where the first is only a kind of room.
func room(dir string) string {
	parts := strings.Split(dir, "/")
	if len(parts) > 1 && slices.Contains([]string{"api", "cmd", "deploy", "hack", "internal", "test"}, parts[0]) {
		return path.Join(parts[:2]...)
	}
	return parts[0]
}

// A test that is renamed or dropped must not go on holding an invariant on
// paper.
func TestInvariantsAreHeldByTestsThatExist(t *testing.T) {
	const name = "docs/ARCHITECTURE.md"
	_, text, _ := strings.Cut(page(t, name), "\n## Invariants\n")
	text, _, _ = strings.Cut(text, "\n## ")
	exists := map[string]bool{}
	for _, f := range goFiles(t) {
		for _, decl := range f.syntax.Decls {
			if decl, ok := decl.(*ast.FuncDecl); ok && f.test() {
				exists[decl.Name.Name] = true
			}
		}
	}
	invariants := 0
	for _, row := range rows(text) {
		if !strings.HasPrefix(row[0], "**I") {
			continue
		}
		invariants++
		tests := quoted(row[len(row)-1])
		if len(tests) == 0 {
			t.Errorf("%s names no test that holds %s", name, row[0])
		}
		for _, test := range tests {
			if !exists[test] {
				t.Errorf("%s is held by %s, which does not exist", row[0], test)
			}
		}
	}
	if invariants != 8 {
		t.Errorf("%s lists %d invariants; want 8", name, invariants)
	}
}

// Metric names are written out whole, so that they can be searched for; this
// test counts on it.
func TestMetricsAreDocumented(t *testing.T) {
	const name = "docs/metrics.md"
	code, documented := metrics(t), map[string]bool{}
	for _, row := range rows(page(t, name)) {
		for _, q := range quoted(row[0]) {
			if q, _, _ = strings.Cut(q, "{"); metric().MatchString(q) {
				documented[q] = true
			}
		}
	}
	sameNames(t, "metric", name, code, documented)
}

func metric() *regexp.Regexp { return regexp.MustCompile(`^fairway_[a-z0-9_]*[a-z0-9]$`) }

// metrics are the names of all metrics in the code, and where they are.
func metrics(t *testing.T) map[string]string {
	t.Helper()
	metric, code := metric(), map[string]string{}
	for _, f := range goFiles(t) {
		if f.test() || !strings.HasPrefix(f.path, "internal/") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if s, ok := stringLiteral(n); ok && metric.MatchString(s) {
				code[s] = f.at(n)
			}
			return true
		})
	}
	return code
}

// What alerts and dashboard ask for is there.
func TestAlertsAndDashboardAskForMetricsThatExist(t *testing.T) {
	code := metrics(t)
	name := regexp.MustCompile(`\bfairway_[a-z0-9_]+`)
	for _, file := range []string{"deploy/chart/files/alerts.yaml", "deploy/chart/files/dashboard.json"} {
		found := name.FindAllString(page(t, file), -1)
		if len(found) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, name := range found {
			base := strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")
			if code[name] == "" && code[base] == "" {
				t.Errorf("%s asks for %s, which there is not", file, name)
			}
		}
	}
}

// What pods are told to wait for is in the pages about the gate and the drain.
func TestGateReasonsAreDocumented(t *testing.T) {
	reasonsAreDocumented(t, "internal/gate/gate.go", "docs/gate.md", "NotGated") // which is never written to a pod
	reasonsAreDocumented(t, "internal/drain/drain.go", "docs/drain.md")
}

// What a ConsulImport's status says is in the page about it.
func TestImportReasonsAreDocumented(t *testing.T) {
	reasonsAreDocumented(t, "internal/consulimport/status.go", "docs/import.md")
}

// What Events on Services say is in the page about them.
func TestServiceReasonsAreDocumented(t *testing.T) {
	reasonsAreDocumented(t, "internal/app/controller/exporter_tell.go", "docs/services.md")
}

func reasonsAreDocumented(t *testing.T, source, name string, except ...string) {
	t.Helper()
	code := map[string]string{}
	for _, f := range goFiles(t) {
		if f.path != source {
			continue
		}
		for _, decl := range f.syntax.Decls {
			decl, ok := decl.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for _, spec := range decl.Specs {
				spec, ok := spec.(*ast.ValueSpec)
				if !ok || spec.Type != nil || len(spec.Values) == 0 { // typed ones are findings
					continue
				}
				if s, ok := stringLiteral(spec.Values[0]); ok {
					code[s] = f.at(spec)
				}
			}
		}
	}
	for _, reason := range except {
		delete(code, reason)
	}
	documented := map[string]bool{}
	reason := regexp.MustCompile("^`([A-Z][A-Za-z]+)`$")
	for _, row := range rows(page(t, name)) {
		if m := reason.FindStringSubmatch(row[0]); m != nil {
			documented[m[1]] = true
		}
	}
	sameNames(t, "reason", name, code, documented)
}

func stringLiteral(n ast.Node) (string, bool) {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}
