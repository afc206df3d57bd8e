package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

// The tests in this file run the whole agent beside what katalog-sync registers,
// against a real Consul.

// katalogTTL is that of katalog-sync's entries here: short, so that it is soon
// seen that nobody renews them.
const katalogTTL = 4 * time.Second

// katalog stands for katalog-sync on the node: it registers pods as that does,
// and renews them until it is stopped.
type katalog struct {
	w    *world
	stop func()
}

func (w *world) katalogSync(pods ...service.Pod) *katalog {
	w.t.Helper()
	agent := w.consul.Node().API(w.token).Agent()
	ids := make([]string, 0, len(pods))
	for _, pod := range pods {
		id := succession.EntryID("web", pod.Ref)
		ids = append(ids, id)
		if err := agent.ServiceRegister(&api.AgentServiceRegistration{
			ID: id, Name: "web", Address: pod.Addresses[0].String(), Port: 8080,
			Meta: map[string]string{
				"external-source": "kubernetes", "external-sync-source": "katalog-sync", "external-k8s-link": pod.Ref.String(),
				service.MetaNamespace: pod.Ref.Namespace, service.MetaPod: pod.Ref.Name,
			},
			Check: &api.AgentServiceCheck{CheckID: id, TTL: katalogTTL.String(), Status: api.HealthPassing},
		}); err != nil {
			w.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, id := range ids {
				if err := agent.UpdateTTL(id, "{}", api.HealthPassing); err != nil && ctx.Err() == nil {
					w.t.Errorf("katalog-sync cannot renew %s: %v", id, err)
				}
			}
			pause(ctx, katalogTTL/10)
		}
	}()
	k := &katalog{w: w, stop: func() { cancel(); <-done }}
	w.t.Cleanup(k.stop)
	return k
}

// passingIDs are the instances of web that the servers give to clients, each as
// owner and pod.
func (w *world) passingIDs() []string {
	w.t.Helper()
	entries, _, err := w.consul.Management().Health().Service("web", "", true, &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		w.t.Fatal(err)
	}
	var ids []string
	for _, entry := range entries {
		owner, _, _ := strings.Cut(entry.Service.ID, "_")
		ids = append(ids, owner+" "+entry.Service.Meta[service.MetaPod])
	}
	slices.Sort(ids)
	return ids
}

func (w *world) eventuallyPassing(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	consultest.Eventually(w.t, "the servers give clients "+strings.Join(want, ", "), func() error {
		if diff := cmp.Diff(want, w.passingIDs()); diff != "" {
			return fmt.Errorf("-want +got:\n%s", diff)
		}
		return nil
	})
}

// neverMissing follows what the servers give to clients, and fails the test if
// an answer lacks one of the pods. The returned function ends that.
func (w *world) neverMissing(pods ...string) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	answers := 0
	go func() {
		defer close(done)
		var index uint64
		for ctx.Err() == nil {
			q := (&api.QueryOptions{WaitIndex: index, WaitTime: 10 * time.Second, RequireConsistent: true}).WithContext(ctx)
			entries, meta, err := w.consul.Management().Health().Service("web", "", true, q)
			if err != nil {
				continue
			}
			index = meta.LastIndex
			answers++
			for _, pod := range pods {
				if !slices.ContainsFunc(entries, func(e *api.ServiceEntry) bool { return e.Service.Meta[service.MetaPod] == pod }) {
					w.t.Errorf("at index %d clients are not given %s", index, pod)
				}
			}
		}
	}()
	return func() {
		cancel()
		<-done
		w.t.Logf("%d answers, each with %s", answers, strings.Join(pods, ", "))
	}
}

// katalogPod is webPod with katalog-sync's annotations and gate.
func katalogPod(n int) service.Pod {
	pod := webPod(n)
	pod.Annotations = map[string]string{"katalog-sync.wish.com/service-names": "web", "katalog-sync.wish.com/service-port": "8080"}
	pod.Gates = []service.Gate{{Type: service.GateKatalog, Open: true}}
	return pod
}

