package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"time"

	"fairway.dev/fairway/internal/consul/agentapi"
)

// Options of an agent process.
type Options struct {
	ClusterID string
	NodeName  string

	ConsulAddress   string
	ConsulTokenFile string
	ConsulCAFile    string
	ConsulCertFile  string
	ConsulKeyFile   string

	Kubeconfig string // empty: the pod's own service account
	Listen     string // host:port of /metrics, /healthz and /readyz

	GRPCListen       string // host:port for fairway-gate; empty: off
	KatalogRPCListen string // host:port for katalog-sync's sidecars; empty: off
	SigningKeysFile  string // keeps the cluster's signing keys; empty: nothing does

	CheckTTL time.Duration
	Resync   time.Duration

	LogFormat string // text or json
	LogLevel  slog.Level
}

// Default returns the options of an agent that nobody has configured. What
// differs per process, the cluster and the node, is taken from the environment.
func Default() Options {
	return Options{
		ClusterID:     os.Getenv("CLUSTER_ID"),
		NodeName:      os.Getenv("NODE_NAME"),
		ConsulAddress: "http://127.0.0.1:8500",
		Listen:        ":9980",
		GRPCListen:    ":9981",
		CheckTTL:      agentapi.DefaultCheckTTL,
		Resync:        10 * time.Second,
		LogFormat:     "json",
		LogLevel:      slog.LevelInfo,
	}
}

// clusterIDs are names that can stand in a label, a metric and a URL.
var clusterIDs = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// Validate names everything that is wrong.
func (o Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(clusterIDs.MatchString(o.ClusterID),
		"--cluster-id %q: must be 1 to 63 letters, digits, '.', '_' or '-', and differ between clusters that share a Consul", o.ClusterID)
	check(o.NodeName != "", "--node-name: required; the Kubernetes node that this agent serves")
	check(o.ConsulAddress != "", "--consul-address: required")
	check((o.ConsulCertFile == "") == (o.ConsulKeyFile == ""), "--consul-cert-file and --consul-key-file go together")
	for _, a := range []struct{ flag, address string }{
		{"--listen", o.Listen}, {"--grpc-listen", o.GRPCListen}, {"--katalog-rpc-listen", o.KatalogRPCListen},
	} {
		_, _, err := net.SplitHostPort(a.address)
		check(err == nil || a.address == "" && a.flag != "--listen", "%s %q: must be host:port or :port", a.flag, a.address)
	}
	check(o.CheckTTL >= time.Minute, "--check-ttl %s: must be 1m or more, it has to outlast a restart of this agent", o.CheckTTL)
	check(o.Resync >= time.Second, "--resync %s: must be 1s or more", o.Resync)
	check(o.LogFormat == "text" || o.LogFormat == "json", "--log-format %q: must be text or json", o.LogFormat)
	return errors.Join(errs...)
}
