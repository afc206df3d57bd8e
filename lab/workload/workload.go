// Package workload builds what the lab deploys: Fairway itself from its chart
// and image, and Deployments of the sample app.
package workload

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/images"
)

// App is a Deployment of the sample app.
type App struct {
	Namespace string
	Name      string // also the service name, unless Annotations say otherwise
	Replicas  int32
	// Ungated leaves Fairway's readiness gate out.
	Ungated bool
	// Annotations are added to, and win over, fairway.dev/service-names; one
	// with an empty value is left out.
	Annotations map[string]string
	// LeaveSeconds is how long a pod goes on serving after its deletion, so
	// that clients can leave it first.
	LeaveSeconds int64
	// Unready starts the pods not ready; they become ready by POST /ready.
	Unready bool
	// ClusterDNS makes the pods ask the cluster's DNS, which a lab with
	// Topology.DNS has. Else they have their node's resolver.
	ClusterDNS bool
	// Drain adds fairway-gate, which the app's preStop hook asks; none if empty.
	Drain Drain
}

// Drain is how fairway-gate stands in a pod.
type Drain string

// The values of Drain.
const (
	NativeSidecar  Drain = "native"
	ClassicSidecar Drain = "classic"
)

// Selector is the label selector of the app's pods.
func (a App) Selector() string { return "app=" + a.Name }

// Deployment is the app as a rolling Deployment that never goes below its
// number of replicas.
func (a App) Deployment() *appsv1.Deployment {
	labels := map[string]string{"app": a.Name}
	zero, one := intstr.FromInt32(0), intstr.FromInt32(1)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.Namespace, Name: a.Name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &a.Replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &zero, MaxSurge: &one},
			},
			Template: a.template(labels),
		},
	}
}

func (a App) template(labels map[string]string) corev1.PodTemplateSpec {
	annotations := map[string]string{"fairway.dev/service-names": a.Name}
	for k, v := range a.Annotations {
		if annotations[k] = v; v == "" {
			delete(annotations, k)
		}
	}
	grace := a.LeaveSeconds + 5
	container := corev1.Container{
		Name:            "sample",
		Image:           images.SampleRef,
		ImagePullPolicy: corev1.PullNever,
		Ports:           []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		Env: []corev1.EnvVar{
			{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http")}},
			PeriodSeconds:    1,
			FailureThreshold: 1,
			TimeoutSeconds:   5, // an app that says nothing for a second is a machine that is busy
		},
	}
	if a.Unready {
		container.Env = append(container.Env, corev1.EnvVar{Name: "START_READY", Value: "false"})
	}
	if a.LeaveSeconds > 0 {
		container.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: a.LeaveSeconds}}}
	}
	if a.Drain != "" {
		grace = 30
		container.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/drain", Port: intstr.FromInt32(9982)},
		}}
	}
	spec := corev1.PodSpec{
		Containers:                    []corev1.Container{container},
		TerminationGracePeriodSeconds: &grace,
		DNSPolicy:                     corev1.DNSDefault,
		AutomountServiceAccountToken:  new(bool),
		EnableServiceLinks:            new(bool),
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
		}},
	}
	if a.ClusterDNS {
		spec.DNSPolicy = corev1.DNSClusterFirst
	}
	a.addGate(&spec)
	if !a.Ungated {
		spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: service.GateReachable}}
	}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations}, Spec: spec}
}
