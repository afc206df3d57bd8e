package agent

import (
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// Command is the command line of the agent.
func Command() *cobra.Command {
	o := Default()
	cmd := &cobra.Command{
		Use:   "fairway-agent",
		Short: "Publish this node's pods to Consul and open their readiness gates on proof",
		Long: `fairway-agent runs on every node. It registers the pods of the node that ask
for it with the node's Consul agent, or with the Consul servers where nodes have
no agent, keeps their health there, and opens the readiness gate
fairway.dev/reachable of a pod when the Consul servers return that very pod to
clients as passing.

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
			a, err := New(o, log)
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	o.ConsulOptions.AddFlags(f, "the node's Consul agent, or the Consul servers")
	o.LogOptions.AddFlags(f)
	f.DurationVar(&o.CheckTTL, "check-ttl", o.CheckTTL, "how long entries outlive a Fairway that is gone for good, before Consul calls them critical")
	f.StringVar(&o.ClusterID, "cluster-id", o.ClusterID, "id of this cluster, unique among those that share a Consul (env CLUSTER_ID)")
	f.StringVar(&o.GRPCListen, "grpc-listen", o.GRPCListen, "address at which fairway-gate asks for its pod; empty: off")
	f.StringVar(&o.KatalogRPCListen, "katalog-rpc-listen", o.KatalogRPCListen, "address of katalog-sync's RPC, for its sidecars; empty: off")
	f.StringVar((*string)(&o.KatalogSync), "katalog-sync", string(o.KatalogSync), "take-over: take katalog-sync's place on this node; hand-back: give it back; empty: leave what is katalog-sync's alone")
	f.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubeconfig file; without one the pod's service account is used")
	f.StringVar(&o.KubeletAddress, "kubelet-address", o.KubeletAddress, "the node's kubelet, host or host:port, for --pod-source=kubelet (env NODE_IP)")
	f.StringVar(&o.Listen, "listen", o.Listen, "address of /metrics, /healthz, /readyz and the view for the command fairway")
	f.Float64Var(&o.MaxRemovalShare, "max-removal-share", o.MaxRemovalShare, "largest share of the instances in service, of the node or of a service on it, that may be removed within a minute on one word; more are frozen")
	f.StringVar(&o.NodeAddress, "node-address", o.NodeAddress, "IP address of the node, shown in Consul's catalog; needed with --registry catalog (env NODE_IP)")
	f.StringVar(&o.NodeName, "node-name", o.NodeName, "Kubernetes node that this agent serves (env NODE_NAME)")
	f.StringVar(&o.Registry, "registry", o.Registry, "where pods are registered: agent (the node's Consul agent) or catalog (the Consul servers)")
	f.StringVar(&o.PodName, "pod-name", o.PodName, "the agent's own pod, on which it tells what is frozen (env POD_NAME)")
	f.StringVar(&o.PodNamespace, "pod-namespace", o.PodNamespace, "namespace of the agent's own pod (env POD_NAMESPACE)")
	f.StringVar(&o.PodSource, "pod-source", o.PodSource, "where the node's pods come from: auto, podsapi, informer or kubelet")
	f.StringVar(&o.PodsAPISocket, "pods-api-socket", o.PodsAPISocket, "socket of the kubelet's pods API, for --pod-source=auto and podsapi")
	f.DurationVar(&o.Resync, "resync", o.Resync, "how often the registry is looked at without a change of a pod, to repair what others changed")
	f.StringVar(&o.SigningKeysFile, "signing-keys-file", o.SigningKeysFile, "file that keeps the keys by which pods' tokens are checked, for a start while the API server is away; empty: none")
	return cmd
}
