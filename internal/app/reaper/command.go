package reaper

import "github.com/spf13/cobra"

// Command is the command line of the reaper.
func Command() *cobra.Command {
	o := Default()
	cmd := &cobra.Command{
		Use:   "fairway-reaper",
		Short: "Hide what clusters have published in Consul that are dead",
		Long: `fairway-reaper runs beside Consul's servers, and needs no Kubernetes. A cluster of
which nothing is heard any more, neither an agent at its port nor an answer in
Consul, cannot take out what it has published. The reaper hides that from clients
until something of the cluster is back, which puts it right by itself.

It takes nothing away because it fails, is stopped or cannot see. Several can run.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Validate(); err != nil {
				return err
			}
			o.Version = cmd.Root().Version
			r, err := New(o, o.Logger(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			return r.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	o.ConsulOptions.AddFlags(f, "the Consul servers")
	o.LogOptions.AddFlags(f)
	f.IntVar(&o.AgentPort, "agent-port", o.AgentPort, "port on the clusters' nodes at which agents serve /healthz (the agents' --listen)")
	f.DurationVar(&o.AnswerWithin, "answer-within", o.AnswerWithin, "how long the answer to a question in Consul may take: more than twice the controllers' --export-resync")
	f.DurationVar(&o.DeadAfter, "dead-after", o.DeadAfter, "how long nothing must have been heard of a cluster: twice --answer-within or more")
	f.StringVar(&o.Listen, "listen", o.Listen, "address of /metrics, /healthz and /readyz")
	return cmd
}
