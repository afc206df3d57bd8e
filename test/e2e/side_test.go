package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

// side is a Kubernetes cluster with a Fairway: the fleet, or one that shares its
// Consul.
type side struct {
	lab  *cluster.Cluster
	kube *kubernetes.Clientset
}

func newSide(lab *cluster.Cluster) (side, error) {
	kube, err := kubernetes.NewForConfig(lab.RESTConfig())
	return side{lab, kube}, err
}

// controllers are the pods of the controller that nobody has deleted.
func (s side) controllers(ctx context.Context) ([]corev1.Pod, error) {
	list, err := s.kube.CoreV1().Pods(workload.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
	if err != nil {
		return nil, err
	}
	var pods []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// tellControllers shows what the controllers say, if the test fails.
func (s side) tellControllers(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		pods, err := s.controllers(ctx)
		if err != nil {
			t.Log(err)
		}
		for _, pod := range pods {
			log, err := s.kube.CoreV1().Pods(workload.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
			t.Logf("lab %s, %s on %s: %v\n%s", s.lab.Name, pod.Name, pod.Spec.NodeName, err, log)
		}
	})
}

// waitLeader waits until a controller leads, another than the one named, and
// returns its pod.
func (s side) waitLeader(t *testing.T, another string) (pod *corev1.Pod) {
	t.Helper()
	until(t, "a controller leads", func(ctx context.Context) (bool, string, error) {
		lease, err := s.kube.CoordinationV1().Leases(workload.Namespace).Get(ctx, workload.ControllerName, metav1.GetOptions{})
		if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == another {
			return false, "nobody else", err
		}
		if pod, err = s.kube.CoreV1().Pods(workload.Namespace).Get(ctx, *lease.Spec.HolderIdentity, metav1.GetOptions{}); err != nil {
			return false, "", err
		}
		said, err := s.ask(ctx, pod, "/readyz")
		return strings.HasPrefix(said, "ok\nthis replica leads"), said, err
	})
	return pod
}

// waitExportAtRest waits until a controller has nothing to write.
func (s side) waitExportAtRest(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	until(t, "nothing of Services is due", func(ctx context.Context) (bool, string, error) {
		said, err := s.ask(ctx, pod, "/metrics")
		return strings.Contains(said, `fairway_export_instances{state="due"} 0`+"\n") &&
			!strings.Contains(said, "fairway_export_read_timestamp_seconds 0\n"), said, err
	})
}

// waitControllers waits until all controllers are up, one of them leads, and it has
// nothing to write.
func (s side) waitControllers(t *testing.T) {
	t.Helper()
	until(t, "all controllers are ready", func(ctx context.Context) (bool, string, error) {
		pods, err := s.controllers(ctx)
		ready := 0
		for _, pod := range pods {
			if said, err := s.ask(ctx, &pod, "/readyz"); err == nil && strings.HasPrefix(said, "ok\n") {
				ready++
			}
		}
		return ready == workload.Controllers && len(pods) == ready, fmt.Sprintf("%d of %d", ready, len(pods)), err
	})
	s.waitExportAtRest(t, s.waitLeader(t, ""))
}

// killControllers kills the controllers of a node; its kubelet starts them again.
func (s side) killControllers(t *testing.T, node string) {
	t.Helper()
	if err := s.lab.KillContainer(bounded(t), node, "controller"); err != nil {
		t.Fatal(err)
	}
}

// deleteController deletes a controller's pod; another comes in its place.
func (s side) deleteController(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := s.kube.CoreV1().Pods(workload.Namespace).Delete(bounded(t), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// ask makes a request to a controller from outside the nodes.
func (s side) ask(ctx context.Context, pod *corev1.Pod, path string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: s.lab.Host("client").Dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(pod.Status.PodIP, "9980")+path, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}
