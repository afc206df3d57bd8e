package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
)

// memory is all shards' registries, in which time is the test's.
type memory struct {
	mu      sync.Mutex
	entries map[string]registration.Entry
	err     error         // of Apply
	slow    chan struct{} // if set, registrations wait until it is closed
	most    int
	begun   []registration.Op
	reads   int
}

// memoryShard is one of them.
type memoryShard struct {
	*memory
	number int
}

func (m *memory) shards() (all []shardRegistry) {
	for number := range export.Shards {
		all = append(all, memoryShard{m, number})
	}
	return all
}

func (m memoryShard) Refresh(context.Context) (entries []registration.Entry, changed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	for _, entry := range m.entries {
		if ref := entry.Instance.Endpoint; export.ShardOf(ref.Namespace, ref.Service) == m.number {
			entries = append(entries, entry)
		}
	}
	return entries, true, nil
}

func (m memoryShard) Apply(ctx context.Context, op registration.Op) error {
	m.mu.Lock()
	m.begun = append(m.begun, op)
	slow := m.slow
	m.mu.Unlock()
	if slow != nil && op.Kind == registration.Register {
		select {
		case <-slow:
		case <-ctx.Done():
			return &consul.Error{Kind: consul.ErrUnavailable, Err: ctx.Err()}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	before, existed := m.entries[op.Instance.ID]
	if after, exists := op.After(before, existed); exists {
		m.entries[op.Instance.ID] = after
	} else {
		delete(m.entries, op.Instance.ID)
	}
	return nil
}

func (m memoryShard) Renew(context.Context, []registration.Entry) error { return nil }

func (m memoryShard) MostWrites() int { return m.most }

// ops are those that were begun so far.
func (m *memory) ops() []registration.Op {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.begun)
}

// inService is how many entries are.
func (m *memory) inService() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, entry := range m.entries {
		if entry.InService() {
			n++
		}
	}
	return n
}

// inTime runs a test of a replica in time of its own.
func inTime(t *testing.T, test func(t *testing.T, kube *fakeKubernetes, m *memory, leader *leadership)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kube, m := newFakeKubernetes(), &memory{entries: map[string]registration.Entry{}, most: 4}
		registry := prometheus.NewRegistry()
		metrics, log := newMetrics(registry), slog.New(slog.DiscardHandler)
		leader := unelected(log, metrics)
		e := newExporter(exporter{
			source: kube, leader: leader, leads: leader.begins(), events: kube, permits: kube, report: newBoard(metrics).loop("nothing was read yet"),
			log: log, metrics: newExportMetrics(registry), pulse: process.NewPulse("export", stuckAfter), maxShare: 0.5, resync: time.Minute,
		}, m.shards(), exportPolicy("east"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = e.run(ctx) }()
		test(t, kube, m, leader)
		cancel()
		<-done
	})
}

// settle lets a time pass, and all that happens then come to its end.
func settle(pass time.Duration) {
	<-time.After(pass)
	synctest.Wait()
}

// I4: what leaves service does not wait for what enters it, however many of those
// are slow.
func TestI4WhatLeavesServiceDoesNotQueue(t *testing.T) {
	t.Parallel()
	inTime(t, func(t *testing.T, kube *fakeKubernetes, m *memory, leader *leadership) {
		defer lead(t, leader)()
		kube.set("web", 2)
		settle(time.Second)
		slow := make(chan struct{})
		m.mu.Lock()
		m.slow = slow
		m.mu.Unlock()
		slice := sliceOf("web", "a", 0, 12) // more than may be written at once
		kube.put(slice)
		settle(time.Second)
		slice.Endpoints = slices.Clone(slice.Endpoints)
		slice.Endpoints[0].Ready = new(false)
		kube.put(slice)
		synctest.Wait()
		if n := m.inService(); n != 1 {
			t.Errorf("%d are in service while others are slow to enter it, want 1", n)
		}
		close(slow)
		settle(time.Second)
		if n := m.inService(); n != 11 {
			t.Errorf("%d are in service, want 11", n)
		}
	})
}

// A write that fails is tried again, ever less often, and holds no other up.
func TestFailedExportsBackOff(t *testing.T) {
	t.Parallel()
	inTime(t, func(t *testing.T, kube *fakeKubernetes, m *memory, leader *leadership) {
		defer lead(t, leader)()
		m.mu.Lock()
		m.err = &consul.Error{Kind: consul.ErrUnavailable}
		m.mu.Unlock()
		kube.set("web", 1)
		settle(10 * time.Minute)
		if n := len(m.ops()); n < 10 || n > 20 {
			t.Errorf("tried %d times in 10 minutes", n)
		}
		m.mu.Lock()
		m.err = nil
		m.mu.Unlock()
		kube.set("api", 1)
		synctest.Wait()
		if n := m.inService(); n != 1 {
			t.Errorf("%d are in service, want that which is new", n)
		}
		settle(time.Minute)
		if n := m.inService(); n != 2 {
			t.Errorf("%d are in service", n)
		}
	})
}

