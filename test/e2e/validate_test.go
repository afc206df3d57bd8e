package e2e

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/kube"
)

// TestPolicyAgreesWithParser: the policy refuses exactly the annotations that
// the agent cannot understand, in the agent's words. What it does not claim is
// in expectedRefusal.
func TestPolicyAgreesWithParser(t *testing.T) {
	ns := namespace(t)
	denyIn(t, ns)
	client, _ := warned(t)
	check := func(ctx context.Context, pod *corev1.Pod) error {
		want := expectedRefusal(pod)
		_, err := client.CoreV1().Pods(ns).Create(ctx, pod, dryRun)
		got := refusal(err, annotationsPolicy)
		if err != nil && got == "" {
			return err
		}
		if got != want {
			return fmt.Errorf("%v\npolicy: %s\nparser: %s", pod.Annotations, got, want)
		}
		return nil
	}
	for _, annotations := range writtenCases() {
		pod := barePod(ns, annotations)
		pod.Spec.Containers[0].Ports = append(pod.Spec.Containers[0].Ports,
			corev1.ContainerPort{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP})
		if err := check(t.Context(), pod); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		return
	}
	refused := 0
	rapid.Check(t, func(t *rapid.T) {
		pod := drawAnnotated(t, ns)
		if err := check(context.Background(), pod); err != nil {
			t.Fatal(err)
		}
		if expectedRefusal(pod) != "" {
			refused++
		}
	})
	t.Logf("%d random pods were refused", refused)
}

// expectedRefusal is what the policy should say of a pod, from what the agent
// would.
func expectedRefusal(pod *corev1.Pod) string {
	var problems []string
	for _, e := range annotation.Parse(kube.Pod(pod)).Errors {
		if problem := inPolicysWords(e, pod); problem != "" {
			problems = append(problems, e.Key+": "+problem)
		}
	}
	slices.Sort(problems)
	if more := len(problems) - 5; more > 0 {
		return strings.Join(problems[:5], "; ") + fmt.Sprintf("; and %d more", more)
	}
	return strings.Join(problems, "; ")
}

// inPolicysWords is what the policy says of a mistake, empty if it leaves that
// one to the agent.
func inPolicysWords(e annotation.Error, pod *corev1.Pod) string {
	value := strings.TrimSpace(e.Value)
	switch {
	case strings.Contains(e.Problem, " is to stand in the meta as "),
		strings.Contains(e.Problem, " pairs: Consul holds ") && strings.Contains(e.Key, "/service-port"):
		return "" // ports and meta that are right, but not together
	case strings.Contains(e.Problem, " is not a duration: ") || strings.Contains(e.Problem, " is too short: "):
		if utf8.RuneCountInString(value) > 16 || sevenDigits.MatchString(value) {
			return "" // CEL fails on a duration that overflows
		}
	}
	// CEL cannot look for the nearest name, nor for a typo that hides what the
	// annotation is about.
	before, _, near := strings.Cut(e.Problem, "; did you mean ")
	switch {
	case !near:
		return e.Problem
	case strings.HasSuffix(before, " is not a container of the pod"):
		var names []string
		for _, c := range kube.Pod(pod).Containers {
			names = append(names, c.Name)
		}
		return before + ", which has " + strings.Join(names, ", ")
	case before != "no such annotation":
		return before + ": add it there, or remove this annotation"
	case strings.HasPrefix(e.Key, "fairway.dev/service-"):
		return before + "; there are service-port, service-tags, service-meta, service-health, service-weights, " +
			"each also with -NAME appended for one service, and service-names, service-check-ttl, container-exclude, sidecar"
	default:
		return ""
	}
}

var sevenDigits = regexp.MustCompile(`[0-9]{7}`)

