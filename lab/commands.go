package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/images"
	"fairway.dev/fairway/lab/workload"
)

// newCommand is the whole command line.
func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "lab",
		Short:         "A real Kubernetes and a real Consul cluster on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
		// So that kubectl gets its flags, and lab those before the word kubectl.
		TraverseChildren: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q; lab --help lists them", args[0])
			}
			return cmd.Help()
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	name := root.PersistentFlags().String("name", "dev", "name of the lab")
	root.AddCommand(upCommand(name), installCommand(name), downCommand(name), statusCommand(name), logsCommand(name),
		kubectlCommand(name), fairwayCommand(name), execCommand(name), faultCommand(name), buildCommand(), demoCommand())
	return root
}

func upCommand(name *string) *cobra.Command {
	topology := cluster.Default("")
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring a lab up; the first time this builds the servers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			topology.Name = *name
			if topology.Join != "" && !cmd.Flags().Changed("consul-agents") {
				topology.ConsulAgents = false
			}
			_, err := cluster.Up(cmd.Context(), topology, cmd.OutOrStdout())
			return err
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&topology.Nodes, "nodes", topology.Nodes, "number of Kubernetes nodes")
	flags.StringVar(&topology.Kubernetes, "kubernetes", topology.Kubernetes, "Kubernetes version, 1.37 or 1.36")
	flags.BoolVar(&topology.ConsulAgents, "consul-agents", topology.ConsulAgents, "run a Consul client agent on each node")
	flags.BoolVar(&topology.DNS, "dns", topology.DNS, "run CoreDNS, which pods then ask")
	flags.StringVar(&topology.Join, "join", "", "be a second cluster beside that of a running `LAB`, on its network and with its Consul servers; without Consul agents")
	return cmd
}

func downCommand(name *string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End a lab and remove everything of it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all {
				return cluster.DownAll(cmd.Context(), cmd.OutOrStdout())
			}
			if err := cluster.Down(cmd.Context(), *name); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "lab %s is down\n", *name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "end all labs, and clean up after runs that were killed")
	return cmd
}

func kubectlCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl ARGS...",
		Short:              "Run kubectl as the lab's administrator; flags of lab go before the word kubectl",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := cluster.Open(*name)
			if err != nil {
				return err
			}
			return attach(lab.KubectlCommand(cmd.Context(), args...))
		},
	}
}

func fairwayCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:                "fairway ARGS...",
		Short:              "Run the command fairway as the lab's administrator; flags of lab go before the word fairway",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := cluster.Open(*name)
			if err != nil {
				return err
			}
			set, err := images.Ensure(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return attach(workload.Shell(cmd.Context(), lab, set.Shell, args...))
		},
	}
}

func execCommand(name *string) *cobra.Command {
	return passthrough(&cobra.Command{
		Use:   "exec HOST [COMMAND ARGS...]",
		Short: "Run a command inside a host of the lab; without one, a shell",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := cluster.Open(*name)
			if err != nil {
				return err
			}
			host := lab.Host(args[0])
			if host == nil {
				return fmt.Errorf("lab %s has no host %q", *name, args[0])
			}
			command := args[1:]
			if len(command) == 0 {
				command = []string{"/bin/sh"}
			}
			return attach(host.Command(cmd.Context(), command[0], command[1:]...))
		},
	})
}

// passthrough leaves flags after the first plain argument to the program that is run.
func passthrough(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// programFailed is the exit code of a program that was run for the user, such as kubectl. It has said
// itself what went wrong.
type programFailed int

func (code programFailed) Error() string { return fmt.Sprintf("exit code %d", int(code)) }

// attach runs a command on this terminal.
func attach(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return programFailed(max(failed.ExitCode(), 1))
	}
	return err
}
