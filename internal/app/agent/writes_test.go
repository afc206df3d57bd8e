package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// memory is a registry in memory whose writes can be made to hang or fail.
type memory struct {
	mu       sync.Mutex
	entries  map[string]registration.Entry
	observed int
	log      []string // "kind service health" of each write that came, in order
	hang     map[string]chan struct{}
	fail     map[string]error
	unheard  map[string]error // as fail, but the write is carried out
}

func (m *memory) Observe(context.Context) ([]registration.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.observed++
	var entries []registration.Entry
	for _, e := range m.entries {
		entries = append(entries, e)
	}
	return entries, nil
}

func (m *memory) Apply(ctx context.Context, op registration.Op) error {
	name := op.Instance.Name
	m.mu.Lock()
	m.log = append(m.log, string(op.Kind)+" "+name+" "+string(op.Instance.Health))
	hang, fail, unheard := m.hang[name], m.fail[name], m.unheard[name]
	m.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fail != nil {
		return fail
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before, existed := m.entries[op.Instance.ID]
	if after, exists := op.After(before, existed); exists {
		m.entries[op.Instance.ID] = after
	} else {
		delete(m.entries, op.Instance.ID)
	}
	return unheard
}

func (m *memory) Renew(_ context.Context, entries []registration.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.log = append(m.log, "renew "+e.Instance.Name)
		e.Lapsed = false
		m.entries[e.Instance.ID] = e
	}
	return nil
}

func (m *memory) Push(_ context.Context, entry registration.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, "push "+entry.Instance.Name)
	return nil
}

func (m *memory) MostWrites() int     { return 16 }
func (m *memory) MostBackground() int { return 2 }

// writes returns the log so far.
func (m *memory) writes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log)
}

// startPublisher runs a publisher on pods and memory until the test ends, and
// returns what it writes its notes on.
func startPublisher(t *testing.T, pods *kubeSide, m *memory) *board {
	t.Helper()
	return startMeasuredPublisher(t, pods, m, prometheus.NewRegistry())
}

func startMeasuredPublisher(t *testing.T, pods *kubeSide, m *memory, registerer prometheus.Registerer) *board {
	t.Helper()
	m.entries = map[string]registration.Entry{}
	log, metrics, board := slog.New(slog.DiscardHandler), newMetrics(registerer), newBoard()
	p := &publisher{
		cluster: "c1", node: "n1", resync: 10 * time.Second, hurry: 25 * time.Millisecond, checkTTL: 72 * time.Hour,
		source: pods, changed: pods.Subscribe(), registry: m, board: board,
		breaker: &breaker{
			maxShare: 0.5, source: pods, writer: pods, evidence: &confirmer{wake: newTrigger()},
			board: board, log: log, metrics: metrics,
		},
		log: log, metrics: metrics, pulse: process.NewPulse("publisher", stuckAfter),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("publisher: %v", err)
		}
	})
	return p.board
}

func runningPod(name string, ready bool) service.Pod {
	return service.Pod{
		Ref:         service.PodRef{Namespace: "shop", Name: name, UID: "uid-" + name},
		Annotations: map[string]string{"fairway.dev/service-names": name, "fairway.dev/service-port": "80"},
		Addresses:   []netip.Addr{netip.MustParseAddr("198.18.64.7")},
		Phase:       service.PhaseRunning, ContainersReady: ready,
	}
}

// I4: a pod that ends is out at once, also while the write of another hangs.
func TestI4AnEndDoesNotWaitForASlowWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{}
		startPublisher(t, pods, m)
		pods.set(runningPod("ends", true))
		synctest.Wait()

		slow := make(chan struct{})
		m.mu.Lock()
		m.hang = map[string]chan struct{}{"slow": slow}
		m.mu.Unlock()
		pods.set(runningPod("slow", true))
		synctest.Wait()
		ending := runningPod("ends", true)
		ending.Terminating = true
		pods.set(ending)
		synctest.Wait()

		want := []string{"register ends passing", "renew ends", "register slow passing", "set-health ends critical"}
		if diff := cmp.Diff(want, m.writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
		close(slow)
	})
}

