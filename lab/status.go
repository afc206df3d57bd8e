package main

import (
	"fmt"
	"os/exec"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/lab/cluster"
)

func statusCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show a lab's processes, nodes and Consul members, and which labs there are",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			labs, err := cluster.List()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "labs on this machine: %v\n", labs)
			lab, err := cluster.Open(*name)
			if err != nil {
				return err
			}
			fmt.Fprintln(out)
			table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			if err := printProcesses(table, lab); err != nil {
				return err
			}
			for _, part := range lab.Health(cmd.Context()) {
				fmt.Fprintf(table, "%s\t%s\n", part.Name, part.State)
			}
			return table.Flush()
		},
	}
}

func printProcesses(table *tabwriter.Writer, lab *cluster.Cluster) error {
	processes, err := lab.Processes()
	if err != nil {
		return err
	}
	fmt.Fprintln(table, "PROCESS\tSTATE\tPID\tLOG")
	for _, p := range processes {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", p.ID(), p.State(), p.PID, lab.Log(p))
	}
	fmt.Fprintln(table)
	return nil
}

func logsCommand(name *string) *cobra.Command {
	var follow bool
	var lines int
	cmd := &cobra.Command{
		Use:   "logs HOST/PROCESS",
		Short: "Show the log of a process, such as n1/kubelet; \"status\" lists them",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, err := cluster.Open(*name)
			if err != nil {
				return err
			}
			p, err := lab.Process(args[0])
			if err != nil {
				return err
			}
			tail := []string{"--lines=" + strconv.Itoa(lines)}
			if follow {
				tail = append(tail, "--follow=name")
			}
			return attach(exec.CommandContext(cmd.Context(), "tail", append(tail, lab.Log(p))...))
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep showing what is added")
	cmd.Flags().IntVarP(&lines, "lines", "n", 50, "number of lines to begin with")
	return cmd
}
