package agent

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/service"
)

// The tests in this file run the whole agent against a real Consul. Only the
// Kubernetes side is simulated, at its ports; the lab's tests have the real one.

// The life of a pod, with a restart of the agent in the middle.
func TestPodLife(t *testing.T) { inEachWorld(t, podLife) }

func podLife(t *testing.T, w *world) {
	w.start()

	starting := webPod(1)
	starting.ContainersReady, starting.NotReadyMessage = false, "containers with unready status: [web]"
	w.kube.set(starting)
	w.eventually(map[string]string{"web-1": api.HealthCritical})
	w.eventuallyCondition("uid-1", service.GateReachable, service.ConditionFalse, "WaitingForContainers")

	w.kube.set(webPod(1))
	open := w.eventuallyCondition("uid-1", service.GateReachable, service.ConditionTrue, "Reachable")
	if got := w.atServers(); got["web-1"] != api.HealthPassing {
		t.Errorf("the gate is open (%s) and the servers say %v", open.Message, got)
	}
	writes, events := w.kube.seen()
	if diff := cmp.Diff([]string{"Normal web-1 Reachable"}, events); diff != "" || writes != 2 {
		t.Errorf("%d writes to the pod, want 2; events (-want +got):\n%s", writes, diff)
	}

	// I2, I6: a restart and many turns of the loops write nothing anywhere.
	before := w.consul.Index()
	w.stop()
	w.start()
	consultest.Eventually(t, "the new agent has made some passes", func() error {
		if w.metric("fairway_publisher_pass_seconds_count") >= 3 {
			return nil
		}
		return fmt.Errorf("not three passes yet")
	})
	if after := w.consul.Index(); after != before {
		t.Errorf("raft index moved from %s to %s over a restart", before, after)
	}
	if now, _ := w.kube.seen(); now != writes {
		t.Errorf("%d writes to the pod after the restart", now-writes)
	}

	leaving := webPod(1)
	leaving.Terminating = true
	w.kube.set(leaving)
	w.eventually(map[string]string{"web-1": api.HealthCritical})
	w.kube.change(func() {
		delete(w.kube.pods, "uid-1")
		w.kube.gone["uid-1"] = "deleted"
	})
	w.eventually(map[string]string{})
}

// I1: a pod that is missing from the list keeps its entry until it is proven
// gone.
func TestMissingPodIsHeldUntilProvenGone(t *testing.T) {
	inEachWorld(t, missingPodIsHeldUntilProvenGone)
}

func missingPodIsHeldUntilProvenGone(t *testing.T, w *world) {
	w.kube.set(webPod(1), webPod(2))
	w.start()
	w.eventually(map[string]string{"web-1": api.HealthPassing, "web-2": api.HealthPassing})
	w.registered(2)

	before := w.consul.Index()
	w.kube.change(func() { // an empty list, and nobody to ask
		w.kube.apiDown = true
		clear(w.kube.pods)
	})
	consultest.Eventually(t, "both entries are held and asked about", func() error {
		_, body := w.get("/metrics")
		for _, want := range []string{`fairway_entries{state="held"} 2`, `fairway_confirmations_total{result="unknown"}`} {
			if !strings.Contains(body, want) {
				return fmt.Errorf("no %s", want)
			}
		}
		return nil
	})
	w.stop()
	w.start() // also the next process must not take absence for proof
	consultest.Eventually(t, "both entries are held after a restart", func() error {
		if _, body := w.get("/metrics"); !strings.Contains(body, `fairway_entries{state="held"} 2`) {
			return fmt.Errorf("not held")
		}
		return nil
	})
	if after := w.consul.Index(); after != before {
		t.Errorf("raft index moved from %s to %s", before, after)
	}

	w.kube.change(func() { // one of them has really gone
		w.kube.apiDown = false
		delete(w.kube.exists, "uid-2")
	})
	w.eventually(map[string]string{"web-1": api.HealthPassing})
}

