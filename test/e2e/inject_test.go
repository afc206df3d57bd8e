package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/images"
	"fairway.dev/fairway/lab/workload"
)

// injectKey is the annotation of a pod, and the label of a namespace.
const injectKey = "fairway.dev/inject"

// TestInjection: what a pod gets, by its own annotation and its namespace's
// label.
func TestInjection(t *testing.T) {
	hook := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}
	tests := []struct {
		name        string
		label       string
		annotations map[string]string // beside service-names; an empty value removes
		edit        func(*corev1.Pod)
		want        string // as got by injected
	}{
		{"nobody asks", "", nil, nil, ""},
		{"the pod asks", "", map[string]string{injectKey: "gate"}, nil, "gate"},
		{"the namespace asks", "gate", nil, nil, "gate"},
		{"the pod opts out", "drain", map[string]string{injectKey: "none"}, nil, ""},
		{"the pod's word counts", "drain", map[string]string{injectKey: "gate"}, nil, "gate"},
		{"an unknown word", "yes", nil, nil, ""},
		{"katalog-sync's annotation", "gate", map[string]string{"fairway.dev/service-names": "", "katalog-sync.wish.com/service-names": "web"}, nil, "gate"},
		{"no service is declared", "drain", map[string]string{"fairway.dev/service-names": ""}, nil, ""},
		{"the gate is there already", "gate", nil, func(p *corev1.Pod) { gate(p, service.GateReachable) }, "gate"},
		{"beside another gate", "gate", nil, func(p *corev1.Pod) { gate(p, "example.com/other") }, "example.com/other gate"},
		{"sleep", "sleep", nil, nil, "gate app:sleep=5"},
		{"a container keeps the hook it has", "sleep", nil, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers,
				container("hooked", &corev1.Lifecycle{PreStop: hook}), container("started", &corev1.Lifecycle{PostStart: hook}))
		}, "gate app:sleep=5 hooked:exec started:sleep=5"},
		{"half of a short grace period", "sleep", nil, func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(6)) }, "gate app:sleep=3"},
		{"no time to sleep", "sleep", nil, func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(1)) }, "gate"},
		{"drain", "drain", nil, nil, "gate app:drain sidecar"},
		{"drain, behind other init containers and volumes", "drain", nil, func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{container("first", nil)}
			p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}, "gate app:drain sidecar"},
		{"drain on the node's network", "drain", nil, func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "gate app:sleep=5"},
		{"drain on Windows", "drain", nil, func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, "gate app:sleep=5"},
		{"the name of the sidecar is taken", "drain", nil, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, container("fairway-gate", nil))
		}, "gate app:sleep=5 fairway-gate:sleep=5"},
		{"a pod that runs to an end", "drain", nil, func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }, ""},
		{"a static pod", "drain", map[string]string{corev1.MirrorPodAnnotationKey: "x"}, func(p *corev1.Pod) { p.Spec.NodeName = "n1" }, ""},
	}
	namespaces := askingNamespaces(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := barePod(namespaces[tt.label], map[string]string{"fairway.dev/service-names": "web"})
			for k, v := range tt.annotations {
				if pod.Annotations[k] = v; v == "" {
					delete(pod.Annotations, k)
				}
			}
			if tt.edit != nil {
				tt.edit(pod)
			}
			admitted, err := fleet.kube.CoreV1().Pods(pod.Namespace).Create(bounded(t), pod, dryRun)
			if err != nil {
				t.Fatal(err)
			}
			if got := injected(admitted); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestI2InjectionStopsNoPod: a pod that the API server takes without
// injection, it takes with it, and what was injected once stays as it is.
func TestI2InjectionStopsNoPod(t *testing.T) {
	namespaces := askingNamespaces(t)
	client, _ := warned(t)
	admit := func(mode string, pod *corev1.Pod) (*corev1.Pod, error) {
		pod = pod.DeepCopy()
		pod.Namespace = namespaces[mode]
		return client.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, dryRun)
	}
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		pod := drawSpec(t)
		plain, err := admit("", pod)
		if err != nil {
			return // wrong without us
		}
		accepted++
		for _, mode := range []string{"gate", "sleep", "drain"} {
			once, err := admit(mode, pod)
			if err != nil {
				t.Fatalf("%s: refused: %v", mode, err)
			}
			again := once.DeepCopy()
			again.ObjectMeta = pod.ObjectMeta
			twice, err := admit(mode, again)
			if err != nil {
				t.Fatalf("%s: refused a second time: %v", mode, err)
			}
			if diff := cmp.Diff(once.Spec, twice.Spec); diff != "" {
				t.Fatalf("%s: a second pass changed (-once +twice):\n%s", mode, diff)
			}
			if once.Status.QOSClass != plain.Status.QOSClass && plain.Status.QOSClass != corev1.PodQOSBestEffort {
				t.Fatalf("%s: QoS class %s became %s", mode, plain.Status.QOSClass, once.Status.QOSClass)
			}
		}
	})
	if accepted == 0 {
		t.Error("no pod was right without injection: the test looks at nothing")
	}
}

