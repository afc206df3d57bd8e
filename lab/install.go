package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

func installCommand(name *string) *cobra.Command {
	var registry workload.Registry
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install Fairway in a lab, as it is in this checkout; again to upgrade it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			lab, err := cluster.Open(*name)
			if err != nil {
				return err
			}
			if registry == "" {
				registry = workload.ConsulServers
				if lab.ConsulAgents {
					registry = workload.ConsulAgents
				}
			}
			if err := workload.InstallFairway(cmd.Context(), lab, registry, cmd.OutOrStdout()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Fairway registers pods with registry=%s\n", registry)
			return nil
		},
	}
	cmd.Flags().Var(&registry, "registry", "agent or catalog (docs/registries.md); by default whichever suits the lab")
	return cmd
}
