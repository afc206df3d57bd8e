package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// TestEditsReachTheServers: tags, meta and port of a running pod follow its
// annotations, and it never leaves the passing set meanwhile.
func TestEditsReachTheServers(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "edited", Replicas: 2, Annotations: map[string]string{
		"fairway.dev/service-tags": "v1",
		"fairway.dev/service-meta": "team:blue",
	}}
	pods := deployReady(t, app)
	pod := pods.Pods()[0]

	began := time.Now()
	annotate(t, pod, map[string]string{
		"fairway.dev/service-tags": "v2, canary",
		"fairway.dev/service-meta": "team:green,url:http://x:1/",
		"fairway.dev/service-port": "8081",
	})
	until(t, "the edit is at the servers", func(context.Context) (bool, string, error) {
		e := entries(t, app.Name)[pod.UID].Service
		done := slices.Equal(e.Tags, []string{"v2", "canary"}) && e.Meta["team"] == "green" && e.Meta["url"] == "http://x:1/" && e.Port == 8081
		return done, fmt.Sprintf("%+v", e), nil
	})
	t.Logf("edit visible after %s", time.Since(began).Round(time.Millisecond))

	other := entries(t, app.Name)[pods.Pods()[1].UID].Service
	if !slices.Equal(other.Tags, []string{"v1"}) || other.Port != 8080 {
		t.Errorf("the other pod changed too: %+v", other)
	}
	noFlaps(t, pods.Pods())
}

// TestKatalogSyncAnnotations: the old dialect registers the same way.
func TestKatalogSyncAnnotations(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "old-dialect", Replicas: 1, Ungated: true, Annotations: map[string]string{
		"fairway.dev/service-names":                      "", // removed below
		"katalog-sync.wish.com/service-names":            "old-dialect,old-admin",
		"katalog-sync.wish.com/service-port":             "8080",
		"katalog-sync.wish.com/service-port-old-admin":   "9090",
		"katalog-sync.wish.com/service-tags":             "a,b",
		"katalog-sync.wish.com/service-meta-old-admin":   "kind:admin",
		"katalog-sync.wish.com/service-check-ttl":        "1m",
		"katalog-sync.wish.com/sync-interval":            "2s",
		"katalog-sync.wish.com/container-exclude":        "sample",
		"katalog-sync.wish.com/serivce-health-old-admin": "warning", // as its documentation spells it
	}}
	pods := deployReady(t, app)
	pod := pods.Pods()[0]
	for name, health := range map[string]string{"old-dialect": "passing", "old-admin": "warning"} {
		until(t, name+" is "+health, func(context.Context) (bool, string, error) {
			e := entries(t, name)[pod.UID]
			return e != nil && e.Checks.AggregatedStatus() == health, fmt.Sprint(e), nil
		})
	}
	main, admin := entries(t, "old-dialect")[pod.UID], entries(t, "old-admin")[pod.UID]
	if main.Service.Port != 8080 || !slices.Equal(main.Service.Tags, []string{"a", "b"}) {
		t.Errorf("old-dialect: %+v", main.Service)
	}
	if admin.Service.Port != 9090 || admin.Service.Meta["kind"] != "admin" {
		t.Errorf("old-admin: %+v", admin.Service)
	}
}

// TestSidecarThatWaitsForRegistration: a container that is ready only when the
// pod is registered holds up neither registration nor gate, and the others still
// decide on health. On the way: weights, a second port, a dead-man of its own.
func TestSidecarThatWaitsForRegistration(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "classic", Replicas: 1, Annotations: map[string]string{
		"fairway.dev/sidecar":           "waiter",
		"fairway.dev/service-port":      "http,waiter",
		"fairway.dev/service-weights":   "passing:5",
		"fairway.dev/service-check-ttl": "30s",
	}}
	pods := deployEdited(t, app, func(spec *corev1.PodSpec) {
		waiter := spec.Containers[0].DeepCopy()
		waiter.Name, waiter.Args = "waiter", []string{"-listen", ":8081"}
		waiter.Ports = []corev1.ContainerPort{{Name: "waiter", ContainerPort: 8081}}
		waiter.ReadinessProbe.HTTPGet.Port = intstr.FromString("waiter")
		waiter.Env = append(waiter.Env, corev1.EnvVar{Name: "START_READY", Value: "false"})
		spec.Containers = append(spec.Containers, *waiter)
	})
	waitPods(t, pods, "the gate is open", func(pods []timeline.Pod) bool {
		return len(pods) == 1 && pods[0].Reached(timeline.GateOpen)
	})
	pod := pods.Pods()[0]
	if pod.Reached(timeline.ContainersReady) {
		t.Error("the waiter is ready: the test shows nothing")
	}
	e := entries(t, app.Name)[pod.UID]
	if e == nil || e.Checks.AggregatedStatus() != "passing" {
		t.Fatalf("at the servers: %+v", e)
	}
	if e.Service.Weights.Passing != 5 || e.Service.Weights.Warning != 1 || e.Service.Meta["port-waiter"] != "8081" {
		t.Errorf("at the servers: weights %+v, meta %v", e.Service.Weights, e.Service.Meta)
	}
	for _, step := range []struct {
		ready  bool
		health string
	}{{false, "critical"}, {true, "passing"}} {
		if err := fleet.lab.SetReady(bounded(t), pod.IP, step.ready); err != nil {
			t.Fatal(err)
		}
		until(t, "the app's readiness is at the servers: "+step.health, func(context.Context) (bool, string, error) {
			e := entries(t, app.Name)[pod.UID]
			return e != nil && e.Checks.AggregatedStatus() == step.health, fmt.Sprint(e), nil
		})
	}
}