// However much a list lacks, the API server is not flooded with questions.
func TestQuestionsAreFew(t *testing.T) {
	t.Parallel()
	inTime(t, func(t *testing.T, kube *fakeKubernetes, m *memory, leader *leadership) {
		defer lead(t, leader)()
		const services = 100
		for i := range services {
			kube.set(fmt.Sprintf("s%d", i), 1)
		}
		settle(time.Second)
		kube.change(func() {
			kube.away, kube.all, kube.slowly = true, true, 100*time.Millisecond
			for i := range services {
				kube.hidden[fmt.Sprintf("s%d", i)] = true
			}
		})
		settle(5 * time.Minute)
		kube.mu.Lock()
		asked, most := kube.asked, kube.mostAsked
		kube.mu.Unlock()
		if most > mostQuestions {
			t.Errorf("%d questions at the same time", most)
		}
		if each := asked / services; each < 5 || each > 20 {
			t.Errorf("each was asked for %d times in 5 minutes", each)
		}
		if n := m.inService(); n != services {
			t.Errorf("%d are in service, want all", n)
		}
	})
}

// Removals that are frozen go as soon as a second answer counts, and not before.
func TestFrozenRemovalsGoWhenConfirmed(t *testing.T) {
	t.Parallel()
	inTime(t, func(t *testing.T, kube *fakeKubernetes, m *memory, leader *leadership) {
		defer lead(t, leader)()
		kube.set("web", 4)
		settle(time.Second)
		kube.removeWeb()
		settle(registration.AskAfter - time.Second)
		if n := m.inService(); n != 4 {
			t.Errorf("%d are in service before the second answer, want 4", n)
		}
		settle(2 * time.Second)
		if n := m.inService(); n != 0 {
			t.Errorf("%d are in service after it", n)
		}
	})
}

// A replica that begins to lead reads what another has written before it writes, and
// one that does not lead any more writes nothing.
func TestLeadBeginsWithALook(t *testing.T) {
	t.Parallel()
	inTime(t, func(t *testing.T, kube *fakeKubernetes, m *memory, leader *leadership) {
		kube.set("web", 2)
		settle(time.Second)
		// Another has written what this one has not seen yet.
		another := &memory{entries: map[string]registration.Entry{}, most: 4}
		l := export.NewLedger(exportPolicy("east"))
		l.See(kube.View().Cluster)
		for number := range export.Shards {
			l.Read(number, nil)
		}
		for _, op := range l.Plan(export.Evidence{Now: time.Now(), MaxShare: 1}).Ops {
			if err := (memoryShard{another, 0}).Apply(t.Context(), op); err != nil {
				t.Fatal(err)
			}
		}
		m.mu.Lock()
		maps.Copy(m.entries, another.entries)
		reads := m.reads
		m.mu.Unlock()
		end := lead(t, leader)
		synctest.Wait()
		if n := len(m.ops()); n > 0 || m.reads < reads+export.Shards {
			t.Errorf("%d writes of what another had written, after %d reads", n, m.reads-reads)
		}
		end()
		kube.put(sliceOf("web", "a", 0, 4))
		settle(5 * time.Minute)
		if n := len(m.ops()); n > 0 {
			t.Errorf("%d writes by a replica that does not lead", n)
		}
	})
}

// I1: a proof is kept for as long as something waits that it lets go, and no longer.
func TestProofsAreKeptWhileTheyAreNeeded(t *testing.T) {
	t.Parallel()
	inTime(t, func(t *testing.T, kube *fakeKubernetes, m *memory, leader *leadership) {
		defer lead(t, leader)()
		kube.set("web", 4)
		settle(time.Second)
		kube.removeWeb()
		kube.change(func() { kube.away = true }) // nobody confirms it
		settle(5 * time.Minute)
		proofs := func() int {
			kube.mu.Lock()
			defer kube.mu.Unlock()
			return len(kube.gone)
		}
		if n := m.inService(); n != 4 || proofs() != 2 {
			t.Errorf("%d are in service and %d proofs there, want 4 and 2", n, proofs())
		}
		kube.allow(inSomeMinutes())
		settle(5 * time.Second)
		if n := m.inService(); n != 0 {
			t.Errorf("%d are in service after a person let them go", n)
		}
		settle(5 * time.Minute)
		if proofs() != 0 {
			t.Errorf("%d proofs of what nothing asks for", proofs())
		}
	})
}
