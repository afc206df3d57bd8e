package controller

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
)

// A write is tried until it succeeds, however often it has failed, and then not again.
func TestWritesAreTriedUntilTheySucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const failures, resync = 50, time.Minute
		kube := newFakeKubernetes()
		kube.set("web", 1)
		consul := &stubbornShard{failures: failures}
		metrics, log := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
		leader := &leadership{log: log, metrics: newMetrics(metrics)}
		var shards []shardRegistry
		for range export.Shards {
			shards = append(shards, consul)
		}
		e := newExporter(exporter{
			source: kube, leader: leader, leads: leader.begins(), events: kube, permits: kube,
			report: newBoard(leader.metrics).loop("nothing was read yet"),
			log:    log, metrics: newExportMetrics(metrics), pulse: process.NewPulse("export", stuckAfter),
			maxShare: 0.5, resync: resync,
		}, shards, exportPolicy("east"))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		leader.begin(ctx)
		go func() { _ = e.run(ctx) }()

		time.Sleep(failures*resync + time.Hour)
		consul.mu.Lock()
		defer consul.mu.Unlock()
		if consul.tries != failures+1 {
			t.Errorf("tried %d times, want %d until it succeeds and none after", consul.tries, failures+1)
		}
	})
}

// stubbornShard takes a write only after it has failed so often.
type stubbornShard struct {
	failures int

	mu      sync.Mutex
	tries   int
	entries []registration.Entry
}

func (s *stubbornShard) Observe(context.Context) ([]registration.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries, nil
}

func (s *stubbornShard) Apply(_ context.Context, op registration.Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tries++; s.tries <= s.failures {
		return errors.New("not now")
	}
	s.entries = []registration.Entry{{Instance: op.Instance, Cluster: "east", HasCheck: true}}
	return nil
}

func (s *stubbornShard) Renew(context.Context, []registration.Entry) error { return nil }
func (s *stubbornShard) MostWrites() int                                   { return 1 }
