package e2e

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/workload"
)

// TestSwitchFromKatalogSyncAndBack is docs/migrate-katalog-sync.md with
// katalog-sync's own daemon, under load, there and back: at every index of the
// servers' catalog each pod is passing, and no call fails.
func TestSwitchFromKatalogSyncAndBack(t *testing.T) {
	katalog := katalogSyncAlone(t)
	app := fresh(t, workload.App{Name: "switching", Replicas: 4})
	pods := deployForKatalogSync(t, app)
	onlyOwner(t, app, "katalog-sync", 4)
	fairway := newShell(t)
	fairway.eventually(0, []string{"nothing is in the way", "would be covered", "install Fairway with"}, "migrate", "katalog-sync")
	client := startLoad(t, app.Name)
	catalog := watchCatalog(t, app.Name)
	catalog.require(pods)

	step(t, "install Fairway beside katalog-sync", workload.Configure(t.Context(), fleet.lab, workload.ConsulAgents, "katalogSync=take-over"))
	waitKatalog(t, "all of katalog-sync's entries are covered", map[string]int{"covered": 4, "uncovered": 0})
	fairway.eventually(0, []string{"4 are covered", "next: kubectl -n kube-system delete daemonset katalog-sync"}, "migrate", "katalog-sync")
	step(t, "remove katalog-sync", katalog.Stop(bounded(t)))
	onlyOwner(t, app, "fairway", 4)
	waitKatalog(t, "nothing of katalog-sync is left", map[string]int{"covered": 0, "uncovered": 0, "waiting": 0, "superfluous": 0})
	fairway.eventually(0, []string{"Fairway has taken katalog-sync's place"}, "migrate", "katalog-sync")
	waitLoad(t, client, 300)

	// A new pod has katalog-sync's gate still, and nobody else to open it.
	patchDeployment(t, app, `{"spec":{"replicas":5}}`)
	pods = waitReadyPods(t, app, 5)
	catalog.require(pods)
	onlyOwner(t, app, "fairway", 5)

	step(t, "tell Fairway to hand back", workload.Configure(t.Context(), fleet.lab, workload.ConsulAgents, "katalogSync=hand-back"))
	fairway.eventually(1, []string{"5 pods, such as", "katalog-sync has not registered it", "next: install katalog-sync again"}, "migrate", "katalog-sync", "--back")
	step(t, "install katalog-sync again", katalog.Start(bounded(t)))
	waitKatalog(t, "all is handed back", map[string]int{"yielded": 5, "kept": 0})
	onlyOwner(t, app, "katalog-sync", 5)
	fairway.eventually(0, []string{"5 are yielded", "next: helm uninstall fairway"}, "migrate", "katalog-sync", "--back")
	step(t, "uninstall Fairway", workload.UninstallFairway(t.Context(), fleet.lab))
	waitLoad(t, client, 300)
	onlyOwner(t, app, "katalog-sync", 5)

	stopLoad(t, client)
	catalog.stop()
	patchDeployment(t, app, `{"spec":{"replicas":0}}`) // what katalog-sync has registered goes with its pods
	until(t, "katalog-sync has removed its entries", func(context.Context) (bool, string, error) {
		found := listed(t, app.Name)
		return len(found) == 0, fmt.Sprintf("%d entries", len(found)), nil
	})
}

func step(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%s: done", what)
}

// katalogSyncAlone replaces Fairway by katalog-sync on all nodes, and puts
// Fairway back after the test.
func katalogSyncAlone(t *testing.T) *workload.KatalogSync {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if err := workload.Configure(ctx, fleet.lab, fleet.registry); err != nil {
			t.Errorf("put Fairway back: %v", err)
		}
	})
	step(t, "uninstall Fairway", workload.UninstallFairway(t.Context(), fleet.lab))
	katalog, err := workload.PrepareKatalogSync(t.Context(), fleet.lab, fleet.kube, os.Stderr)
	step(t, "prepare katalog-sync", err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if err := katalog.Remove(ctx); err != nil {
			t.Errorf("remove katalog-sync: %v", err)
		}
	})
	step(t, "install katalog-sync", katalog.Start(bounded(t)))
	return katalog
}

// deployForKatalogSync creates the app as a user of katalog-sync has it, and
// waits until katalog-sync has opened its gates.
func deployForKatalogSync(t *testing.T, app workload.App) []corev1.Pod {
	t.Helper()
	deployment := app.Deployment()
	deployment.Spec.Template.Annotations = map[string]string{
		"katalog-sync.wish.com/service-names": app.Name,
		"katalog-sync.wish.com/service-port":  "8080",
		"katalog-sync.wish.com/service-tags":  "v1",
	}
	deployment.Spec.Template.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: service.GateKatalog}}
	if _, err := fleet.kube.AppsV1().Deployments(app.Namespace).Create(bounded(t), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatalf("create deployment %s: %v", app.Name, err)
	}
	return waitReadyPods(t, app, int(app.Replicas))
}