// TestInjectionIsRestricted: what is injected passes the strictest level of Pod
// Security.
func TestInjectionIsRestricted(t *testing.T) {
	ns := labelledNamespace(t, map[string]string{injectKey: "drain", "pod-security.kubernetes.io/enforce": "restricted"})
	pod := barePod(ns, map[string]string{"fairway.dev/service-names": "web"})
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	admitted, err := fleet.kube.CoreV1().Pods(ns).Create(bounded(t), pod, dryRun)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := injected(admitted), "gate app:drain sidecar"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestInjectedThroughControllers: Deployment and StatefulSet pods come to wait
// for Consul without a word of it in a manifest, and become Ready; a Job's
// pod is left alone.
func TestInjectedThroughControllers(t *testing.T) {
	app := workload.App{Namespace: labelledNamespace(t, map[string]string{injectKey: "sleep"}), Name: "injected", Replicas: 1, Ungated: true}
	deployed := deployReady(t, app).Pods()[0]
	template := app.Deployment().Spec.Template
	labels := map[string]string{"app": "injected-set"}
	template.Labels = labels
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: app.Namespace, Name: "injected-set"},
		Spec:       appsv1.StatefulSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	}
	if _, err := fleet.kube.AppsV1().StatefulSets(app.Namespace).Create(bounded(t), set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	template.Labels = map[string]string{"app": "injected-job"}
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: app.Namespace, Name: "injected-job"},
		Spec:       batchv1.JobSpec{Template: template},
	}
	if _, err := fleet.kube.BatchV1().Jobs(app.Namespace).Create(bounded(t), job, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	for name, want := range map[string]string{app.Name: "gate sample:sleep=2", "injected-set": "gate sample:sleep=2", "injected-job": ""} {
		pod := readyPod(t, app.Namespace, "app="+name)
		if got := injected(pod); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if open := condition(pod, service.GateReachable).Status == corev1.ConditionTrue; open != (want != "") {
			t.Errorf("%s: gate open is %v", name, open)
		}
	}
	if entries(t, app.Name)[deployed.UID] == nil {
		t.Error("the pod is ready, and not in Consul")
	}
}

// readyPod waits until the one pod of the selector is Ready.
func readyPod(t *testing.T, namespace, selector string) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	until(t, selector+" is ready", func(ctx context.Context) (bool, string, error) {
		list, err := fleet.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil || len(list.Items) != 1 {
			return false, "no pod, or several", err
		}
		pod = &list.Items[0]
		return condition(pod, corev1.PodReady).Status == corev1.ConditionTrue, fmt.Sprintf("%+v", pod.Status.Conditions), nil
	})
	return pod
}

// askingNamespaces are namespaces by the word on their label.
func askingNamespaces(t *testing.T) map[string]string {
	t.Helper()
	namespaces := map[string]string{"": namespace(t)}
	for _, word := range []string{"gate", "sleep", "drain", "yes"} {
		namespaces[word] = labelledNamespace(t, map[string]string{injectKey: word})
	}
	return namespaces
}