func (w *world) eventuallyMetric(series string, want float64) {
	w.t.Helper()
	consultest.Eventually(w.t, fmt.Sprintf("%s is %v", series, want), func() error {
		if n := w.metric(series); n != want {
			return fmt.Errorf("it is %v", n)
		}
		return nil
	})
}

func katalogState(state succession.State) string {
	return fmt.Sprintf("fairway_katalog_entries{state=%q}", state)
}

// From katalog-sync to Fairway and back, and clients are given each pod all the
// time.
func TestSwitchAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := katalogPod(1), katalogPod(2)
	old := w.katalogSync(one, two)
	w.eventuallyPassing("katalog-sync web-1", "katalog-sync web-2")
	stop := w.neverMissing("web-1", "web-2")
	w.kube.set(one, two)

	w.katalogMode = succession.Successor
	w.start()
	w.eventuallyMetric(katalogState(succession.Covered), 2)
	w.eventuallyPassing("fairway web-1", "fairway web-2", "katalog-sync web-1", "katalog-sync web-2")
	old.stop()
	w.eventuallyPassing("fairway web-1", "fairway web-2")
	consultest.Eventually(t, "nothing of katalog-sync is left", func() error { return w.onlyOf("fairway") })
	consultest.Eventually(t, "both removals are counted", func() error { // after the agent has heard of them
		if n := w.metric(`fairway_katalog_removed_total{result="ok"}`); n != 2 {
			return fmt.Errorf("%v are", n)
		}
		return nil
	})
	w.stop()

	w.katalogMode = succession.Predecessor
	w.start()
	w.eventuallyPassing("fairway web-1", "fairway web-2")
	again := w.katalogSync(one, two)
	consultest.Eventually(t, "nothing of Fairway is left", func() error { return w.onlyOf("katalog-sync") })
	w.eventuallyMetric(katalogState(succession.Yielded), 2)
	// A restart changes nothing (I2), and what katalog-sync loses Fairway has again.
	before := w.consul.Index()
	w.stop()
	w.start()
	w.eventuallyMetric(katalogState(succession.Yielded), 2)
	if after := w.consul.Index(); after != before {
		t.Errorf("the restart moved Consul's index from %s to %s", before, after)
	}
	stop()
	again.stop()
	w.eventuallyPassing("fairway web-1", "fairway web-2")

	_, events := w.kube.seen()
	for _, want := range []string{"Normal web-1 TakenOver", "Normal web-1 HandedBack", "Normal web-2 TakenOver", "Normal web-2 HandedBack"} {
		if !slices.Contains(events, want) {
			t.Errorf("no Event %q in %v", want, events)
		}
	}
}

// onlyOf fails unless all entries of web at the servers belong to one owner.
func (w *world) onlyOf(owner string) error {
	entries, _, err := w.consul.Management().Catalog().Service("web", "", &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.ServiceID, owner+"_") {
			return fmt.Errorf("there is %s", entry.ServiceID)
		}
	}
	return nil
}

// I5: without being told, Fairway leaves what is katalog-sync's alone, and its
// gate too.
func TestI5KatalogSyncIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pod := katalogPod(1)
	pod.Gates[0].Open = false
	w.katalogSync(pod).stop()
	w.kube.set(pod)
	w.start()
	w.eventuallyPassing("fairway web-1") // and katalog-sync's has expired
	const passes = "fairway_publisher_pass_seconds_count"
	before := w.metric(passes)
	consultest.Eventually(t, "the agent has looked several times since", func() error {
		if n := w.metric(passes); n < before+5 {
			return fmt.Errorf("%v more passes", n-before)
		}
		return nil
	})
	if entries, _, err := w.consul.Management().Catalog().Service("web", "", nil); err != nil || len(entries) != 2 {
		t.Errorf("the servers hold %v, %v; want Fairway's and what katalog-sync left", entries, err)
	}
	if got := w.kube.condition(pod.Ref.UID, service.GateKatalog); got.Status != "" {
		t.Errorf("katalog-sync's gate was written: %+v", got)
	}
}

