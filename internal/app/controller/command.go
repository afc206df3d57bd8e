package controller

import (
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// Command is the command line of the controller.
func Command() *cobra.Command {
	o := Default()
	cmd := &cobra.Command{
		Use:   "fairway-controller",
		Short: "Do what takes a view of the whole cluster: dead nodes, Services in Consul and from there",
		Long: `fairway-controller runs as two replicas or more, of which one leads and the
others watch too. Where pods are registered with the Consul servers it notices
that a Kubernetes node is dead, and hides its entries from clients. It publishes
Services in Consul (--export), and makes Services of what Consul has (--import).

It takes nothing away because it fails, is stopped or cannot see.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Validate(); err != nil {
				return err
			}
			o.Version = cmd.Root().Version
			log := o.Logger(cmd.ErrOrStderr())
			klog.SetSlogLogger(log.With("component", "client-go"))
			c, err := New(o, log)
			if err != nil {
				return err
			}
			return c.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	o.ConsulOptions.AddFlags(f, "the Consul servers")
	o.LogOptions.AddFlags(f)
	o.ExportOptions.AddFlags(f)
	o.ImportOptions.addFlags(f)
	f.IntVar(&o.AgentPort, "agent-port", o.AgentPort, "port on the nodes at which their agents serve /healthz (the agents' --listen)")
	f.StringVar(&o.ClusterID, "cluster-id", o.ClusterID, "id of this cluster, unique among those that share a Consul (env CLUSTER_ID)")
	f.DurationVar(&o.ForgetNodesAfter, "forget-nodes-after", o.ForgetNodesAfter, "how long after its Node was deleted a node is removed from Consul")
	f.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubeconfig file; without one the pod's service account is used")
	f.StringVar(&o.Listen, "listen", o.Listen, "address of /metrics, /healthz and /readyz")
	f.Float64Var(&o.MaxDeadShare, "max-dead-share", o.MaxDeadShare, "largest share of the cluster's nodes that may look dead and be believed to be; more are frozen")
	f.BoolVar(&o.Nodes, "nodes", o.Nodes, "mind the cluster's nodes: hide the entries of those that died. Agents with --registry=catalog need it")
	f.StringVar(&o.PodName, "pod-name", o.PodName, "the controller's own pod, by which it is told from the other replicas (env POD_NAME)")
	f.StringVar(&o.PodNamespace, "pod-namespace", o.PodNamespace, "namespace of the controller's own pod, and of the Lease of its leader (env POD_NAMESPACE)")
	return cmd
}
