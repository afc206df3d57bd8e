// Package e2e proves Fairway on a real cluster: kube-apiserver, kubelets,
// containerd and Consul servers of the lab, Fairway installed by Helm from its
// own image. One lab serves all tests of the package that run in one process.
package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

// fleet is the lab that all tests share.
var fleet struct {
	side
	consul []*api.Client // the servers
	// registry is where Fairway registers pods now.
	registry workload.Registry
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if err := setUp(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: the lab did not come up:", err)
		return 1
	}
	if os.Getenv("KEEP") != "1" {
		defer func() {
			if err := fleet.lab.Down(context.WithoutCancel(ctx)); err != nil {
				fmt.Fprintln(os.Stderr, "e2e:", err)
			}
		}()
	}
	return m.Run()
}

func setUp(ctx context.Context) error {
	topology := cluster.Default(cmp.Or(os.Getenv("LAB"), "e2e"))
	if version := os.Getenv("KUBERNETES"); version != "" {
		topology.Kubernetes = version
	}
	lab, err := cluster.UpOwned(ctx, topology, os.Stderr)
	if err != nil {
		return err
	}
	if fleet.side, err = newSide(lab); err != nil {
		return err
	}
	fleet.consul = lab.ConsulServers()
	fleet.registry = workload.ConsulAgents
	return workload.InstallFairway(ctx, lab, fleet.registry, os.Stderr)
}