// I1: of a pod that nobody sees, katalog-sync's entry stays until its end is
// proven.
func TestI1KatalogEntryOfUnknownPod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kube.change(func() { w.kube.apiDown = true })
	w.katalogSync(katalogPod(1)).stop()
	w.katalogMode = succession.Successor
	w.start()
	w.eventuallyMetric(katalogState(succession.Waiting), 1)
	w.kube.change(func() { w.kube.apiDown = false })
	consultest.Eventually(t, "the entry is removed", func() error {
		entries, _, err := w.consul.Management().Catalog().Service("web", "", nil)
		if err == nil && len(entries) > 0 {
			err = fmt.Errorf("there are %d entries", len(entries))
		}
		return err
	})
}

// In katalog-sync's place Fairway opens its gate, on the same proof as its own.
func TestKatalogGateOpensOnProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.katalogMode = succession.Successor
	pod := katalogPod(1)
	pod.Gates[0].Open = false
	pod.ContainersReady = false
	w.kube.set(pod)
	w.start()
	w.eventually(map[string]string{"web-1": "critical"})
	if got := w.kube.condition(pod.Ref.UID, service.GateKatalog); got.Status == service.ConditionTrue {
		t.Errorf("open before the pod is ready: %+v", got)
	}
	pod.ContainersReady = true
	w.kube.set(pod)
	got := w.eventuallyCondition(pod.Ref.UID, service.GateKatalog, service.ConditionTrue, "Reachable")
	if !strings.Contains(got.Message, "web (index ") {
		t.Errorf("the message shows no proof: %q", got.Message)
	}
}

// stuck is katalog-sync with one entry that it renews and that Fairway cannot
// stand beside, and servers that hold nothing of Fairway.
type stuck struct{ entry succession.Entry }

func (s stuck) Observe(context.Context) ([]succession.Entry, error) {
	return []succession.Entry{s.entry}, nil
}

func (s stuck) Remove(_ context.Context, id string, _ bool) error {
	return fmt.Errorf("%s is renewed, and was to be removed", id)
}

func (s stuck) Lookup(context.Context, []string) succession.Servers {
	return succession.Servers{Held: map[string]succession.Standing{}}
}

// I7: what stands for long as it should not is told on the pod, once, and in the
// agent's view.
func TestI7HandoverThatWaitsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kube, pod, board := newKubeSide(), katalogPod(1), newBoard()
		kube.set(pod)
		theirs := stuck{succession.Entry{
			ID: succession.EntryID("web", pod.Ref), Service: "web", Address: pod.Addresses[0], Port: 8080, Health: service.Passing,
			Pod: service.PodRef{Namespace: pod.Ref.Namespace, Name: pod.Ref.Name},
		}}
		s := &successor{
			mode: succession.Successor, cluster: "east", node: "n1", checkTTL: time.Hour, resync: 10 * time.Second,
			source: kube, changed: kube.Subscribe(), theirs: theirs, servers: theirs, writer: kube, board: board,
			log: slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry()), pulse: process.NewPulse("successor", stuckAfter),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.run(ctx) }()

		time.Sleep(successionPatience - time.Second)
		if _, events := kube.seen(); len(events) > 0 {
			t.Errorf("after %s: %v", successionPatience-time.Second, events)
		}
		time.Sleep(5 * successionPatience)
		synctest.Wait()
		if _, events := kube.seen(); !slices.Equal(events, []string{"Warning web-1 NotCovered"}) {
			t.Errorf("Events: %v", events)
		}
		var view nodeview.View
		board.record.fill(&view)
		want := []nodeview.Handover{{
			ID: theirs.entry.ID, Service: "web", Pod: nodeview.Ref(theirs.entry.Pod), State: "uncovered",
			Reason: "the servers do not hold Fairway's entry yet",
		}}
		if diff := cmp.Diff(want, view.Succession.Entries, cmpopts.IgnoreFields(nodeview.Handover{}, "Since")); diff != "" {
			t.Errorf("view (-want +got):\n%s", diff)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the loop ended with: %v", err)
		}
	})
}
