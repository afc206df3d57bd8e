// Command bench measures Fairway in a lab of its own. Its last line of output
// is one JSON object; everything else goes to standard error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{Use: "bench", Short: "Measure Fairway in a lab", SilenceUsage: true}
	root.AddCommand(gateCommand(), faultsCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		os.Exit(1)
	}
}

// withLab runs measure in a fresh lab with Fairway installed and prints what
// it returns as one line of JSON. Where Fairway registers with the servers, the
// nodes have no Consul client agents. KEEP=1 leaves the lab up.
func withLab(ctx context.Context, registry workload.Registry, measure func(context.Context, *cluster.Cluster) (any, error)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	topology := cluster.Default("bench")
	topology.ConsulAgents = registry == workload.ConsulAgents
	lab, err := cluster.UpOwned(ctx, topology, os.Stderr)
	if err != nil {
		return err
	}
	if os.Getenv("KEEP") != "1" {
		defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx))) }()
	}
	if err := workload.InstallFairway(ctx, lab, registry, os.Stderr); err != nil {
		return err
	}
	result, err := measure(ctx, lab)
	if err != nil {
		return err
	}
	line, err := json.Marshal(result)
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(line))
	return err
}

// quantiles sums up durations in milliseconds.
type quantiles struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// summarize takes the nearest rank: with 20 values p99 is the largest.
func summarize(values []time.Duration) quantiles {
	if len(values) == 0 {
		return quantiles{}
	}
	slices.Sort(values)
	rank := func(p float64) float64 {
		i := int(p*float64(len(values))+0.9999) - 1
		return milliseconds(values[max(i, 0)])
	}
	return quantiles{N: len(values), P50: rank(0.50), P99: rank(0.99), Max: milliseconds(values[len(values)-1])}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond).Microseconds()) / 1000
}
