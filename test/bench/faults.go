package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/matrix"
	"fairway.dev/fairway/lab/workload"
)

// faultsResult is the JSON line of bench faults.
type faultsResult struct {
	Bench    string      `json:"bench"`
	Registry string      `json:"registry"`
	Pods     int32       `json:"pods"`
	Rows     []faultLine `json:"rows"`
}

type faultLine struct {
	Fault         string  `json:"fault"`
	HeldSeconds   float64 `json:"held_s"`
	Lost          int     `json:"lost"`
	Calls         int     `json:"calls"`
	Failed        int     `json:"failed"`
	Excused       int     `json:"excused"`
	Writes        int     `json:"writes"`
	ConvergedSecs float64 `json:"converged_s"`
	Amiss         string  `json:"amiss,omitempty"` // until then
}

type faultsOptions struct {
	registry workload.Registry
	pods     int32
	only     string // part of the names of the faults to try
	page     string // gets the table; none if empty
}

func faultsCommand() *cobra.Command {
	opts := faultsOptions{registry: workload.ConsulAgents}
	cmd := &cobra.Command{
		Use:   "faults",
		Short: "Break all that Fairway depends on and count what clients notice",
		Long: `Runs a fleet of gated pods under client load and puts one fault after the
other in force. For each it counts healthy instances that the Consul servers
dropped, failed calls, records of the catalog that were written, and how long
after the fault everything was as before. Fails if a promise was broken.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withFairway(cmd.Context(), opts.registry, func(ctx context.Context, lab *cluster.Cluster) (any, error) {
				return tryFaults(ctx, lab, opts)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.page, "write", "", "Markdown page in which to replace the table")
	flags.StringVar(&opts.only, "only", "", "only faults whose name contains this")
	flags.Int32Var(&opts.pods, "pods", 60, "size of the fleet")
	flags.Var(&opts.registry, "registry", "where Fairway registers pods, agent or catalog; with catalog nodes have no Consul client agent")
	return cmd
}

func tryFaults(ctx context.Context, lab *cluster.Cluster, opts faultsOptions) (any, error) {
	app := workload.App{Namespace: metav1.NamespaceDefault, Name: "fleet", Replicas: opts.pods, LeaveSeconds: 2}
	f, err := matrix.Start(ctx, lab, opts.registry, app)
	if err != nil {
		return nil, err
	}
	defer f.Stop()
	var rows []matrix.Row
	var broken []error
	result := faultsResult{Bench: "faults", Registry: string(opts.registry), Pods: opts.pods}
	for _, fault := range matrix.Faults(opts.registry) {
		if !strings.Contains(fault.Name, opts.only) {
			continue
		}
		row, err := f.Try(ctx, fault, fault.Hold)
		if err != nil {
			return nil, errors.Join(append(broken, err)...)
		}
		rows = append(rows, row)
		if err := matrix.Table(os.Stderr, rows[len(rows)-1:]); err != nil {
			return nil, err
		}
		if err := row.Problems(); err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", row.Fault, err))
		}
		result.Rows = append(result.Rows, faultLine{
			Fault: row.Fault, HeldSeconds: row.Held.Seconds(), Lost: row.Lost, Calls: row.Calls, Failed: row.Failed,
			Excused: row.Excused, Writes: len(row.Written), ConvergedSecs: row.Converged.Seconds(),
			Amiss: row.Amiss,
		})
	}
	if err := errors.Join(broken...); err != nil {
		return nil, err
	}
	if opts.page != "" {
		var table strings.Builder
		if err := matrix.Table(&table, rows); err != nil {
			return nil, err
		}
		if err := replaceTable(opts.page, "faults", table.String()); err != nil {
			return nil, err
		}
	}
	return result, nil
}