// writtenCases are annotations at the parser's limits, and one of each mistake
// that it knows.
func writtenCases() []map[string]string {
	var cases []map[string]string
	add := func(pairs ...string) {
		for _, prefix := range []string{annotation.Native, annotation.Katalog} {
			annotations := map[string]string{}
			for i := 0; i < len(pairs); i += 2 {
				annotations[prefix+pairs[i]] = pairs[i+1]
			}
			cases = append(cases, annotations)
		}
	}
	many := func(n int, item string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(item, i)
		}
		return strings.Join(items, ",")
	}
	for _, names := range []string{"web", " web , admin\n", "", " ", ",", "web,", "web,,admin", "a_b,-a,a-,ok,a/b", "web,web,Web", "Web,web,WEB", "é,web",
		strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("_", 70), many(64, "a%d"), many(65, "a%d")} {
		add("service-names", names)
	}
	for _, port := range []string{"80", " 80 ", "1", "65535", "00080", "0", "65536", "99999999999999999999", "-1", "+80", "8 0", "", "http", "dns", "htp", "http,dns",
		"http, dns", "dns,http,dns", "http,80", "80,http", "80,80", "80,00080", "http,,0,htp", ",", "http,", "65536,x", many(65, "x%d")} {
		add("service-names", "web,admin", "service-port", port)
		add("service-names", "web,admin", "service-port-admin", port)
	}
	for _, tags := range []string{"a", "a, b", "", "x,,y", "x,y,x,x", "x\ty", ",", "ä,ß", many(300, "tag%d")} {
		add("service-names", "web", "service-tags", tags)
		add("service-names", "web", "service-tags", "a,a", "service-tags-web", tags)
	}
	for _, meta := range []string{"a:b", "url: http://x:1/y , team:shop, empty:", "", "flag", ":v", "a.b:1", "k:1, k:2", "k:\t\x7f,k:1", "fairway-node:x",
		"external-source:x", "consul-x:y", "Consul-x:y", "a:b,,c:d", strings.Repeat("k", 128) + ":v", strings.Repeat("k", 129) + ":v",
		"big:" + strings.Repeat("v", 512), "big:" + strings.Repeat("v", 513), "big:" + strings.Repeat("é", 257), many(58, "k%d:v"), many(59, "k%d:v")} {
		add("service-names", "web", "service-meta", meta)
		add("service-names", "m", "service-meta-m", meta)
	}
	addHealthCases(add)
	addPodCases(add)
	add("service-names", "web", "service-port", "http,dns", "service-meta", "port-dns:x")
	add("service-names", "web", "service-port", "http,dns", "service-meta", many(58, "k%d:v"))
	add("service-names", "web", "service-port-wbe", "80", "service-tags-other", "x", "service-meta-web", "a:b")
	add("service-names", "a_b", "service-port-a_b", "x")
	add("service-names", ",", "service-port-web", "x")
	add("service-names", "web", "service-tag", "x", "service-tag-web", "x", "servce-port", "80", "service-labels", "x", "note", "x")
	add("service-name", "web", "service-port", "80")
	add("service-port-web", "80")
	add("service-check-ttl", "1", "container-exclude", "", "sidecar", "", "service-weights-web", "1", "service-health", "1", "sync-interval", "1")
	add("service-names", "web", "service-check-ttl-web", "1m", "sidecar-web", "app", "containers-exclude", "app", "service-interval", "1m")
	add("note", "x")
	add(largeCase(many(30, "s%d"))...)
	both := map[string]string{"katalog-sync.wish.com/service-names": "web", "fairway.dev/service-tags": "v2", "katalog-sync.wish.com/service-tags": "a,a"}
	shadowed := maps.Clone(both)
	shadowed["fairway.dev/service-names"] = "web"
	return append(cases, both, shadowed)
}

// largeCase gives each of 30 services all annotations, wrong. What CEL may cost
// is limited; beyond, the policy is silent.
func largeCase(names string) []string {
	pairs := []string{"service-names", names}
	for name := range strings.SplitSeq(names, ",") {
		for _, field := range []string{"port", "tags", "meta", "weights", "health"} {
			pairs = append(pairs, "service-"+field+"-"+name, "a:b,a:b,80")
		}
	}
	return pairs
}

