package main

import (
	"slices"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/lab/debian"
	"fairway.dev/fairway/lab/images"
	"fairway.dev/fairway/lab/servers"
)

func buildCommand() *cobra.Command {
	var kubernetes string
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Install and build all that labs and tests need, so that they can start at once",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			if err := debian.Ensure(ctx, out, slices.Concat(debian.ForLab(), debian.ForRace())...); err != nil {
				return err
			}
			if _, err := servers.Ensure(ctx, servers.Options{Kubernetes: kubernetes, Out: out}); err != nil {
				return err
			}
			_, err := images.Ensure(ctx, out)
			return err
		},
	}
	cmd.Flags().StringVar(&kubernetes, "kubernetes", "1.37", "Kubernetes version, 1.37 or 1.36")
	return cmd
}