// I1: before the source is synced nothing is done, and /readyz says why.
func TestNothingBeforeTheSourceIsSynced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kube.set(webPod(1))
	w.start()
	w.eventually(map[string]string{"web-1": api.HealthPassing})
	w.stop()

	w.kube.change(func() { w.kube.synced = false; clear(w.kube.pods); clear(w.kube.exists) })
	w.start()
	consultest.Eventually(t, "/readyz says why", func() error {
		if code, body := w.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "not complete yet") {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	if code, body := w.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d %s", code, body)
	}
	if diff := cmp.Diff(map[string]string{"web-1": api.HealthPassing}, w.atServers()); diff != "" {
		t.Errorf("at the servers (-want +got):\n%s", diff)
	}
	w.kube.set(webPod(1))
	w.kube.change(func() { w.kube.synced = true })
	consultest.Eventually(t, "/readyz turns", func() error {
		if code, body := w.get("/readyz"); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
}

// I3: without the servers no gate opens, whatever the agent says, and what is
// open stays so. When they are back it goes on by itself.
func TestServersAwayHoldTheGate(t *testing.T) { inEachWorld(t, serversAwayHoldTheGate) }

func serversAwayHoldTheGate(t *testing.T, w *world) {
	w.kube.set(webPod(1))
	w.start()
	w.eventuallyCondition("uid-1", service.GateReachable, service.ConditionTrue, "Reachable")

	w.consul.Server.Stop()
	w.kube.set(webPod(2))
	waiting := w.eventuallyCondition("uid-2", service.GateReachable, service.ConditionFalse, "WaitingForServers")
	if !strings.Contains(waiting.Message, "web") {
		t.Errorf("message %q does not name the service", waiting.Message)
	}
	if got := w.kube.condition("uid-1", service.GateReachable); got.Status != service.ConditionTrue {
		t.Errorf("the open gate is now %+v", got)
	}
	if code, body := w.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d %s", code, body)
	}

	w.consul.Server.Start()
	w.eventuallyCondition("uid-2", service.GateReachable, service.ConditionTrue, "Reachable")
}

// An agent of Consul that has lost its data is filled again.
func TestForeignDeregistrationIsRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kube.set(webPod(1))
	w.start()
	w.eventually(map[string]string{"web-1": api.HealthPassing})
	id := service.InstanceID("web", webPod(1).Ref)
	if err := w.consul.Client.API(w.token).Agent().ServiceDeregister(id); err != nil {
		t.Fatal(err)
	}
	w.eventually(map[string]string{"web-1": api.HealthPassing})
}

// What the servers have lost, or were never told, is pushed to them long before
// Consul's agent would compare. It is they whom clients ask (I2).
func TestServersThatForgetAreTold(t *testing.T) { inEachWorld(t, serversThatForgetAreTold) }

func serversThatForgetAreTold(t *testing.T, w *world) {
	w.kube.set(webPod(1), webPod(2))
	w.start()
	w.eventually(map[string]string{"web-1": api.HealthPassing, "web-2": api.HealthPassing})
	client, _ := w.consul.Server.FairwayClient(w.token)
	var services []*api.CatalogService
	if _, err := client.Raw().Query("/v1/catalog/service/web", &services, nil); err != nil || len(services) != 2 {
		t.Fatalf("%d services: %v", len(services), err)
	}
	catalog := w.consul.Management().Catalog()
	gone := &api.CatalogDeregistration{Node: services[0].Node, ServiceID: services[0].ServiceID}
	if _, err := catalog.Deregister(gone, nil); err != nil {
		t.Fatal(err)
	}
	w.eventually(map[string]string{"web-1": api.HealthPassing, "web-2": api.HealthPassing})
	wrong := &api.CatalogRegistration{Node: services[1].Node, SkipNodeUpdate: true, Check: &api.AgentCheck{
		Node: services[1].Node, CheckID: services[1].ServiceID, ServiceID: services[1].ServiceID, Name: "x", Status: api.HealthCritical,
	}}
	if _, err := catalog.Register(wrong, nil); err != nil {
		t.Fatal(err)
	}
	w.eventually(map[string]string{"web-1": api.HealthPassing, "web-2": api.HealthPassing})
}

func TestBadAnnotationIsReportedAndHurtsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kube.set(webPod(1), webPod(2))
	w.start()
	w.eventually(map[string]string{"web-1": api.HealthPassing, "web-2": api.HealthPassing})

	bad := webPod(1)
	bad.Annotations = map[string]string{"fairway.dev/service-names": "web", "fairway.dev/service-port": "99999"}
	w.kube.set(bad)
	w.eventuallyCondition("uid-1", service.ConditionAnnotations, service.ConditionFalse, "InvalidAnnotation")
	if diff := cmp.Diff(map[string]string{"web-1": api.HealthPassing, "web-2": api.HealthPassing}, w.atServers()); diff != "" {
		t.Errorf("at the servers (-want +got):\n%s", diff)
	}
	if _, events := w.kube.seen(); !slices.Contains(events, "Warning web-1 InvalidAnnotation") {
		t.Errorf("events: %v", events)
	}
	w.kube.set(webPod(1))
	w.eventuallyCondition("uid-1", service.ConditionAnnotations, service.ConditionTrue, "Valid")
	if got := w.kube.condition("uid-2", service.ConditionAnnotations); got.Status != "" {
		t.Errorf("a pod that never had a problem got %+v", got)
	}
}

// Twenty pods that become ready at once: how long until each gate is open.
func TestManyPodsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	const n = 20
	start := time.Now()
	w.kube.change(func() {
		for i := range n {
			pod := webPod(i + 1)
			w.kube.pods[pod.Ref.UID] = pod
		}
	})
	for i := range n {
		w.eventuallyCondition(fmt.Sprintf("uid-%d", i+1), service.GateReachable, service.ConditionTrue, "Reachable")
	}
	took := time.Since(start)
	t.Logf("%d gates open after %s", n, took)
	if writes, _ := w.kube.seen(); writes != n {
		t.Errorf("%d writes to pods, want %d", writes, n)
	}
	if took > 5*time.Second {
		t.Errorf("%d gates took %s", n, took)
	}
	// I2: Consul's agent keeps the health of what was registered through its
	// own restart only once that has been renewed.
	renewed := func() float64 { return w.metric(`fairway_registry_ops_total{op="renew",result="ok"}`) }
	eventuallyMore := func(than float64) {
		t.Helper()
		consultest.Eventually(t, "what was registered is renewed", func() error {
			if n := renewed(); n <= than {
				return fmt.Errorf("%v renewals", n)
			}
			return nil
		})
	}
	eventuallyMore(0)
	before := renewed()
	w.kube.set(webPod(n + 1))
	eventuallyMore(before)
}

// A node that is taken for dead, and lives, is back at once; and one that is asked
// whether it lives answers at once. That is one write, however many pods it has.
func TestLeaseIsTakenBack(t *testing.T) {
	t.Parallel()
	w := newCatalogWorld(t)
	w.resync = time.Hour
	w.kube.set(webPod(1), webPod(2))
	w.start()
	passing := map[string]string{"web-1": api.HealthPassing, "web-2": api.HealthPassing}
	w.eventually(passing)

	client, _ := w.consul.Server.FairwayClient(w.token)
	leases := catalog.NewLeases(client, "east")
	all, err := leases.List(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("leases %v, %v", all, err)
	}
	index := func() int {
		t.Helper()
		n, err := strconv.Atoi(w.consul.Index())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, disturb := range []func() error{
		func() error { return leases.Expire(t.Context(), all[0], "node n1 is gone") },
		func() error { return leases.Ask(t.Context(), all[0], "do you live?") },
	} {
		before := index()
		if err := disturb(); err != nil {
			t.Fatal(err)
		}
		consultest.Eventually(t, "the lease is as it should be", func() (err error) {
			if all, err = leases.List(t.Context()); err == nil && (all[0].Status != service.Passing || all[0].Asked()) {
				err = fmt.Errorf("the lease is %s: %q", all[0].Status, all[0].Reason)
			}
			return err
		})
		w.eventually(passing)
		if writes := index() - before; writes != 2 {
			t.Errorf("%d writes, want one that disturbs the lease and one that puts it right", writes)
		}
	}
}