// addHealthCases adds annotations on what Consul makes of a service.
func addHealthCases(add func(pairs ...string)) {
	for _, weights := range []string{"passing:1", " passing : 10 , warning:0", "warning:65535", "", " ", "10", "passing", "passing:", "passing:0", "passing:00",
		"passing:0008,warning:+1", "warning:-1", "warning:65536", "passing:99999999999999999999", "Passing:1", "warn:1,warn:1", "passing:1,passing:2",
		"passing:x,passing:2", "passing:1:2", ":1", ",", "passing:1,", "passing:1,,warning:2"} {
		add("service-names", "web,admin", "service-weights", weights)
		add("service-names", "web,admin", "service-weights-admin", weights)
	}
	for _, health := range []string{"passing", " warning\n", "critical", "Passing", "", " ", "maintenance", "passing,critical", strings.Repeat("x", 70)} {
		add("service-names", "web", "service-health", health)
		add("service-names", "web", "service-health-web", health)
		add("service-names", "web", "service-health-other", health)
		add("service-names", "web", "serivce-health-web", health)
		add("service-names", "web", "serivce-health-other", health, "serivce-health", health)
	}
}

// addPodCases adds annotations that are about the pod.
func addPodCases(add func(pairs ...string)) {
	for _, field := range []string{"service-check-ttl", "sync-interval"} {
		for _, duration := range []string{"10s", "9s", "9.999999s", "1m", " 1h30m ", "+1m", "1.5h", "1.h", ".5h", "1m0s", "10000ms", "9999ms", "1µs", "1μs", "1us", "0.1ns",
			"", " ", "0", "0s", "-1m", "60", "fast", "1 m", "1d", "1M", "1m,", ".s", ".", "+", "--1m", "1m-1s", "1e3s",
			"2562047h", "2562048h", "999999h999999h9h", "999999h999999h99h", "a text of many characters"} {
			add("service-names", "web", field, duration)
		}
	}
	for _, field := range []string{"container-exclude", "sidecar"} {
		for _, containers := range []string{"app", " app ", "", " ", ",", "app,app", "app,", "ap", "ap,app", "other", "App", "other,,app"} {
			add("service-names", "web", field, containers)
			add("service-names", ",", field, containers)
		}
	}
}

// drawAnnotated makes pods with annotations of both dialects, right and wrong.
// Control characters are left out: the two quote them differently.
func drawAnnotated(t *rapid.T, namespace string) *corev1.Pod {
	text := rapid.OneOf(
		rapid.StringMatching(`( ?[a-cA-C_.-]{1,3} ?,?){0,4}`),
		rapid.StringMatching(`([a-c]{1,2}:[a-z:/.]{0,6},?){0,4}`),
		rapid.StringMatching(`[ -~äß€]{0,12}`),
		rapid.SampledFrom([]string{"", ",", "0", "1", "80", "65535", "65536", "-1", "http", "web", "web,admin",
			"fairway-node:x", "external-source:x", "consul-x:y", "a:b,a:c", "port-web:x", strings.Repeat("x", 70), "\u00a0web\u00a0", "a\tb"}),
	)
	// Values that are right or almost, for the annotations that take few.
	own := map[string]*rapid.Generator[string]{
		"service-port":      rapid.StringMatching(`((http|web|htp|80|0|99999) ?,? ?){1,3}`),
		"service-health":    rapid.StringMatching(` ?([Pp]assing|warning|critical|x?) ?`),
		"service-weights":   rapid.StringMatching(`((passing|warning|warn)( ?: ?[0-9]{0,6})?,?){0,3}`),
		"service-check-ttl": rapid.StringMatching(` ?[+-]?([0-9]{0,3}([.][0-9]{0,2})?(h|m|s|ms|us|µs|μs|ns|d|)){0,4} ?`),
		"container-exclude": rapid.StringMatching(`((app|ap|proxy|gate) ?,? ?){1,3}`),
		"sidecar":           rapid.StringMatching(` ?(app|proxy|gate)[ ,]?`),
	}
	own["sync-interval"] = own["service-check-ttl"]
	pod := barePod(namespace, map[string]string{})
	protocol := rapid.SampledFrom([]corev1.Protocol{"", corev1.ProtocolTCP, corev1.ProtocolUDP})
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: protocol.Draw(t, "protocol")}}
	if rapid.Bool().Draw(t, "sidecar") {
		c := container("proxy", nil)
		c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		c.Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 9090, Protocol: protocol.Draw(t, "protocol")}}
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
	}
	for range rapid.IntRange(0, 8).Draw(t, "annotations") {
		prefix := rapid.SampledFrom([]string{annotation.Native, annotation.Native, annotation.Katalog, "example.com/"}).Draw(t, "prefix")
		field := rapid.SampledFrom([]string{annotation.Names, annotation.Names, annotation.Names,
			"service-port", "service-tags", "service-meta", "service-health", "service-weights",
			"service-check-ttl", "container-exclude", "sidecar", "sync-interval",
			"serivce-health", "service-name", "servic-port", "note"}).Draw(t, "field")
		key := prefix + field
		if field != annotation.Names && rapid.Bool().Draw(t, "for one service") {
			key += "-" + rapid.SampledFrom([]string{"web", "admin", "a", "b", "A", "Ab", "a_b", "other.name"}).Draw(t, "service")
		}
		value := text
		if own[field] != nil && rapid.Bool().Draw(t, "own value") {
			value = own[field]
		}
		pod.Annotations[key] = value.Draw(t, "value")
	}
	return pod
}

