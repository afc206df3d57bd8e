package kube

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"fairway.dev/fairway/internal/service"
)

// fullPod has everything that matters, and much that does not.
func fullPod() *corev1.Pod {
	since := metav1.NewTime(time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-1", UID: "uid-1",
			Annotations:       map[string]string{"fairway.dev/service-names": "web"},
			Labels:            map[string]string{"app": "web"},
			ManagedFields:     []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
			DeletionTimestamp: &since,
		},
		Spec: corev1.PodSpec{
			NodeName: "n1",
			Containers: []corev1.Container{
				{Name: "web", Image: "web:1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}},
				{Name: "log", Ports: []corev1.ContainerPort{{ContainerPort: 514, Protocol: corev1.ProtocolUDP}}},
			},
			InitContainers: []corev1.Container{
				{Name: "migrate", Ports: []corev1.ContainerPort{{ContainerPort: 1}}},
				{Name: "proxy", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{ContainerPort: 15001}}},
			},
			ReadinessGates: []corev1.PodReadinessGate{{ConditionType: service.GateReachable}, {ConditionType: "example.com/lb"}},
			Volumes:        []corev1.Volume{{Name: "data"}},
		},
		Status: corev1.PodStatus{
			Phase:  corev1.PodRunning,
			PodIP:  "198.18.64.7",
			PodIPs: []corev1.PodIP{{IP: "198.18.64.7"}, {IP: "not an address"}, {IP: "2001:db8::7"}},
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionFalse, Message: "waits for its gates"},
				{Type: corev1.ContainersReady, Status: corev1.ConditionTrue, LastTransitionTime: since},
				{Type: "example.com/lb", Status: corev1.ConditionTrue},
				{Type: service.GateReachable, Status: corev1.ConditionFalse, Reason: "WaitingForServers", Message: "m", LastTransitionTime: since},
			},
			ContainerStatuses: []corev1.ContainerStatus{
				{Name: "web", RestartCount: 2, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
				{Name: "log", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			},
			InitContainerStatuses: []corev1.ContainerStatus{
				{Name: "migrate", RestartCount: 7, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}},
				{Name: "proxy", RestartCount: 1, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			},
		},
	}
}

func TestPod(t *testing.T) {
	since := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	want := service.Pod{
		Ref:         service.PodRef{Namespace: "shop", Name: "web-1", UID: "uid-1"},
		Annotations: map[string]string{"fairway.dev/service-names": "web"},
		Addresses:   []netip.Addr{netip.MustParseAddr("198.18.64.7"), netip.MustParseAddr("2001:db8::7")},
		Ports: []service.ContainerPort{
			{Name: "http", Port: 8080, Protocol: "TCP"}, {Port: 514, Protocol: "UDP"}, {Port: 15001, Protocol: "TCP"},
		},
		Phase:                service.PhaseRunning,
		Terminating:          true,
		AllRunning:           true,
		Restarts:             3,
		ContainersReady:      true,
		ContainersReadySince: since,
		Gates:                []service.Gate{{Type: service.GateReachable}, {Type: "example.com/lb", Open: true}},
		Conditions: map[string]service.Condition{
			service.GateReachable: {Status: "False", Reason: "WaitingForServers", Message: "m", Since: since},
		},
	}
	if diff := cmp.Diff(want, Pod(fullPod()), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPodThatIsNotReady(t *testing.T) {
	pod := fullPod()
	pod.Status.Conditions[1].Status = corev1.ConditionFalse
	pod.Status.Conditions[1].Message = "containers with unready status: [web]"
	got := Pod(pod)
	if got.ContainersReady || got.NotReadyMessage != "containers with unready status: [web]" {
		t.Errorf("ready %v, message %q", got.ContainersReady, got.NotReadyMessage)
	}
	pod.Status.InitContainerStatuses[1].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
	if Pod(pod).AllRunning {
		t.Error("a native sidecar that waits counts as running")
	}
	pod.Status = corev1.PodStatus{PodIP: "198.18.64.7"} // an API server that is too old for podIPs
	if got := Pod(pod); got.ContainersReady || len(got.Addresses) != 1 {
		t.Errorf("without conditions: ready %v, addresses %v", got.ContainersReady, got.Addresses)
	}
}
