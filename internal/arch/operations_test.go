package arch_test

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"
)

const operations = "docs/operations.md"

// Every cell of the table of what happens when something dies names the tests
// that show it, and those exist.
func TestFailureTableIsShownByTests(t *testing.T) {
	_, text, _ := strings.Cut(page(t, operations), "\n## What happens when it dies\n")
	text, _, _ = strings.Cut(text, "\n## ")
	shown := map[string]bool{} // by key, whether a cell refers to it
	number := regexp.MustCompile(`^[1-9][0-9]*$`)
	for _, row := range rows(text) {
		if !number.MatchString(row[0]) {
			continue
		}
		shown[row[0]] = false
		tests := quoted(row[1])
		if len(tests) == 0 {
			t.Errorf("%s: number %s names no test", operations, row[0])
		}
		for _, name := range tests {
			if why := noSuchTest(t, name); why != "" {
				t.Errorf("%s: %s: %s", operations, name, why)
			}
		}
	}
	refers := regexp.MustCompile(`\(((?:[0-9]+, )*[0-9]+)\)$`)
	cells := 0
	for _, row := range rows(text) {
		if !strings.HasPrefix(row[0], "**") {
			continue
		}
		for _, cell := range row[1:] {
			if strings.HasSuffix(cell, "–") {
				continue // Fairway has no part in it
			}
			cells++
			m := refers.FindStringSubmatch(cell)
			if m == nil {
				t.Errorf("%s: %s: %q names no test", operations, row[0], cell)
				continue
			}
			for key := range strings.SplitSeq(m[1], ", ") {
				if _, ok := shown[key]; !ok {
					t.Errorf("%s: %s: there is no number %s", operations, row[0], key)
				}
				shown[key] = true
			}
		}
	}
	for key, used := range shown {
		if !used {
			t.Errorf("%s: nothing refers to number %s", operations, key)
		}
	}
	if cells < 30 {
		t.Errorf("%s: %d cells found: the test looks for the wrong thing", operations, cells)
	}
}

// noSuchTest says what is wrong with the name of an e2e test or a subtest of
// one. The name of a subtest, with blanks as go test writes them, is a string
// of the code that runs it, or made from two.
func noSuchTest(t *testing.T, name string) string {
	t.Helper()
	test, subtest, _ := strings.Cut(name, "/")
	found := subtest == ""
	exists := false
	literals := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.dir() != "test/e2e" && f.dir() != "lab/matrix" {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if decl, ok := n.(*ast.FuncDecl); ok && decl.Name.Name == test && f.dir() == "test/e2e" {
				exists = true
			}
			if s, ok := stringLiteral(n); ok {
				literals[strings.ReplaceAll(s, " ", "_")] = true
			}
			return true
		})
	}
	for i := range subtest {
		if literals[subtest[i:]] && (i == 0 || literals[subtest[:i]]) {
			found = true
		}
	}
	switch {
	case !exists:
		return "there is no such test in test/e2e"
	case !found:
		return "no subtest is called that"
	}
	return ""
}

// Whoever is woken by an alert finds what to do, and what the page says to do
// belongs to an alert.
func TestEveryAlertHasARunbook(t *testing.T) {
	const file = "deploy/chart/files/alerts.yaml"
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(page(t, file), -1)
	runbooks := regexp.MustCompile(`(?m)^ +runbook: (\S+)$`).FindAllStringSubmatch(page(t, file), -1)
	if len(alerts) == 0 || len(alerts) != len(runbooks) {
		t.Fatalf("%s: %d alerts, %d runbooks", file, len(alerts), len(runbooks))
	}
	code, documented := map[string]string{}, map[string]bool{}
	for i, m := range alerts {
		code[m[1]] = file
		if want := operations + "#" + strings.ToLower(m[1]); runbooks[i][1] != want {
			t.Errorf("%s: the runbook of %s is %s, want %s", file, m[1], runbooks[i][1], want)
		}
	}
	sections := regexp.MustCompile(`(?m)^### (Fairway\w+)$`).FindAllStringSubmatchIndex(page(t, operations), -1)
	for _, at := range sections {
		name := page(t, operations)[at[2]:at[3]]
		documented[name] = true
		section, _, _ := strings.Cut(page(t, operations)[at[1]:], "\n##")
		for _, part := range []string{"**Users see:**", "**Look:**", "**Do:**"} {
			if !strings.Contains(section, part) {
				t.Errorf("%s: the runbook of %s has no %s", operations, name, part)
			}
		}
	}
	sameNames(t, "alert", operations, code, documented)
}