// TestInjectIsChecked: the one annotation that the agent does not read.
func TestInjectIsChecked(t *testing.T) {
	ns := namespace(t)
	client, warned := warned(t)
	tests := []struct {
		inject, names string
		want          string
	}{
		{"gate", "web", ""},
		{"none", "", ""},
		{"gaet", "web", `fairway.dev/inject: "gaet" is none of none, gate, sleep and drain`},
		{"drain", "", "fairway.dev/inject: has no effect: fairway.dev/service-names is missing, which lists the services to publish"},
	}
	for _, tt := range tests {
		pod := barePod(ns, map[string]string{"fairway.dev/inject": tt.inject})
		if tt.names != "" {
			pod.Annotations["fairway.dev/service-names"] = tt.names
		}
		if _, err := client.CoreV1().Pods(ns).Create(bounded(t), pod, dryRun); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(warned.take(), "\n")
		if (got == "") != (tt.want == "") || !strings.HasSuffix(got, tt.want) {
			t.Errorf("inject %q, service-names %q: warned %q, want %q", tt.inject, tt.names, got, tt.want)
		}
	}
}

// TestMistakesAreToldWhereTheyAreMade: whoever applies a template is warned by
// default, and refused where that is asked for. What a controller makes of a
// template is never refused (I2).
func TestMistakesAreToldWhereTheyAreMade(t *testing.T) {
	const port, mistake = "fairway.dev/service-port", `fairway.dev/service-port: "htp" is neither`
	client, warned := warned(t)
	warnIn, refuseIn := namespace(t), namespace(t)
	denyIn(t, refuseIn)
	for _, kind := range []string{"Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"} {
		t.Run(kind, func(t *testing.T) {
			wrong := map[string]string{"fairway.dev/service-names": "web", port: "htp"}
			err := createAs(t, client, kind, warnIn, wrong)
			if got := warned.take(); err != nil || len(got) != 1 || !strings.Contains(got[0], mistake) {
				t.Errorf("error %v, warned %q; want one warning with %q", err, got, mistake)
			}
			if got := refusal(createAs(t, client, kind, refuseIn, wrong), annotationsPolicy); !strings.Contains(got, mistake) {
				t.Errorf("refused with %q, want %q", got, mistake)
			}
			warned.take()
			right := map[string]string{"fairway.dev/service-names": "web", port: "http"}
			err = createAs(t, client, kind, refuseIn, right)
			if got := warned.take(); err != nil || len(got) != 0 {
				t.Errorf("right annotations: error %v, warned %q", err, got)
			}
		})
	}

	t.Run("made by a controller", func(t *testing.T) {
		pod := barePod(refuseIn, map[string]string{"fairway.dev/service-names": ","})
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "r", UID: "u", Controller: new(true)}}
		if _, err := client.CoreV1().Pods(refuseIn).Create(bounded(t), pod, dryRun); err != nil {
			t.Error(err)
		}
	})
	t.Run("a container that is put into the pods", func(t *testing.T) {
		annotations := map[string]string{"fairway.dev/service-names": "web", "fairway.dev/service-port": "http,proxy-metrics",
			"fairway.dev/sidecar": "proxy", "fairway.dev/container-exclude": "proxy"}
		if err := createAs(t, client, "Deployment", refuseIn, annotations); err != nil {
			t.Error(err)
		}
		const want = `fairway.dev/container-exclude: "proxy" is not a container of the pod, which has app; ` +
			`fairway.dev/service-port: "proxy-metrics" is neither a number from 1 to 65535 nor the name of a container port (the pod has http); ` +
			`fairway.dev/sidecar: "proxy" is not a container of the pod, which has app`
		if got := refusal(createAs(t, client, "Pod", refuseIn, annotations), annotationsPolicy); got != want {
			t.Errorf("as a pod: refused with %q, want %q", got, want)
		}
	})
	t.Run("an older mistake", testOlderMistake)
}

