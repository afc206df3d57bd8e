package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// In a rollout a node may have two agents; the one that stays is asked.
func TestOnePerNode(t *testing.T) {
	start := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	pod := func(name, node string, age time.Duration, leaves bool) corev1.Pod {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(start.Add(-age))}, Spec: corev1.PodSpec{NodeName: node}}
		if leaves {
			p.DeletionTimestamp = &metav1.Time{Time: start}
		}
		return p
	}
	var got []string
	for _, p := range onePerNode([]corev1.Pod{
		pod("n2-leaves", "n2", time.Minute, true), pod("n1-old", "n1", time.Hour, false), pod("no-node", "", 0, false),
		pod("n2-stays", "n2", time.Hour, false), pod("n1-new", "n1", time.Minute, false), pod("n3-leaves", "n3", 0, true),
	}) {
		got = append(got, p.Name)
	}
	if want := []string{"n1-new", "n2-stays", "n3-leaves"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestReadOffThePod(t *testing.T) {
	pod := corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Args: []string{"--registry=agent", "--cluster-id=east"}, Ports: []corev1.ContainerPort{{Name: "other", ContainerPort: 1}, {Name: "http", ContainerPort: 9990}},
	}}}}
	if id, at := clusterID(pod.Spec), port(pod); id != "east" || at != 9990 {
		t.Errorf("cluster %q, port %d", id, at)
	}
	if id, at := clusterID(corev1.PodSpec{}), port(corev1.Pod{}); id != "" || at != agentPort {
		t.Errorf("of a pod that does not say: cluster %q, port %d", id, at)
	}
}

func TestProxyProblem(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for want, err := range map[string]error{
		"its version does not have /v1/view yet": apierrors.NewGenericServerResponse(http.StatusNotFound, "get", pods, "a", "404 page not found", 0, true),
		`pods "a" not found`:                     apierrors.NewNotFound(pods, "a"),
		"forbidden":                              apierrors.NewForbidden(pods, "a", errors.New("no")),
		"no answer within 10s":                   fmt.Errorf("get: %w", context.DeadlineExceeded),
	} {
		if got := proxyProblem(err); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
