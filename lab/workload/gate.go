package workload

import (
	corev1 "k8s.io/api/core/v1"

	"fairway.dev/fairway/lab/images"
)

// GateContainer is the name of fairway-gate's container.
const GateContainer = "fairway-gate"

// addGate adds fairway-gate to a pod, as docs/drain.md says, if the app wants
// it.
func (a App) addGate(spec *corev1.PodSpec) {
	const volume = "fairway-token"
	gate := corev1.Container{
		Name:            GateContainer,
		Image:           images.FairwayRef,
		ImagePullPolicy: corev1.PullNever,
		Command:         []string{"/usr/bin/fairway-gate"},
		Env: []corev1.EnvVar{
			{Name: "HOST_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.hostIP"}}},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: volume, MountPath: "/var/run/secrets/fairway", ReadOnly: true}},
	}
	switch a.Drain {
	case NativeSidecar:
		gate.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		spec.InitContainers = append(spec.InitContainers, gate)
	case ClassicSidecar:
		spec.Containers = append(spec.Containers, gate)
	default:
		return
	}
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
			ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "fairway", Path: "token", ExpirationSeconds: new(int64(3600))},
		}}},
	}})
}