// testOlderMistake: where a mistake is older than the policy, everything but
// the annotations can be changed, and they can be corrected.
func testOlderMistake(t *testing.T) {
	ns := namespace(t)
	pods := fleet.kube.CoreV1().Pods(ns)
	pod := barePod(ns, map[string]string{"fairway.dev/service-names": "web,"})
	pod.Spec.SchedulerName = "nobody"
	if _, err := pods.Create(bounded(t), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	denyIn(t, ns)
	edit := func(key, value string) error {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, key, value)
		_, err := pods.Patch(bounded(t), pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	if err := edit("example.com/network", "x"); err != nil {
		t.Errorf("another annotation: %v", err)
	}
	if got := refusal(edit("fairway.dev/service-tags", "a"), annotationsPolicy); !strings.Contains(got, "item 2 of the list is empty") {
		t.Errorf("an edit that leaves the mistake: refused with %q", got)
	}
	if err := edit("fairway.dev/service-names", "web"); err != nil {
		t.Errorf("the correction: %v", err)
	}
}

// createAs has the API server admit a pod, or an object with it as template.
func createAs(t *testing.T, client *kubernetes.Clientset, kind, ns string, annotations map[string]string) error {
	t.Helper()
	ctx := bounded(t)
	pod := barePod(ns, annotations)
	pod.Labels = map[string]string{"app": "bare"}
	meta := metav1.ObjectMeta{Namespace: ns, Name: "bare"}
	selector := &metav1.LabelSelector{MatchLabels: pod.Labels}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels, Annotations: annotations}, Spec: pod.Spec}
	once := template
	once.Spec.RestartPolicy = corev1.RestartPolicyNever
	var err error
	switch kind {
	case "Pod":
		_, err = client.CoreV1().Pods(ns).Create(ctx, pod, dryRun)
	case "Deployment":
		_, err = client.AppsV1().Deployments(ns).Create(ctx, &appsv1.Deployment{
			ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}}, dryRun)
	case "StatefulSet":
		_, err = client.AppsV1().StatefulSets(ns).Create(ctx, &appsv1.StatefulSet{
			ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}}, dryRun)
	case "DaemonSet":
		_, err = client.AppsV1().DaemonSets(ns).Create(ctx, &appsv1.DaemonSet{
			ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}}, dryRun)
	case "Job":
		_, err = client.BatchV1().Jobs(ns).Create(ctx, &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: once}}, dryRun)
	case "CronJob":
		_, err = client.BatchV1().CronJobs(ns).Create(ctx, &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{
			Schedule: "@daily", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: once}}}}, dryRun)
	default:
		t.Fatalf("no such kind: %s", kind)
	}
	return err
}