func waitReadyPods(t *testing.T, app workload.App, want int) (pods []corev1.Pod) {
	t.Helper()
	until(t, fmt.Sprintf("%d pods are ready", want), func(ctx context.Context) (bool, string, error) {
		list, err := fleet.kube.CoreV1().Pods(app.Namespace).List(ctx, metav1.ListOptions{LabelSelector: app.Selector()})
		if err != nil {
			return false, "", err
		}
		pods = slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return condition(&p, corev1.PodReady).Status != corev1.ConditionTrue })
		return len(pods) == want, fmt.Sprintf("%d are", len(pods)), nil
	})
	return pods
}

// onlyOwner waits until the service has so many entries at the servers, all
// passing and all of one owner.
func onlyOwner(t *testing.T, app workload.App, owner string, want int) {
	t.Helper()
	began := time.Now()
	until(t, fmt.Sprintf("the servers have %d entries, all of %s and passing", want, owner), func(context.Context) (bool, string, error) {
		found := listed(t, app.Name)
		var others []string
		for _, e := range found {
			if !strings.HasPrefix(e.Service.ID, owner+"_") || e.Checks.AggregatedStatus() != api.HealthPassing {
				others = append(others, e.Service.ID+" "+e.Checks.AggregatedStatus())
			}
		}
		return len(found) == want && len(others) == 0, fmt.Sprintf("%d entries; not so: %v", len(found), others), nil
	})
	t.Logf("only entries of %s after %s", owner, time.Since(began).Round(10*time.Millisecond))
}

// listed returns all entries of a service at the servers, whoever registered them.
func listed(t *testing.T, name string) []*api.ServiceEntry {
	t.Helper()
	q := (&api.QueryOptions{RequireConsistent: true}).WithContext(bounded(t))
	entries, _, err := fleet.consul[0].Health().Service(name, "", false, q)
	if err != nil {
		t.Fatalf("look up %s: %v", name, err)
	}
	return entries
}

// waitKatalog waits until the agents together count their entries so, by state.
func waitKatalog(t *testing.T, what string, want map[string]int) {
	t.Helper()
	began := time.Now()
	until(t, what, func(context.Context) (bool, string, error) {
		got := map[string]int{}
		for _, node := range fleet.lab.Nodes() {
			for state := range want {
				n, err := strconv.Atoi(metric(t, node, fmt.Sprintf("fairway_katalog_entries{state=%q}", state)))
				if err != nil {
					return false, "the agent of " + node + " does not say", nil
				}
				got[state] += n
			}
		}
		return maps.Equal(got, want), fmt.Sprint(got), nil
	})
	t.Logf("%s: after %s", what, time.Since(began).Round(10*time.Millisecond))
}

// catalogWatch follows the passing instances of a service at the servers, and
// notes each answer that lacks a pod.
type catalogWatch struct {
	t    *testing.T
	name string
	stop func() // ends it and fails the test if a pod was ever missing

	mu       sync.Mutex
	required map[string]string // what it is, by address or place
	missing  []string
	answers  int
	twice    int // answers that gave a place more than once
}

func watchCatalog(t *testing.T, name string) *catalogWatch {
	t.Helper()
	w := &catalogWatch{t: t, name: name, required: map[string]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var index uint64
		for ctx.Err() == nil {
			q := (&api.QueryOptions{WaitIndex: index, WaitTime: 30 * time.Second, RequireConsistent: true}).WithContext(ctx)
			entries, meta, err := fleet.consul[0].Health().Service(name, "", true, q)
			if err != nil {
				continue
			}
			index = meta.LastIndex
			w.look(entries, index)
		}
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		w.report()
	})
	t.Cleanup(w.stop)
	return w
}

// require makes the pods ones that must never be missing from now on.
func (w *catalogWatch) require(pods []corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, pod := range pods {
		w.required[pod.Status.PodIP] = pod.Name
	}
}

// requirePlaces makes the places ones that must never be missing from now on.
func (w *catalogWatch) requirePlaces(places []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, place := range places {
		w.required[place] = place
	}
}

// placeOf is where clients connect.
func placeOf(e *api.ServiceEntry) string {
	return net.JoinHostPort(cmp.Or(e.Service.Address, e.Node.Address), strconv.Itoa(e.Service.Port))
}

func (w *catalogWatch) look(entries []*api.ServiceEntry, index uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers++
	times := map[string]int{}
	for _, entry := range entries {
		times[entry.Service.Address]++
		times[placeOf(entry)]++
	}
	for address, pod := range w.required {
		if times[address] == 0 {
			w.missing = append(w.missing, fmt.Sprintf("%s at index %d", pod, index))
		}
	}
	if slices.ContainsFunc(slices.Collect(maps.Values(times)), func(n int) bool { return n > 1 }) {
		w.twice++
	}
}

func (w *catalogWatch) report() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Logf("%s: %d answers of the servers, %d of them with a place listed twice", w.name, w.answers, w.twice)
	if len(w.missing) > 0 || w.answers == 0 {
		w.t.Errorf("%s: of %d answers these lacked something: %v", w.name, w.answers, w.missing)
	}
}
