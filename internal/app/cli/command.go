// Package cli is the user's shell: it looks at the cluster, at the agents and
// at what the Consul servers give to clients, and says what a person should
// know. One command changes something, and only when it is told to: purge.
//
// Each command is a file: it gathers plain values and hands them to a function
// of internal/diagnosis that decides, and prints what comes back. A new command
// is a function that returns a *cobra.Command, and a line in commands.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// Call is one call of the program.
type Call struct {
	Args     []string // the program's name first
	Out, Err io.Writer
	Version  string
}

// The exit codes.
const (
	exitFine    = 0
	exitNo      = 1 // there is something to repair, or the answer is no
	exitUnknown = 2 // it could not be found out, or the call makes no sense
)

// no ends a command that has said what is wrong.
type no struct{}

func (no) Error() string { return "something is wrong" }

// unknown ends a command that has said what it could not find out.
type unknown struct{}

func (unknown) Error() string { return "not everything could be found out" }

// Run carries out a call and returns the exit code.
func Run(ctx context.Context, call Call) int {
	root := command(called(call.Args), call.Version)
	root.SetArgs(call.Args[min(1, len(call.Args)):])
	root.SetOut(call.Out)
	root.SetErr(call.Err)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, no{}):
		return exitNo
	case !errors.Is(err, unknown{}):
		fmt.Fprintln(call.Err, "fairway:", strings.Map(printable, err.Error()))
	}
	return exitUnknown
}

// called is the program's name as its user types it.
func called(args []string) string {
	if len(args) > 0 && strings.HasPrefix(filepath.Base(args[0]), "kubectl-") {
		return "kubectl fairway"
	}
	return "fairway"
}

// Command is the command line of fairway.
func Command() *cobra.Command { return command("fairway", "") }

func command(name, version string) *cobra.Command {
	root := &cobra.Command{
		Use:         "fairway",
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: name},
		Version:     version,
		Short:       "Why is a pod not found, and what does Fairway do about it",
		Long: `fairway looks at pods, at Fairway's agents and at what the Consul servers give to
clients, and says what is wrong and what to do. It changes nothing, but for
purge --apply.

Kubernetes is reached as kubectl does, Consul as the consul command does: by the
environment CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and its kin, or by flags.

Exit code: 0 all is well, 1 something is not, 2 it could not be found out.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	access := newAccess()
	access.flags(root.PersistentFlags())
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return access.validate() }
	root.AddCommand(commands(access, version)...)
	return root
}

// commands are all subcommands but those that cobra adds.
func commands(access *access, version string) []*cobra.Command {
	return []*cobra.Command{
		doctorCommand(access, version),
		importsCommand(access),
		migrateCommand(access),
		planCommand(access),
		purgeCommand(access),
		servicesCommand(access),
		verifyCommand(access),
		whyCommand(access),
		versionCommand(access, version),
	}
}

func versionCommand(access *access, version string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return access.print(cmd.OutOrStdout(), map[string]string{"version": version}, func(out io.Writer) error {
				_, err := fmt.Fprintln(out, version)
				return err
			})
		},
	}
}
