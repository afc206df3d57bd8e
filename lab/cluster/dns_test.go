package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

// byName: pods of both clusters and a VM call each other by the names that Consul and Kubernetes give
// them. Each asks its own resolver: a pod its cluster's DNS, the VM the Consul servers.
func byName(t *testing.T, east, west *side) {
	stop, err := workload.StartVM(t.Context(), east.Cluster, "machine", t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 { // the second time there is nothing to do
			if err := stop(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}
	})
	if err := east.Restart(t.Context(), "client/vm"); err != nil { // as a process like any other
		t.Error(err)
	}
	for _, s := range []*side{east, west} {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.app.Namespace, Name: "inside"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": s.app.Name}, Ports: []corev1.ServicePort{{Port: 8080}}},
		}
		if _, err := s.kube.CoreV1().Services(s.app.Namespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	vm, inEast, inWest := east.Host("client").Addr.String(), east.pod(t), west.pod(t)
	for _, call := range []struct {
		what, from, name string
		want             []string
	}{
		{"a pod calls the VM", inEast.Status.PodIP, "machine.service.consul", []string{"machine"}},
		{"a pod of the other cluster calls the VM", inWest.Status.PodIP, "machine.service.consul", []string{"machine"}},
		{"the VM calls pods", vm, "shared.service.consul", []string{inEast.Name, inWest.Name}},
		{"a pod calls pods", inWest.Status.PodIP, "shared.service.consul", []string{inEast.Name, inWest.Name}},
		{"a pod calls a Service", inEast.Status.PodIP, "inside.default.svc.cluster.local", []string{inEast.Name}},
		{"a pod of the other cluster calls its own Service", inWest.Status.PodIP, "inside", []string{inWest.Name}},
	} {
		cluster.Eventually(t, call.what+" by name", func(ctx context.Context) error {
			answer, err := east.Call(ctx, call.from, "http://"+call.name+":8080/")
			if err == nil && !slices.Contains(call.want, answer) {
				err = fmt.Errorf("%s answers %q, want %v", call.name, answer, call.want)
			}
			return err
		})
	}
	if answer, err := east.Call(t.Context(), vm, "http://inside.default.svc.cluster.local:8080/"); err == nil {
		t.Errorf("the VM finds a name of Kubernetes: %q", answer)
	}
}
