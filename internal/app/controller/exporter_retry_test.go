package controller

import (
	"context"
	"errors"
	"log/slog"
	"slices"
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
		_, end := publishing(t, kube, consul, resync)
		defer end()
		time.Sleep(failures*resync + time.Hour)
		consul.mu.Lock()
		defer consul.mu.Unlock()
		if consul.tries != failures+1 {
			t.Errorf("tried %d times, want %d until it succeeds and none after", consul.tries, failures+1)
		}
	})
}

// publishing runs the loop of a controller that leads, with one registry for all
// shards, until end is called. It begins to lead anew with each call of leads.
func publishing(t *testing.T, kube *fakeKubernetes, consul shardRegistry, resync time.Duration) (leads, end func()) {
	metrics, log := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	leader := unelected(log, newMetrics(metrics))
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
	leader.begin(ctx)
	go func() { _ = e.run(ctx) }()
	return func() { leader.begin(ctx) }, cancel
}

// However long Consul was away, all is read soon after it is back, at once, for
// somebody may have hidden it; and then in turns again.
func TestAllIsReadWhenConsulIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const resync = 5 * time.Minute
		consul := &awayShard{}
		leads, end := publishing(t, newFakeKubernetes(), consul, resync)
		defer end()
		inTurns := func(when string) {
			t.Helper()
			time.Sleep(resync)
			for range 4 {
				consul.be(false)
				time.Sleep(resync / 4)
				if reads := consul.be(false); reads < export.Shards/4-1 || reads > export.Shards/4+1 {
					t.Errorf("%s: %d reads in a quarter of a turn, of %d shards", when, reads, export.Shards)
				}
			}
		}
		time.Sleep(time.Minute)
		leads() // again
		inTurns("it leads")
		for _, away := range []time.Duration{20 * time.Second, time.Hour} {
			consul.be(true)
			time.Sleep(away)
			if before := consul.be(false); before < 1 || before > int(away/time.Second)*export.Shards {
				t.Errorf("%d reads in %s", before, away)
			}
			time.Sleep(againWithin + time.Second)
			if reads := consul.be(false); reads < export.Shards || reads > 2*export.Shards {
				t.Errorf("%d reads when Consul is back after %s, of %d shards", reads, away, export.Shards)
			}
			inTurns("Consul is back after " + away.String())
		}
	})
}

// awayShard is empty, and does not answer while it is away.
type awayShard struct {
	mu    sync.Mutex
	away  bool
	reads int
}

// be says whether it is away from now on, and how often it was read since before.
func (s *awayShard) be(away bool) (reads int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reads, s.away, s.reads = s.reads, away, 0
	return reads
}

func (s *awayShard) Refresh(context.Context) (entries []registration.Entry, changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.away {
		return nil, false, errors.New("away")
	}
	return nil, true, nil
}

func (s *awayShard) Apply(context.Context, registration.Op) error      { return nil }
func (s *awayShard) Renew(context.Context, []registration.Entry) error { return nil }
func (s *awayShard) MostWrites() int                                   { return 1 }

// stubbornShard takes a write only after it has failed so often.
type stubbornShard struct {
	failures int

	mu      sync.Mutex
	tries   int
	entries []registration.Entry
	reads   int // since something was written
}

func (s *stubbornShard) Refresh(context.Context) (entries []registration.Entry, changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reads++; s.reads > 2*export.Shards { // it stands for all of them, and all know it by now
		return nil, false, nil
	}
	return slices.Clone(s.entries), true, nil
}

func (s *stubbornShard) Apply(_ context.Context, op registration.Op) error {
	return s.take(registration.Entry{Instance: op.Instance, Cluster: "east", HasCheck: true})
}

// Renew is for a shard that has lapsed.
func (s *stubbornShard) Renew(context.Context, []registration.Entry) error {
	s.mu.Lock()
	entry := s.entries[0]
	s.mu.Unlock()
	entry.Lapsed = false
	return s.take(entry)
}

func (s *stubbornShard) take(entry registration.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tries++; s.tries <= s.failures {
		return errors.New("not now")
	}
	s.entries, s.reads = []registration.Entry{entry}, 0
	return nil
}

func (s *stubbornShard) MostWrites() int { return 1 }

// A virtual node that is not as it should be is put right once after each read until that
// succeeds, though no read in between finds that anything has changed. What is not
// read again is not taken for gone.
func TestALapsedNodeIsPutRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const failures, resync = 100, time.Minute
		kube := newFakeKubernetes()
		kube.set("web", 1)
		consul := &stubbornShard{}
		_, end := publishing(t, kube, consul, resync)
		defer end()
		time.Sleep(time.Hour)
		consul.mu.Lock()
		tries, entries := consul.tries, len(consul.entries)
		if entries > 0 {
			consul.entries[0].Lapsed = true
		}
		consul.tries, consul.failures, consul.reads = 0, failures, 0
		consul.mu.Unlock()
		if tries != 1 || entries != 1 {
			t.Fatalf("%d writes, %d entries, when one should have been made", tries, entries)
		}
		time.Sleep(time.Hour)
		consul.mu.Lock()
		defer consul.mu.Unlock()
		if consul.tries != failures+1 || consul.entries[0].Lapsed || !consul.entries[0].InService() {
			t.Errorf("%d tries, lapsed %t, in service %t", consul.tries, consul.entries[0].Lapsed, consul.entries[0].InService())
		}
	})
}
