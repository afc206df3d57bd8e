package gatesidecar

import (
	"log/slog"

	"github.com/spf13/cobra"
)

// Command is the command line of fairway-gate.
func Command() *cobra.Command {
	o := Default()
	cmd := &cobra.Command{
		Use:   "fairway-gate",
		Short: "Ask the node's agent when this pod may be sent requests and when it may stop",
		Long: `fairway-gate runs beside an app, as a native sidecar or as a container of the
pod. Its /drain is for the app's preStop hook: it takes the pod out of service
and answers when the Consul servers give it to clients no longer. Its /ready
answers 200 once they do give it to clients.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Validate(); err != nil {
				return err
			}
			return New(o, slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))).Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Agent, "agent", o.Agent, "host:port of the node's agent (default: port 9981 of the env HOST_IP)")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", o.DrainTimeout, "how long to wait until the pod is confirmed out of service")
	f.StringVar(&o.Listen, "listen", o.Listen, "address of /ready, /drain and /healthz")
	f.DurationVar(&o.Settle, "settle", o.Settle, "how long clients are given, once the servers have dropped the pod, before /drain answers")
	f.StringVar(&o.TokenFile, "token-file", o.TokenFile, "service-account token with audience fairway")
	return cmd
}