// I4: an entry that may be in service, because the answer to its last write was
// not heard, is looked at before it is removed.
func TestI4WhatIsInDoubtIsNotRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{}
		startPublisher(t, pods, m)
		pods.set(runningPod("web", false))
		synctest.Wait()

		slow := make(chan struct{}) // while it is written nothing can be looked at
		m.mu.Lock()
		m.log, m.hang = nil, map[string]chan struct{}{"slow": slow}
		m.unheard = map[string]error{"web": errors.New("no answer")}
		m.mu.Unlock()
		pods.set(runningPod("slow", true), runningPod("web", true))
		synctest.Wait()
		pods.change(func() {
			delete(pods.pods, "uid-web")
			pods.gone = map[string]string{"uid-web": "deletion seen"}
		})
		synctest.Wait()
		want := []string{"register slow passing", "set-health web passing"}
		if diff := cmp.Diff(want, slices.Sorted(slices.Values(m.writes()))); diff != "" {
			t.Errorf("writes while the entry is in doubt (-want +got):\n%s", diff)
		}

		m.mu.Lock()
		m.log, m.unheard = nil, nil
		m.mu.Unlock()
		close(slow)
		time.Sleep(time.Second) // virtual time
		synctest.Wait()
		want = []string{"set-health web critical", "deregister web critical"}
		if diff := cmp.Diff(want, slices.DeleteFunc(m.writes(), func(line string) bool { return line == "renew slow" })); diff != "" {
			t.Errorf("writes after the look (-want +got):\n%s", diff)
		}
	})
}

// One write per entry at a time: what changes while a write is under way is
// written after it.
func TestWritesOfOneEntryAreInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{hang: map[string]chan struct{}{"web": make(chan struct{})}}
		startPublisher(t, pods, m)
		pods.set(runningPod("web", false))
		synctest.Wait()
		pods.set(runningPod("web", true))
		synctest.Wait()
		if diff := cmp.Diff([]string{"register web critical"}, m.writes()); diff != "" {
			t.Errorf("writes while the first is under way (-want +got):\n%s", diff)
		}
		close(m.hang["web"])
		synctest.Wait()
		want := []string{"register web critical", "set-health web passing"}
		if diff := cmp.Diff(want, m.writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// Of what no client waits for, only so much is begun that the rest can be
// decided anew: a pod that has become ready before its turn came is registered
// as passing, and does not wait for the others.
func TestReadyPodDoesNotWaitForStartingOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		pods, m := newKubeSide(), &memory{hang: map[string]chan struct{}{"a": slow, "b": slow}}
		startPublisher(t, pods, m)
		pods.set(runningPod("a", false), runningPod("b", false), runningPod("c", false), runningPod("d", false))
		synctest.Wait()
		if diff := cmp.Diff([]string{"register a critical", "register b critical"}, slices.Sorted(slices.Values(m.writes()))); diff != "" {
			t.Errorf("begun (-want +got):\n%s", diff)
		}
		pods.set(runningPod("d", true))
		synctest.Wait()
		if last := m.writes()[2:]; len(last) == 0 || last[0] != "register d passing" {
			t.Errorf("then %q", last)
		}
		close(slow)
		synctest.Wait()
		if !slices.Contains(m.writes(), "register c critical") {
			t.Errorf("writes: %q", m.writes())
		}
	})
}

// A write that fails is tried again at growing intervals, never more than
// resync apart, and holds up neither other entries nor another write of its
// own.
func TestFailedWriteIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{fail: map[string]error{"denied": errors.New("no")}}
		startPublisher(t, pods, m)
		pods.set(runningPod("denied", true), runningPod("web", true))
		time.Sleep(time.Minute) // virtual time
		synctest.Wait()

		var attempts, others int
		for _, line := range m.writes() {
			switch line {
			case "register denied passing":
				attempts++
			case "register web passing":
				others++
			}
		}
		// 0, 0.25, 0.75, 1.75, 3.75, 7.75, 15.75 s, then every 10 s.
		if attempts != 11 || others != 1 {
			t.Errorf("%d attempts in a minute and %d registrations of the other; want 11 and 1", attempts, others)
		}

		m.mu.Lock()
		m.log, m.fail = nil, nil
		m.mu.Unlock()
		pods.set(runningPod("denied", false))
		synctest.Wait()
		if diff := cmp.Diff([]string{"register denied critical"}, m.writes()[:1]); diff != "" {
			t.Errorf("another write than the one that failed (-want +got):\n%s", diff)
		}
	})
}

