package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/load"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// within is the time that each wait of these tests gets. It bounds a hang; no
// test passes by waiting for it.
const within = 90 * time.Second

// bounded is a context for one wait, in a cleanup too.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within)
	t.Cleanup(cancel)
	return ctx
}

const namespacePrefix = "e2e"

// namespace makes a namespace of the test's own and removes it afterwards.
func namespace(t *testing.T) string {
	t.Helper()
	return labelledNamespace(t, nil)
}

func labelledNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns, err := fleet.kube.CoreV1().Namespaces().Create(bounded(t), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: namespacePrefix + "-", Labels: labels}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create namespace: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if err := fleet.kube.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete namespace %s: %v", ns.Name, err)
		}
	})
	return ns.Name
}

// fresh is the app in a namespace of its own and under a name that no earlier
// run has used: what that run left may still be on its way out.
func fresh(t *testing.T, app workload.App) workload.App {
	t.Helper()
	app.Namespace = namespace(t)
	app.Name += strings.TrimPrefix(app.Namespace, namespacePrefix)
	return app
}

// deploy creates the app and follows its pods.
func deploy(t *testing.T, app workload.App, edits ...func(*corev1.PodSpec)) *timeline.Recorder {
	t.Helper()
	follow := follow(t, app)
	deployment := app.Deployment()
	for _, edit := range edits {
		edit(&deployment.Spec.Template.Spec)
	}
	if _, err := fleet.kube.AppsV1().Deployments(app.Namespace).Create(bounded(t), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatalf("create deployment %s: %v", app.Name, err)
	}
	return follow
}

// deployReady creates the app and waits until all its pods are Ready.
func deployReady(t *testing.T, app workload.App, edits ...func(*corev1.PodSpec)) *timeline.Recorder {
	t.Helper()
	pods := deploy(t, app, edits...)
	waitPods(t, pods, "all pods are ready", func(pods []timeline.Pod) bool {
		return len(pods) == int(app.Replicas) && all(pods, timeline.Ready)
	})
	return pods
}

func follow(t *testing.T, app workload.App) *timeline.Recorder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	name := app.Name
	if app.Annotations["fairway.dev/service-names"] != "" {
		name = app.Annotations["fairway.dev/service-names"]
	}
	pods, err := timeline.Follow(ctx, timeline.Options{
		Kube: fleet.kube, Consul: fleet.consul, Namespace: app.Namespace, Selector: app.Selector(), Service: name,
	})
	if err != nil {
		t.Fatal(err)
	}
	return pods
}

func waitPods(t *testing.T, r *timeline.Recorder, what string, cond func([]timeline.Pod) bool) {
	t.Helper()
	if err := r.Wait(bounded(t), what, cond); err != nil {
		t.Fatal(err)
	}
}

// all tells whether every pod has reached the stage.
func all(pods []timeline.Pod, s timeline.Stage) bool {
	return !slices.ContainsFunc(pods, func(p timeline.Pod) bool { return !p.Reached(s) })
}

// live are the pods that nobody has deleted.
func live(pods []timeline.Pod) []timeline.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p timeline.Pod) bool {
		return p.Reached(timeline.Terminating) || p.Reached(timeline.Deleted)
	})
}

// roll starts a rolling update by a change of the pod template.
func roll(t *testing.T, app workload.App, revision string) {
	t.Helper()
	patchDeployment(t, app, fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"revision":%q}}}}}`, revision))
}

func patchDeployment(t *testing.T, app workload.App, patch string) {
	t.Helper()
	fleet.patchDeployment(t, app, patch)
}

func (s side) patchDeployment(t *testing.T, app workload.App, patch string) {
	t.Helper()
	_, err := s.kube.AppsV1().Deployments(app.Namespace).Patch(bounded(t), app.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Fatalf("patch deployment %s: %v", app.Name, err)
	}
}

// annotate sets annotations of a running pod; an empty value removes one.
func annotate(t *testing.T, pod timeline.Pod, annotations map[string]string) {
	t.Helper()
	var pairs []string
	for k, v := range annotations {
		value := fmt.Sprintf("%q", v)
		if v == "" {
			value = "null"
		}
		pairs = append(pairs, fmt.Sprintf("%q:%s", k, value))
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%s}}}`, strings.Join(pairs, ","))
	if _, err := fleet.kube.CoreV1().Pods(pod.Namespace).Patch(bounded(t), pod.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatalf("annotate pod %s: %v", pod.Name, err)
	}
}

