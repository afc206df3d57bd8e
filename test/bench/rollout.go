package main

import "github.com/spf13/cobra"

func rolloutCommand() *cobra.Command { return &cobra.Command{Use: "rollout"} }