// While a write hangs for longer than the view is good for, the loop waits for
// it, and neither spins nor looks.
func TestSlowWriteIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{hang: map[string]chan struct{}{"web": make(chan struct{})}}
		startPublisher(t, pods, m)
		pods.set(runningPod("web", true))
		time.Sleep(11 * time.Second) // virtual time: more than resync, less than a write may take
		synctest.Wait()
		if m.observed != 1 {
			t.Errorf("looked %d times while a write was under way; want only before it", m.observed)
		}
		close(m.hang["web"])
		synctest.Wait()
		if m.observed != 2 {
			t.Errorf("looked %d times; want again when the write was done", m.observed)
		}
	})
}

// An entry that has lapsed is renewed at the next look, and once.
func TestLapsedEntryIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{}
		startPublisher(t, pods, m)
		pods.set(runningPod("web", true))
		synctest.Wait()
		m.mu.Lock()
		m.log = nil
		for id, entry := range m.entries {
			entry.Lapsed = true
			m.entries[id] = entry
		}
		m.mu.Unlock()
		time.Sleep(time.Minute) // virtual time
		synctest.Wait()
		if diff := cmp.Diff([]string{"renew web"}, m.writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// I6: at rest the registry is looked at, not written to.
func TestI6PublisherAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{}
		startPublisher(t, pods, m)
		pods.set(runningPod("web", true))
		time.Sleep(time.Hour) // virtual time
		synctest.Wait()
		if diff := cmp.Diff([]string{"register web passing", "renew web"}, m.writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
		if m.observed < 300 || m.observed > 400 {
			t.Errorf("looked %d times in an hour; want once in 10 s", m.observed)
		}
	})
}

// A pod that starts costs one write, and one more as it becomes ready: what is
// new and critical would be so after a restart of the registry as well.
func TestStartingPodIsNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{}
		startPublisher(t, pods, m)
		pods.set(runningPod("web", false))
		time.Sleep(time.Hour) // virtual time
		pods.set(runningPod("web", true))
		time.Sleep(time.Hour)
		synctest.Wait()
		if diff := cmp.Diff([]string{"register web critical", "set-health web passing"}, m.writes()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// A pod's own dead-man is renewed in time, whatever the others have.
func TestEachEntryIsRenewedByItsOwnTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{}
		startPublisher(t, pods, m)
		short := runningPod("short", true)
		short.Annotations["fairway.dev/service-check-ttl"] = "12s"
		pods.set(short, runningPod("web", true))
		time.Sleep(time.Minute - time.Second) // virtual time
		synctest.Wait()
		renewals := map[string]int{}
		for _, line := range m.writes() {
			renewals[line]++
		}
		// At once after the registration, then every 4 s.
		want := map[string]int{"register short passing": 1, "register web passing": 1, "renew web": 1, "renew short": 15}
		if diff := cmp.Diff(want, renewals); diff != "" {
			t.Errorf("writes in a minute (-want +got):\n%s", diff)
		}
	})
}

// An edit that the registry does not take is tried again, and costs an entry in
// service neither its dead-man nor its place (I1).
func TestARefusedEditDoesNotStopRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{}
		board := startPublisher(t, pods, m)
		web := runningPod("web", true)
		web.Annotations["fairway.dev/service-check-ttl"] = "12s"
		pods.set(web)
		synctest.Wait()

		m.mu.Lock()
		m.log, m.fail = nil, map[string]error{"web": errors.New("no")}
		m.mu.Unlock()
		web.Annotations = maps.Clone(web.Annotations)
		web.Annotations["fairway.dev/service-tags"] = "v2"
		pods.set(web)
		time.Sleep(time.Minute - time.Second) // virtual time
		synctest.Wait()
		writes := map[string]int{}
		for _, line := range m.writes() {
			writes[line]++
		}
		// Registered as TestFailedWriteIsTriedAgain has it, renewed every 4 s.
		want := map[string]int{"register web passing": 11, "renew web": 14}
		if diff := cmp.Diff(want, writes); diff != "" {
			t.Errorf("writes in a minute (-want +got):\n%s", diff)
		}
		if _, refused := board.standing(); len(refused) != 1 {
			t.Errorf("refused: %v, want the edit", refused)
		}

		web.Annotations = maps.Clone(web.Annotations)
		delete(web.Annotations, "fairway.dev/service-tags")
		pods.set(web)
		synctest.Wait()
		if _, refused := board.standing(); len(refused) != 0 {
			t.Errorf("refused: %v, although nobody asks for the edit any more", refused)
		}
	})
}
