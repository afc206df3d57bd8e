package arch_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fairway.dev/fairway/internal/app/agent"
	"fairway.dev/fairway/internal/app/cli"
	"fairway.dev/fairway/internal/app/controller"
	"fairway.dev/fairway/internal/app/gatesidecar"
	"fairway.dev/fairway/internal/app/reaper"
)

// commands are the command lines of all binaries, by folder of cmd.
func commands() map[string]*cobra.Command {
	return map[string]*cobra.Command{
		"fairway":            cli.Command(),
		"fairway-agent":      agent.Command(),
		"fairway-controller": controller.Command(),
		"fairway-gate":       gatesidecar.Command(),
		"fairway-reaper":     reaper.Command(),
	}
}

// docs/flags.md has a section for each binary, and in it a table with a row
// for each flag, the flag in backticks in the first cell. Flags of subcommands
// are in the section of the binary.
//
//	## fairway-agent
//	| `--node-name` | ... |
func TestFlagsAreDocumented(t *testing.T) {
	const name = "docs/flags.md"
	sections := map[string]string{}
	for _, section := range strings.Split("\n"+page(t, name), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		sections[strings.Trim(title, "` ")] = text
	}
	for binary, cmd := range commands() {
		text, ok := sections[binary]
		if !ok {
			t.Errorf("%s has no heading %q", name, "## "+binary)
			continue
		}
		documented := map[string]bool{}
		for _, row := range rows(text) {
			for _, q := range quoted(row[0]) {
				if flag, ok := strings.CutPrefix(q, "--"); ok {
					flag, _, _ = strings.Cut(flag, "=")
					flag, _, _ = strings.Cut(flag, " ")
					documented["--"+flag] = true
				}
			}
		}
		sameNames(t, "flag", name+", "+binary, flags(cmd), documented)
	}
}

// flags are those of a command and all below it, by name, each with the
// command that has it.
func flags(cmd *cobra.Command) map[string]string {
	found := map[string]string{}
	add := func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			found["--"+f.Name] = cmd.CommandPath()
		}
	}
	cmd.Flags().VisitAll(add)
	cmd.PersistentFlags().VisitAll(add)
	for _, sub := range cmd.Commands() {
		maps.Copy(found, flags(sub))
	}
	return found
}

// A new binary cannot be left out of the list above.
func TestEveryBinaryIsListed(t *testing.T) {
	listed := commands()
	found := map[string]bool{}
	for _, f := range goFiles(t) {
		binary, ok := strings.CutPrefix(f.dir(), "cmd/")
		if !ok || found[binary] {
			continue
		}
		found[binary] = true
		if listed[binary] == nil {
			t.Errorf("cmd/%s is not in the list of commands of this test", binary)
		}
	}
	for binary := range listed {
		if !found[binary] {
			t.Errorf("there is no cmd/%s", binary)
		}
	}
}