// TestFixedHealthHoldsTheGate: a gated pod that can never pass says why, and
// goes on when it can.
func TestFixedHealthHoldsTheGate(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "fixed", Replicas: 1, Annotations: map[string]string{
		"fairway.dev/service-health": "warning",
	}}
	pods := deploy(t, app)
	waitPods(t, pods, "the gate says what it waits for", func(pods []timeline.Pod) bool {
		return len(pods) == 1 && pods[0].GateReason == "FixedHealth" && strings.Contains(pods[0].GateMessage, "service-health")
	})
	pod := pods.Pods()[0]
	until(t, "the fixed health is at the servers", func(context.Context) (bool, string, error) {
		e := entries(t, app.Name)[pod.UID]
		return e != nil && e.Checks.AggregatedStatus() == "warning", fmt.Sprint(e), nil
	})
	annotate(t, pod, map[string]string{"fairway.dev/service-health": ""})
	waitPods(t, pods, "the pod is ready", func(pods []timeline.Pod) bool { return pods[0].Reached(timeline.Ready) })
}

// TestHostNetworkPod: a pod on the node's network is published with the node's
// address and its own port.
func TestHostNetworkPod(t *testing.T) {
	const port = 18080
	app := workload.App{Namespace: namespace(t), Name: "on-host", Replicas: 1}
	pods := deployEdited(t, app, func(spec *corev1.PodSpec) {
		spec.HostNetwork = true
		spec.Containers[0].Args = []string{"-listen", fmt.Sprintf(":%d", port)}
		spec.Containers[0].Ports[0].ContainerPort = port
	})
	waitPods(t, pods, "the pod is ready", func(pods []timeline.Pod) bool { return len(pods) == 1 && all(pods, timeline.Ready) })
	pod := pods.Pods()[0]
	now, err := fleet.kube.CoreV1().Pods(pod.Namespace).Get(bounded(t), pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := entries(t, app.Name)[pod.UID]
	if e == nil || e.Service.Address != now.Status.HostIP || e.Service.Port != port ||
		e.Service.TaggedAddresses["lan_ipv4"] != (api.ServiceAddress{Address: now.Status.HostIP, Port: port}) {
		t.Errorf("the node is %s, at the servers: %+v", now.Status.HostIP, e)
	}
}

// deployEdited creates the app with a change of its pods, and follows them.
func deployEdited(t *testing.T, app workload.App, edit func(*corev1.PodSpec)) *timeline.Recorder {
	t.Helper()
	pods := follow(t, app)
	deployment := app.Deployment()
	edit(&deployment.Spec.Template.Spec)
	if _, err := fleet.kube.AppsV1().Deployments(app.Namespace).Create(bounded(t), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatalf("create deployment %s: %v", app.Name, err)
	}
	return pods
}

// TestBadAnnotationHurtsNothingElse: a mistake is reported on its own pod, by
// Event and condition, with the annotation's name; the other service of the
// pod and other pods go on; the correction is enough to open the gate.
func TestBadAnnotationHurtsNothingElse(t *testing.T) {
	ns := namespace(t)
	good := workload.App{Namespace: ns, Name: "good", Replicas: 1}
	bad := workload.App{Namespace: ns, Name: "bad", Replicas: 1, Annotations: map[string]string{
		"fairway.dev/service-names":          "bad-web,bad-admin",
		"fairway.dev/service-port-bad-admin": "http-and-a-half",
	}}
	goodPods, badPods := deploy(t, good), deploy(t, bad)
	waitPods(t, goodPods, "the good pod is ready", func(pods []timeline.Pod) bool { return len(pods) == 1 && all(pods, timeline.Ready) })
	waitPods(t, badPods, "the bad pod is reported", func(pods []timeline.Pod) bool {
		return len(pods) == 1 && pods[0].Reached(timeline.ContainersReady) && pods[0].GateReason == "InvalidAnnotation"
	})
	pod := badPods.Pods()[0]
	if !strings.Contains(pod.GateMessage, "service-port-bad-admin") {
		t.Errorf("gate message %q does not name the annotation", pod.GateMessage)
	}
	message := waitEvent(t, pod, "InvalidAnnotation")
	if !strings.Contains(message, "fairway.dev/service-port-bad-admin") || !strings.Contains(message, "http-and-a-half") {
		t.Errorf("Event %q does not name the annotation and its value", message)
	}
	t.Logf("Event: %s", message)
	waitAnnotationsCondition(t, pod, corev1.ConditionFalse)
	until(t, "the valid service of the pod is registered", func(context.Context) (bool, string, error) {
		e := entries(t, "bad-web")[pod.UID]
		return e != nil && e.Checks.AggregatedStatus() == "passing", fmt.Sprint(e), nil
	})
	if found := entries(t, "bad-admin"); len(found) != 0 {
		t.Errorf("the service with the mistake is registered: %v", found)
	}

	annotate(t, pod, map[string]string{"fairway.dev/service-port-bad-admin": "http"})
	waitPods(t, badPods, "the corrected pod is ready", func(pods []timeline.Pod) bool { return pods[0].Reached(timeline.Ready) })
	waitAnnotationsCondition(t, pod, corev1.ConditionTrue)
	if found := entries(t, "bad-admin"); found[pod.UID] == nil {
		t.Errorf("the corrected service is not registered: %v", found)
	}
}

// TestLastGoodRegistrationStays: an edit that cannot be understood changes
// nothing in Consul (I1), while the pod's health is still followed (I4).
func TestLastGoodRegistrationStays(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "lastgood", Replicas: 1, LeaveSeconds: 5}
	pods := deployReady(t, app)
	pod := pods.Pods()[0]
	annotate(t, pod, map[string]string{"fairway.dev/service-names": "last_good!"})
	waitEvent(t, pod, "InvalidAnnotation")
	waitAnnotationsCondition(t, pod, corev1.ConditionFalse)
	if e := entries(t, app.Name)[pod.UID]; e == nil || e.Checks.AggregatedStatus() != "passing" {
		t.Errorf("the last good registration is gone: %+v", e)
	}
	noFlaps(t, pods.Pods())

	if err := fleet.kube.AppsV1().Deployments(app.Namespace).Delete(bounded(t), app.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitPods(t, pods, "the pod is out while it still exists", func(pods []timeline.Pod) bool {
		return pods[0].Reached(timeline.Terminating) && pods[0].Reached(timeline.Out) && !pods[0].Reached(timeline.Deleted)
	})
}

// TestServiceTakenOffAPod: the pod's own annotations are proof enough that a
// service is no longer wanted.
func TestServiceTakenOffAPod(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "stays", Replicas: 1, Annotations: map[string]string{"fairway.dev/service-names": "stays"}}
	pods := deployReady(t, app)
	pod := pods.Pods()[0]
	annotate(t, pod, map[string]string{"fairway.dev/service-names": "stays,goes"})
	until(t, "both services are registered", func(context.Context) (bool, string, error) {
		return entries(t, "goes")[pod.UID] != nil, "", nil
	})
	annotate(t, pod, map[string]string{"fairway.dev/service-names": "stays"})
	until(t, "the service taken off is removed", func(context.Context) (bool, string, error) {
		found := entries(t, "goes")
		return len(found) == 0, fmt.Sprint(found), nil
	})
	if entries(t, "stays")[pod.UID] == nil {
		t.Error("the other service of the pod is gone")
	}
	noFlaps(t, pods.Pods())
}

func waitAnnotationsCondition(t *testing.T, pod timeline.Pod, want corev1.ConditionStatus) {
	t.Helper()
	until(t, fmt.Sprintf("condition %s is %s", service.ConditionAnnotations, want), func(ctx context.Context) (bool, string, error) {
		now, err := fleet.kube.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return false, "", err
		}
		c := condition(now, service.ConditionAnnotations)
		return c.Status == want, fmt.Sprintf("%+v", c), nil
	})
}
