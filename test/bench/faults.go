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
	Bench string      `json:"bench"`
	Pods  int32       `json:"pods"`
	Rows  []faultLine `json:"rows"`
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
}

func faultsCommand() *cobra.Command {
	var page, only string
	var pods int32
	cmd := &cobra.Command{
		Use:   "faults",
		Short: "Break all that Fairway depends on and count what clients notice",
		Long: `Runs a fleet of gated pods under client load and puts one fault after the
other in force. For each it counts healthy instances that the Consul servers
dropped, failed calls, records of the catalog that were written, and how long
after the fault everything was as before. Fails if a promise was broken.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withFairway(cmd.Context(), func(ctx context.Context, lab *cluster.Cluster) (any, error) {
				return tryFaults(ctx, lab, pods, only, page)
			})
		},
	}
	cmd.Flags().StringVar(&page, "write", "", "Markdown page in which to replace the table")
	cmd.Flags().StringVar(&only, "only", "", "only faults whose name contains this")
	cmd.Flags().Int32Var(&pods, "pods", 60, "size of the fleet")
	return cmd
}

func tryFaults(ctx context.Context, lab *cluster.Cluster, pods int32, only, page string) (any, error) {
	app := workload.App{Namespace: metav1.NamespaceDefault, Name: "fleet", Replicas: pods, LeaveSeconds: 2}
	f, err := matrix.Start(ctx, lab, app)
	if err != nil {
		return nil, err
	}
	defer f.Stop()
	var rows []matrix.Row
	var broken []error
	result := faultsResult{Bench: "faults", Pods: pods}
	for _, fault := range matrix.Faults() {
		if !strings.Contains(fault.Name, only) {
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
		})
	}
	if err := errors.Join(broken...); err != nil {
		return nil, err
	}
	if page != "" {
		var table strings.Builder
		if err := matrix.Table(&table, rows); err != nil {
			return nil, err
		}
		if err := replaceTable(page, "faults", table.String()); err != nil {
			return nil, err
		}
	}
	return result, nil
}
