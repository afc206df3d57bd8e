// Package chart_test renders the chart with the real helm and checks what a
// cluster would get: rights, privileges, and flags that the agent knows.
package chart_test

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"fairway.dev/fairway/internal/app/agent"
	"fairway.dev/fairway/lab/servers"
)

// everything turns on all that is off by default.
var everything = []string{
	"--set", "clusterID=test",
	"--set", "consul.tokenSecret.name=consul-token",
	"--set", "consul.caConfigMap.name=consul-ca",
	"--set", "consul.address=https://127.0.0.1:8501",
	"--set", "checkTTL=5m",
	"--set", "resync=1m",
	"--set", "drain.katalogPort=8501",
	"--set", "podAnnotations.a=b",
	"--set", "nodeSelector.disk=ssd",
	"--set", "imagePullSecrets[0].name=registry",
}

// Absence of the one required value must be understood without the docs.
func TestRenderingFailsWithAClearMessage(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no cluster id", nil, "clusterID is required: name this cluster"},
		{"cluster id of wrong form", []string{"--set", "clusterID=prod eu"}, "clusterID"},
		{"unknown value", []string{"--set", "clusterID=a", "--set", "clusterId=b"}, "clusterId"},
		{"unknown nested value", []string{"--set", "clusterID=a", "--set", "consul.token=x"}, "token"},
		{"duration without unit", []string{"--set", "clusterID=a", "--set-string", "checkTTL=30"}, "checkTTL"},
		{"unknown log level", []string{"--set", "clusterID=a", "--set", "logLevel=loud"}, "logLevel"},
		{"nobody may be unavailable", []string{"--set", "clusterID=a", "--set", "maxUnavailable=0"}, "maxUnavailable"},
	}
	helm := newHelm(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := helm.template(t, tt.args...)
			if err == nil {
				t.Fatalf("rendered, want an error:\n%s", out)
			}
			if !strings.Contains(out, tt.want) {
				t.Errorf("message %q does not contain %q", out, tt.want)
			}
		})
	}
}

// The agent's rights are exactly this list.
func TestI8RightsAreExactlyTheList(t *testing.T) {
	var role rbacv1.ClusterRole
	newHelm(t).object(t, "ClusterRole", &role, everything...)
	want := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"pods/status"}, Verbs: []string{"patch"}},
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
	}
	if diff := cmp.Diff(want, role.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

// Host network is all that the agent gets of the node.
func TestI8NoContainerIsPrivileged(t *testing.T) {
	spec := daemonSet(t, everything...).Spec.Template.Spec
	if !spec.HostNetwork || spec.HostPID || spec.HostIPC {
		t.Errorf("hostNetwork %v, hostPID %v, hostIPC %v; want the first alone",
			spec.HostNetwork, spec.HostPID, spec.HostIPC)
	}
	for _, v := range spec.Volumes {
		if v.Secret == nil && v.ConfigMap == nil && v.EmptyDir == nil {
			t.Errorf("volume %s is neither Secret nor ConfigMap nor the pod's own", v.Name)
		}
	}
	wantPod := &corev1.PodSecurityContext{
		RunAsNonRoot:   new(true),
		RunAsUser:      new(int64(65532)),
		RunAsGroup:     new(int64(65532)),
		FSGroup:        new(int64(65532)),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if diff := cmp.Diff(wantPod, spec.SecurityContext); diff != "" {
		t.Errorf("pod security context (-want +got):\n%s", diff)
	}
	wantContainer := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if diff := cmp.Diff(wantContainer, c.SecurityContext); diff != "" {
			t.Errorf("container %s (-want +got):\n%s", c.Name, diff)
		}
	}
}

// A node that isn't ready yet needs its agent before its first pod.
func TestRunsOnEveryNode(t *testing.T) {
	spec := daemonSet(t, "--set", "clusterID=test").Spec.Template.Spec
	want := []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	if diff := cmp.Diff(want, spec.Tolerations); diff != "" {
		t.Errorf("tolerations (-want +got):\n%s", diff)
	}
	if len(spec.NodeSelector) != 0 || spec.Affinity != nil {
		t.Errorf("node selector %v, affinity %v; want none", spec.NodeSelector, spec.Affinity)
	}
	if spec.PriorityClassName != "system-node-critical" {
		t.Errorf("priority class %q, want system-node-critical", spec.PriorityClassName)
	}
}

// The token reaches the agent as a file of the Secret that was named, and
// neither as an argument nor in the environment.
func TestI8TokenIsAFile(t *testing.T) {
	spec := daemonSet(t, everything...).Spec.Template.Spec
	c := spec.Containers[0]
	if !slices.Contains(c.Args, "--consul-token-file=/run/fairway/consul-token/token") {
		t.Errorf("args %q do not name the token's file", c.Args)
	}
	mounted := func(m corev1.VolumeMount) bool {
		return m.Name == "consul-token" && m.MountPath == "/run/fairway/consul-token" && m.ReadOnly
	}
	if !slices.ContainsFunc(c.VolumeMounts, mounted) {
		t.Errorf("mounts %+v do not hold the token, read-only", c.VolumeMounts)
	}
	var secrets []string
	for _, v := range spec.Volumes {
		if v.Secret != nil {
			secrets = append(secrets, v.Secret.SecretName)
		}
	}
	if diff := cmp.Diff([]string{"consul-token"}, secrets); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef != nil {
			t.Errorf("variable %s is not a field of the pod", e.Name)
		}
	}

	bare := daemonSet(t, "--set", "clusterID=test").Spec.Template.Spec
	if slices.ContainsFunc(bare.Volumes, func(v corev1.Volume) bool { return v.EmptyDir == nil }) {
		t.Errorf("volumes %v without a Secret, want none but the agent's own", bare.Volumes)
	}
}

