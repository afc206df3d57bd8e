package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/service"
)

// countedSide counts the passes that look at it.
type countedSide struct {
	*kubeSide
	looks atomic.Int64
}

func (c *countedSide) Snapshot() ([]service.Pod, bool) {
	c.looks.Add(1)
	return c.kubeSide.Snapshot()
}

// allPass are servers that return everything to clients.
type allPass struct{}

func (allPass) Prove(_ context.Context, instances []service.Instance) map[string]gate.Proof {
	proofs := map[string]gate.Proof{}
	for _, in := range instances {
		proofs[in.ID] = gate.Proof{Finding: gate.Passing, Index: 1, At: time.Now()}
	}
	return proofs
}

// I6: once a gate is open, and also while its pod ends, nothing is due.
func TestI6GatekeeperAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods := &countedSide{kubeSide: newKubeSide()}
		board := startPublisher(t, pods.kubeSide, &memory{})
		g := &gatekeeper{
			source: pods, changed: pods.Subscribe(), prover: allPass{}, writer: pods, board: board,
			gates: []string{service.GateReachable},
			log:   slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry()), pulse: process.NewPulse("gatekeeper", stuckAfter),
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = g.run(ctx) }()

		pod := webPod(1)
		pods.set(pod)
		synctest.Wait()
		if got := pods.condition("uid-1", service.GateReachable); got.Status != service.ConditionTrue {
			t.Fatalf("the gate is not open: %+v", got)
		}
		passes := func(what string) {
			before := pods.looks.Load()
			time.Sleep(time.Hour) // virtual time
			synctest.Wait()
			if n := pods.looks.Load() - before; n > 70 {
				t.Errorf("%s: %d passes in an hour; want one a minute", what, n)
			}
		}
		passes("gate open")
		pod.Terminating = true
		pods.set(pod)
		passes("pod terminates")
	})
}
