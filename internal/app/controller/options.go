package controller

import (
	"net"
	"os"
	"time"

	"fairway.dev/fairway/internal/app/process"
)

// Options of a controller process.
type Options struct {
	ClusterID string

	process.ConsulOptions
	process.LogOptions
	ExportOptions

	// PodNamespace and PodName name the controller's own pod.
	PodNamespace, PodName string

	Kubeconfig string // empty: the pod's own service account
	Listen     string // host:port of /metrics, /healthz and /readyz

	// Nodes is whether the cluster's nodes are minded.
	Nodes bool
	// AgentPort is that of the nodes' agents.
	AgentPort int
	// MaxDeadShare, from 0 to 1, and ForgetNodesAfter: see nodelease.Input.
	MaxDeadShare     float64
	ForgetNodesAfter time.Duration

	ImportOptions

	Version string // of this program
}

// Default returns the options of a controller that nobody has configured. What
// differs per process is taken from the environment.
func Default() Options {
	return Options{
		ClusterID:        os.Getenv("CLUSTER_ID"),
		ConsulOptions:    process.DefaultConsul(),
		LogOptions:       process.DefaultLog(),
		ExportOptions:    DefaultExport(),
		Nodes:            true,
		PodNamespace:     os.Getenv("POD_NAMESPACE"),
		PodName:          os.Getenv("POD_NAME"),
		Listen:           ":9980",
		AgentPort:        9980,
		MaxDeadShare:     0.5,
		ForgetNodesAfter: time.Hour,
		ImportOptions:    defaultImport(),
	}
}

// Validate names everything that is wrong.
func (o Options) Validate() error {
	var c process.Check
	c.All(process.CheckClusterID(o.ClusterID), o.ConsulOptions.Validate(), o.LogOptions.Validate(), o.ExportOptions.Validate(), o.ImportOptions.Validate())
	_, _, err := net.SplitHostPort(o.Listen)
	c.That(err == nil, "--listen %q: must be host:port or :port", o.Listen)
	c.That(o.Nodes || o.Export || o.Import, "--nodes, --export and --import: there is nothing to do without one of them")
	c.That(o.AgentPort > 0 && o.AgentPort < 1<<16, "--agent-port %d: must be a port", o.AgentPort)
	c.That(o.MaxDeadShare >= 0 && o.MaxDeadShare <= 1, "--max-dead-share %v: must be from 0 to 1", o.MaxDeadShare)
	c.That(o.ForgetNodesAfter >= time.Minute, "--forget-nodes-after %s: must be 1m or more", o.ForgetNodesAfter)
	c.That(o.PodName != "" && o.PodNamespace != "", "--pod-name and --pod-namespace: required; the controller's own pod")
	return c.Err()
}
