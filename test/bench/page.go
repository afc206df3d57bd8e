package main

import (
	"fmt"
	"os"
	"strings"
)

// replaceTable puts a table between the lines of a page that name the target
// which measures it.
func replaceTable(page, target, table string) error {
	begin := "<!-- measured by make " + target + ": begin -->\n"
	end := "<!-- measured by make " + target + ": end -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s: the lines that enclose the table of %s are missing", page, target)
	}
	return os.WriteFile(page, []byte(before+begin+table+end+after), 0o644)
}