// waitRolledOut waits until the Deployment controller calls the update done.
func waitRolledOut(t *testing.T, app workload.App) {
	t.Helper()
	fleet.waitRolledOut(t, app)
}

func (s side) waitRolledOut(t *testing.T, app workload.App) {
	t.Helper()
	until(t, "deployment "+app.Name+" is rolled out", func(ctx context.Context) (bool, string, error) {
		d, err := s.kube.AppsV1().Deployments(app.Namespace).Get(ctx, app.Name, metav1.GetOptions{})
		if err != nil {
			return false, "", err
		}
		return rolledOut(d), fmt.Sprintf("%+v", d.Status), nil
	})
}

func rolledOut(d *appsv1.Deployment) bool {
	s, want := d.Status, *d.Spec.Replicas
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want && s.AvailableReplicas == want && s.Replicas == want
}

// until asks again and again, as often as 20 times a second, until cond holds.
func until(t *testing.T, what string, cond func(context.Context) (done bool, state string, err error)) {
	t.Helper()
	ctx := bounded(t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		done, state, err := cond(ctx)
		if done {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not in %s: %s; last state: %s, last error: %v", within, what, state, err)
		case <-tick.C:
		}
	}
}

// entries returns what the servers hold of a service, by pod UID.
func entries(t *testing.T, name string) map[string]*api.ServiceEntry {
	t.Helper()
	found, _ := lookUp(t, name)
	return found
}

// lookUp also returns the index at which the service last changed in any way.
func lookUp(t *testing.T, name string) (map[string]*api.ServiceEntry, uint64) {
	t.Helper()
	q := (&api.QueryOptions{RequireConsistent: true}).WithContext(bounded(t))
	list, meta, err := fleet.consul[0].Health().Service(name, "", false, q)
	if err != nil {
		t.Fatalf("look up %s: %v", name, err)
	}
	byPod := map[string]*api.ServiceEntry{}
	for _, e := range list {
		byPod[e.Service.Meta[service.MetaPodUID]] = e
	}
	return byPod, meta.LastIndex
}

// noFlaps fails if the servers ever dropped one of the pods after its gate had opened,
// but for its node's own health: Consul's members may take a node for dead up to half a
// minute after a test has cut them off from each other, and Fairway has no part in that.
func noFlaps(t *testing.T, pods []timeline.Pod) {
	t.Helper()
	for _, p := range pods {
		if p.NodeOut || p.NodeFlaps > 0 {
			t.Logf("Consul took the node of %s for dead", p.Name)
		}
		if p.Dropped() {
			t.Errorf("the servers dropped %s: %d flaps, lost %v, dropped last %s after it was created\n%s",
				p.Name, p.Flaps, p.Lost(), p.LastOut.Sub(p.At[timeline.Created]).Round(time.Millisecond), timeline.Table(pods))
		}
	}
}

// startLoad calls the service from outside the cluster.
func startLoad(t *testing.T, name string) *load.Client {
	t.Helper()
	client, err := load.Start(context.Background(), load.Options{
		Consul: fleet.consul, Service: name, Dial: fleet.lab.Host("client").Dial,
		Workers: 4, Interval: 5 * time.Millisecond, Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Stop() })
	return client
}

// stopLoad ends the calls and fails if one failed.
func stopLoad(t *testing.T, client *load.Client) {
	t.Helper()
	report := client.Stop()
	if report.Failures > 0 {
		t.Errorf("%d of %d requests failed: %v", report.Failures, report.Requests, report.Failed[:min(10, len(report.Failed))])
	}
	t.Logf("%d requests, %d failed, answered by %d pods", report.Requests, report.Failures, len(report.ByPod))
}

// waitLoad waits until the client has made n more requests.
func waitLoad(t *testing.T, client *load.Client, n int) {
	t.Helper()
	from := client.Report().Requests
	until(t, "client made requests", func(context.Context) (bool, string, error) {
		now := client.Report().Requests
		return now >= from+n, fmt.Sprint(now - from), nil
	})
}
