package kube

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"fairway.dev/fairway/internal/service"
)

// Pod is what the core knows of a pod.
func Pod(in *corev1.Pod) service.Pod {
	out := service.Pod{
		Ref:         service.PodRef{Namespace: in.Namespace, Name: in.Name, UID: string(in.UID)},
		Annotations: in.Annotations,
		Addresses:   addresses(in.Status),
		Ports:       ports(in.Spec),
		Containers:  containers(in),
		Phase:       service.Phase(in.Status.Phase),
		Terminating: in.DeletionTimestamp != nil,
		Conditions:  map[string]service.Condition{},
	}
	for _, condition := range in.Status.Conditions {
		switch condition.Type {
		case corev1.ContainersReady:
			out.ContainersReady = condition.Status == corev1.ConditionTrue
			out.ContainersReadySince = condition.LastTransitionTime.Time
			if !out.ContainersReady {
				out.NotReadyMessage = condition.Message
			}
		case corev1.PodReady:
			out.Ready = condition.Status == corev1.ConditionTrue
		case service.GateReachable, service.GateKatalog, service.ConditionAnnotations:
			out.Conditions[string(condition.Type)] = service.Condition{
				Status:  service.ConditionStatus(condition.Status),
				Reason:  condition.Reason,
				Message: condition.Message,
				Since:   condition.LastTransitionTime.Time,
			}
		}
	}
	out.AllRunning, out.Restarts = running(in)
	for _, gate := range in.Spec.ReadinessGates {
		out.Gates = append(out.Gates, service.Gate{
			Type: string(gate.ConditionType),
			Open: isTrue(in.Status.Conditions, gate.ConditionType),
		})
	}
	return out
}

// addresses are the pod's IPs, the primary one first. A value that is not an
// address is left out: the pod then has none, and waits.
func addresses(status corev1.PodStatus) []netip.Addr {
	texts := make([]string, 0, len(status.PodIPs))
	for _, ip := range status.PodIPs {
		texts = append(texts, ip.IP)
	}
	if len(texts) == 0 && status.PodIP != "" {
		texts = append(texts, status.PodIP)
	}
	var out []netip.Addr
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil {
			out = append(out, address)
		}
	}
	return out
}

// lasting are the regular containers, then native sidecars: init containers that
// are restarted always, and so run beside the others.
func lasting(spec corev1.PodSpec) []corev1.Container {
	containers := slices.Clip(spec.Containers)
	for _, container := range spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, container)
		}
	}
	return containers
}

// containers are the lasting ones, with their readiness.
func containers(in *corev1.Pod) []service.Container {
	ready := map[string]bool{}
	for _, statuses := range [][]corev1.ContainerStatus{in.Status.ContainerStatuses, in.Status.InitContainerStatuses} {
		for _, status := range statuses {
			ready[status.Name] = status.Ready
		}
	}
	var out []service.Container
	for _, container := range lasting(in.Spec) {
		out = append(out, service.Container{Name: container.Name, Ready: ready[container.Name]})
	}
	return out
}

// running tells whether all lasting containers run, and how often they
// were started again.
func running(in *corev1.Pod) (all bool, restarts int) {
	statuses := map[string]corev1.ContainerStatus{}
	for _, status := range slices.Concat(in.Status.InitContainerStatuses, in.Status.ContainerStatuses) {
		statuses[status.Name] = status
	}
	all = true
	for _, container := range lasting(in.Spec) {
		status := statuses[container.Name]
		all = all && status.State.Running != nil
		restarts += int(status.RestartCount)
	}
	return all, restarts
}

// ports are those of the lasting containers.
func ports(spec corev1.PodSpec) []service.ContainerPort {
	var out []service.ContainerPort
	for _, container := range lasting(spec) {
		for _, port := range container.Ports {
			if port.ContainerPort < 1 || port.ContainerPort > 65535 {
				continue
			}
			protocol := string(port.Protocol)
			if protocol == "" {
				protocol = string(corev1.ProtocolTCP)
			}
			out = append(out, service.ContainerPort{
				Name: port.Name, Port: uint16(port.ContainerPort), Protocol: protocol,
			})
		}
	}
	return out
}

func isTrue(conditions []corev1.PodCondition, kind corev1.PodConditionType) bool {
	for _, condition := range conditions {
		if condition.Type == kind {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
