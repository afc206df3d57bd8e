package e2e

import (
	"testing"

	"fairway.dev/fairway/lab/matrix"
	"fairway.dev/fairway/lab/workload"
)

// TestI2FaultMatrix tries every fault that `make faults` measures, in its short
// form: no healthy instance is lost but with a node that Consul's own members
// took for dead while they were cut off, no call fails, and what only restarts
// writes nothing.
func TestI2FaultMatrix(t *testing.T) { tryFaults(t, matrix.Faults(fleet.registry)) }

func tryFaults(t *testing.T, faults []matrix.Fault) {
	t.Helper()
	app := fresh(t, workload.App{Name: "matrix", Replicas: 6, LeaveSeconds: 2})
	f, err := matrix.Start(t.Context(), fleet.lab, fleet.registry, app)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	for _, fault := range faults {
		t.Run(fault.Name, func(t *testing.T) {
			row, err := f.Try(t.Context(), fault, fault.Short)
			if err != nil {
				t.Fatal(err)
			}
			if err := row.Problems(); err != nil {
				t.Error(err)
			}
			t.Logf("%d calls, %d records written, %d instances out with their node, converged after %s: %s",
				row.Calls, len(row.Written), row.NodeOut, row.Converged, row.Amiss)
		})
	}
}
