package agent

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul/agentapi"
	"fairway.dev/fairway/internal/succession"
)

// Options of an agent process.
type Options struct {
	ClusterID string
	NodeName  string

	Registry    string // RegistryAgent or RegistryCatalog
	NodeAddress string // the node's IP; for RegistryCatalog

	process.ConsulOptions
	process.LogOptions

	// PodNamespace and PodName name the agent's own pod; empty if it is in none.
	PodNamespace, PodName string

	Kubeconfig string // empty: the pod's own service account

	PodSource      string // auto, podsapi, informer or kubelet
	PodsAPISocket  string // of the kubelet's pods API
	KubeletAddress string // host or host:port, for PodSource kubelet

	Listen string // host:port of /metrics, /healthz and /readyz

	GRPCListen       string // host:port for fairway-gate; empty: off
	KatalogRPCListen string // host:port for katalog-sync's sidecars; empty: off
	KatalogSync      succession.Mode
	SigningKeysFile  string // keeps the cluster's signing keys; empty: nothing does

	CheckTTL time.Duration
	Resync   time.Duration
	// MaxRemovalShare, from 0 to 1; see registration.Evidence.
	MaxRemovalShare float64

	Version string // of this program
}

// The values of Options.Registry.
const (
	RegistryAgent   = "agent"   // the node's Consul client agent
	RegistryCatalog = "catalog" // the Consul servers, under a virtual node
)

// Default returns the options of an agent that nobody has configured. What
// differs per process, the cluster and the node, is taken from the environment.
func Default() Options {
	return Options{
		ClusterID:       os.Getenv("CLUSTER_ID"),
		NodeName:        os.Getenv("NODE_NAME"),
		Registry:        RegistryAgent,
		NodeAddress:     os.Getenv("NODE_IP"),
		PodNamespace:    os.Getenv("POD_NAMESPACE"),
		PodName:         os.Getenv("POD_NAME"),
		ConsulOptions:   process.DefaultConsul(),
		LogOptions:      process.DefaultLog(),
		Listen:          ":9980",
		GRPCListen:      ":9981",
		CheckTTL:        agentapi.DefaultCheckTTL,
		Resync:          10 * time.Second,
		MaxRemovalShare: 0.5,
		PodSource:       sourceAuto,
		PodsAPISocket:   "/var/lib/kubelet/pods-api/pods-api.sock",
		KubeletAddress:  os.Getenv("NODE_IP"),
	}
}

// Validate names everything that is wrong.
func (o Options) Validate() error {
	var c process.Check
	c.All(process.CheckClusterID(o.ClusterID), o.ConsulOptions.Validate(), o.LogOptions.Validate())
	c.That(o.NodeName != "", "--node-name: required; the Kubernetes node that this agent serves")
	c.That(o.Registry == RegistryAgent || o.Registry == RegistryCatalog, "--registry %q: must be agent or catalog", o.Registry)
	if o.Registry == RegistryCatalog {
		_, err := netip.ParseAddr(o.NodeAddress)
		c.That(err == nil, "--node-address %q: must be the node's IP address with --registry catalog", o.NodeAddress)
	}
	c.That(slices.Contains([]succession.Mode{succession.Apart, succession.Successor, succession.Predecessor}, o.KatalogSync),
		"--katalog-sync %q: must be %s or %s, or not be given", o.KatalogSync, succession.Successor, succession.Predecessor)
	c.That(o.KatalogSync == succession.Apart || o.Registry == RegistryAgent,
		"--katalog-sync: only with --registry agent; katalog-sync registers with client agents")
	c.That(slices.Contains([]string{sourceAuto, sourcePodsAPI, sourceInformer, sourceKubelet}, o.PodSource),
		"--pod-source %q: must be auto, podsapi, informer or kubelet", o.PodSource)
	c.That(o.PodSource != sourceAuto && o.PodSource != sourcePodsAPI || filepath.IsAbs(o.PodsAPISocket),
		"--pods-api-socket %q: must be the path of the kubelet's socket", o.PodsAPISocket)
	c.That(o.PodSource != sourceKubelet || o.KubeletAddress != "", "--kubelet-address: required with --pod-source=kubelet")
	for _, a := range []struct{ flag, address string }{
		{"--listen", o.Listen}, {"--grpc-listen", o.GRPCListen}, {"--katalog-rpc-listen", o.KatalogRPCListen},
	} {
		_, _, err := net.SplitHostPort(a.address)
		c.That(err == nil || a.address == "" && a.flag != "--listen", "%s %q: must be host:port or :port", a.flag, a.address)
	}
	c.That(o.CheckTTL >= time.Minute, "--check-ttl %s: must be 1m or more, it has to outlast a restart of this agent", o.CheckTTL)
	c.That(o.MaxRemovalShare >= 0 && o.MaxRemovalShare <= 1, "--max-removal-share %v: must be from 0 to 1", o.MaxRemovalShare)
	c.That((o.PodName == "") == (o.PodNamespace == ""), "--pod-name and --pod-namespace go together")
	c.That(o.Resync >= time.Second, "--resync %s: must be 1s or more", o.Resync)
	return c.Err()
}