// injected tells what a pod has of that which Fairway injects, and its hooks.
func injected(pod *corev1.Pod) string {
	var found []string
	for _, g := range pod.Spec.ReadinessGates {
		if g.ConditionType == service.GateReachable {
			g.ConditionType = "gate"
		}
		found = append(found, string(g.ConditionType))
	}
	for _, c := range pod.Spec.Containers {
		if c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
			continue
		}
		switch h := c.Lifecycle.PreStop; {
		case h.Sleep != nil:
			found = append(found, fmt.Sprintf("%s:sleep=%d", c.Name, h.Sleep.Seconds))
		case h.HTTPGet != nil && h.HTTPGet.Path == "/drain":
			found = append(found, c.Name+":drain")
		case h.Exec != nil:
			found = append(found, c.Name+":exec")
		}
	}
	if sidecar(pod) {
		found = append(found, "sidecar")
	}
	return strings.Join(found, " ")
}

// sidecar tells whether the pod has the native sidecar, of Fairway's image,
// with a token for the agent.
func sidecar(pod *corev1.Pod) bool {
	for _, c := range pod.Spec.InitContainers {
		if c.Name != "fairway-gate" || c.Image != images.FairwayRef || c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		for _, v := range pod.Spec.Volumes {
			if v.Projected != nil && v.Projected.Sources[0].ServiceAccountToken != nil &&
				v.Projected.Sources[0].ServiceAccountToken.Audience == "fairway" && c.VolumeMounts[0].Name == v.Name {
				return true
			}
		}
	}
	return false
}

func gate(p *corev1.Pod, kind corev1.PodConditionType) {
	p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: kind})
}

func container(name string, hooks *corev1.Lifecycle) corev1.Container {
	return corev1.Container{Name: name, Image: "example.com/" + name, Lifecycle: hooks}
}

// drawSpec makes pods of many shapes, some of which no API server takes.
func drawSpec(t *rapid.T) *corev1.Pod {
	pod := barePod("", map[string]string{"fairway.dev/service-names": "web"})
	flag := func(what string) bool { return rapid.Bool().Draw(t, what) }
	names := []string{"a", "b", "fairway-gate"}
	draw := func(kind string) []corev1.Container {
		var all []corev1.Container
		for i := range rapid.IntRange(0, 2).Draw(t, kind) {
			c := container(fmt.Sprintf("%s%d", kind, i), nil)
			if rapid.IntRange(0, 9).Draw(t, "taken name") == 0 {
				c.Name = rapid.SampledFrom(names).Draw(t, "name")
			}
			if flag("resources") {
				c.Resources = corev1.ResourceRequirements{Limits: small(), Requests: small()}
			}
			if flag("hooks") {
				c.Lifecycle = &corev1.Lifecycle{}
				if flag("preStop") {
					c.Lifecycle.PreStop = &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80)}}
				}
			}
			all = append(all, c)
		}
		return all
	}
	pod.Spec.Containers = append(draw("app"), container("last", nil))
	for _, c := range draw("init") {
		if c.Lifecycle = nil; flag("native sidecar") {
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
	}
	if flag("grace") {
		pod.Spec.TerminationGracePeriodSeconds = new(rapid.Int64Range(-2, 12).Draw(t, "seconds"))
	}
	if flag("volumes") {
		pod.Spec.Volumes = []corev1.Volume{{
			Name:         rapid.SampledFrom([]string{"data", "fairway-gate-token"}).Draw(t, "volume"),
			VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
		}}
	}
	if flag("gates") {
		gate(pod, corev1.PodConditionType(rapid.SampledFrom([]string{"example.com/other", service.GateReachable}).Draw(t, "gate")))
	}
	if flag("no token") {
		pod.Spec.AutomountServiceAccountToken = new(false)
	}
	pod.Spec.HostNetwork = rapid.IntRange(0, 4).Draw(t, "host network") == 0
	if rapid.IntRange(0, 4).Draw(t, "windows") == 0 {
		pod.Spec.OS = &corev1.PodOS{Name: corev1.Windows}
	}
	pod.Spec.RestartPolicy = rapid.SampledFrom([]corev1.RestartPolicy{"", corev1.RestartPolicyAlways, corev1.RestartPolicyNever}).Draw(t, "restart")
	return pod
}

func small() corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("8Mi")}
}
