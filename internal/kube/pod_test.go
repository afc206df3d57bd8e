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

	"fairway.dev/fairway/internal/annotation"
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
				{Name: "log", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
				{Name: "web", Ready: true, RestartCount: 2, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			},
			InitContainerStatuses: []corev1.ContainerStatus{
				{Name: "migrate", Ready: true, RestartCount: 7, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}},
				{Name: "proxy", Ready: true, RestartCount: 1, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
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
		Containers:           []service.Container{{Name: "web", Ready: true}, {Name: "log"}, {Name: "proxy", Ready: true}},
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

// A container of which nothing was reported yet is there, and not ready.
func TestContainersBeforeTheirStatus(t *testing.T) {
	pod := fullPod()
	pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses = nil, nil
	want := []service.Container{{Name: "web"}, {Name: "log"}, {Name: "proxy"}}
	if diff := cmp.Diff(want, Pod(pod).Containers); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A pod on the host's network has the node's addresses, in the order of the
// kubelet, and the container ports as they are.
func TestHostNetworkPod(t *testing.T) {
	pod := fullPod()
	pod.Spec.HostNetwork = true
	pod.Spec.Containers[0].Ports[0].HostPort = 8080
	pod.Status.HostIP, pod.Status.PodIP = "198.18.0.2", "198.18.0.2"
	pod.Status.PodIPs = []corev1.PodIP{{IP: "198.18.0.2"}, {IP: "2001:db8::2"}}
	declared := annotation.Parse(Pod(pod))
	if len(declared.Instances) != 1 || len(declared.Errors) != 0 {
		t.Fatalf("declared: %+v", declared)
	}
	v4, v6 := netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("2001:db8::2")
	in := declared.Instances[0]
	want := map[string]netip.Addr{"lan_ipv4": v4, "wan_ipv4": v4, "lan_ipv6": v6, "wan_ipv6": v6}
	if diff := cmp.Diff(want, in.Tagged, cmpopts.EquateComparable(netip.Addr{})); diff != "" || in.Address != v4 || in.Port != 8080 {
		t.Errorf("%s:%d, tagged (-want +got):\n%s", in.Address, in.Port, diff)
	}
}
