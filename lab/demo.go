package main

import (
	"os"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/lab/demo"
)

func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show rolling updates that wait for Consul, in a lab of their own; KEEP=1 leaves the lab up",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Run(cmd.Context(), cmd.OutOrStdout(), os.Getenv("KEEP") == "1")
		},
	}
}