// The agent takes what the chart gives it, and knows its node.
func TestTheAgentTakesTheFlags(t *testing.T) {
	c := daemonSet(t, everything...).Spec.Template.Spec.Containers[0]
	if err := agent.Command().ParseFlags(c.Args); err != nil {
		t.Errorf("args %q: %v", c.Args, err)
	}
	for _, e := range c.Env {
		if e.Name == "NODE_NAME" && e.ValueFrom != nil && e.ValueFrom.FieldRef != nil &&
			e.ValueFrom.FieldRef.FieldPath == "spec.nodeName" {
			return
		}
	}
	t.Errorf("environment %+v lacks NODE_NAME from spec.nodeName", c.Env)
}

// Pods can ask at a port, unless nobody shall.
func TestPortsForPods(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"--grpc-listen=:9981"}},
		{[]string{"--set", "drain.port=0"}, []string{"--grpc-listen="}},
		{[]string{"--set", "drain.katalogPort=8501"}, []string{"--grpc-listen=:9981", "--katalog-rpc-listen=:8501"}},
	} {
		var got []string
		for _, arg := range daemonSet(t, append(tt.args, "--set", "clusterID=test")...).Spec.Template.Spec.Containers[0].Args {
			if strings.HasPrefix(arg, "--grpc-listen") || strings.HasPrefix(arg, "--katalog-rpc") {
				got = append(got, arg)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.args, diff)
		}
	}
}

// Every value that can be set is in values.yaml under a comment, and nothing
// else is.
func TestValuesAreCommentedAndInTheSchema(t *testing.T) {
	text, err := os.ReadFile("values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`^( *)([A-Za-z]+):(.*)$`)
	comment := regexp.MustCompile(`^ *# `)
	lines := strings.Split(string(text), "\n")
	var top string
	for i, line := range lines {
		m := key.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		indent, name, value := m[1], m[2], m[3]
		if indent == "" {
			top = name
		} else if top == "resources" {
			continue // the API's own names
		}
		above := i > 0 && comment.MatchString(lines[i-1])
		group := value == "" && comment.MatchString(lines[i+1])
		if !above && !group {
			t.Errorf("values.yaml:%d: %s has no comment above it", i+1, name)
		}
	}

	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]any `json:"properties"`
	}
	readYAML(t, "values.schema.json", &schema)
	delete(schema.Properties, "global") // Helm's own
	if diff := cmp.Diff(keys(values), keys(schema.Properties)); diff != "" {
		t.Errorf("keys (-values.yaml +schema):\n%s", diff)
	}
}

func daemonSet(t *testing.T, args ...string) *appsv1.DaemonSet {
	t.Helper()
	var ds appsv1.DaemonSet
	newHelm(t).object(t, "DaemonSet", &ds, args...)
	if len(ds.Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("%d containers, want 1", len(ds.Spec.Template.Spec.Containers))
	}
	return &ds
}

// helm renders a copy of the chart with the real program.
type helm struct {
	program string
	chart   string
}

func newHelm(t *testing.T) helm {
	t.Helper()
	bin, err := servers.Ensure(t.Context(), servers.Options{
		Families: []servers.Family{servers.Helm},
		Out:      t.Output(),
	})
	if err != nil {
		t.Fatalf("build helm: %v", err)
	}
	// A copy, so that the files are read by this process: go test must know
	// them, or it would return an old result from its cache.
	h := helm{program: bin.Path("helm"), chart: t.TempDir()}
	if err := os.CopyFS(h.chart, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	return h
}

// template renders the chart and returns all that helm said.
func (h helm) template(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), h.program, append([]string{"template", "fairway", h.chart}, args...)...)
	home := t.TempDir() // nobody's own helm settings
	cmd.Env = append(os.Environ(), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// object renders the chart and decodes its only object of a kind. A field that
// the API does not know is an error.
func (h helm) object(t *testing.T, kind string, into any, args ...string) {
	t.Helper()
	out, err := h.template(t, args...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, out)
	}
	var found [][]byte
	for doc := range bytes.SplitSeq([]byte(out), []byte("\n---\n")) {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatalf("rendered document: %v\n%s", err, doc)
		}
		if head.Kind == kind {
			found = append(found, doc)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of kind %s, want 1", len(found), kind)
	}
	if err := yaml.UnmarshalStrict(found[0], into); err != nil {
		t.Fatalf("decode %s: %v", kind, err)
	}
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func keys(m map[string]any) []string {
	var ks []string
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}
