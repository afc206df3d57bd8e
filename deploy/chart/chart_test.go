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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	"--set", "katalogSync=take-over",
	"--set", "podAnnotations.a=b",
	"--set", "nodeSelector.disk=ssd",
	"--set", "imagePullSecrets[0].name=registry",
}

// serversOnly is what a cluster without Consul client agents would set.
var serversOnly = []string{
	"--set", "clusterID=test",
	"--set", "registry=catalog",
	"--set", "consul.address=http://consul-server.consul.svc:8500",
	"--set", "consul.login.authMethod=k8s",
	"--set", "consul.login.audience=consul",
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
		{"unknown mode", []string{"--set", "clusterID=a", "--set", "katalogSync=adopt"}, "katalogSync"},
		{"servers alone, beside katalog-sync", append([]string{"--set", "katalogSync=take-over"}, serversOnly...), "katalogSync=take-over needs registry=agent"},
		{"unknown log level", []string{"--set", "clusterID=a", "--set", "logLevel=loud"}, "logLevel"},
		{"unknown registry", []string{"--set", "clusterID=a", "--set", "registry=etcd"}, "registry"},
		{"exports without controller", []string{"--set", "clusterID=a", "--set", "controller.enabled=false", "--set", "controller.export.enabled=true"},
			"controller.export.enabled needs the controller"},
		{"servers without address", []string{"--set", "clusterID=a", "--set", "registry=catalog"}, "consul.address is required with registry=catalog"},
		{"two tokens", []string{"--set", "clusterID=a", "--set", "consul.login.authMethod=a", "--set", "consul.tokenSecret.name=b"}, "only one can give the token"},
		{"unknown word for mistakes", []string{"--set", "clusterID=a", "--set", "admission.validate=off"}, "validate"},
		{"no time to sleep", []string{"--set", "clusterID=a", "--set", "admission.sleepSeconds=0"}, "sleepSeconds"},
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
	rule := func(resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, Verbs: verbs}
	}
	writes := []rbacv1.PolicyRule{rule("pods/status", "patch"), rule("events", "create", "patch")}
	watch := append([]rbacv1.PolicyRule{rule("pods", "get", "list", "watch")}, writes...)
	for source, want := range map[string][]rbacv1.PolicyRule{
		"auto": watch, "podsapi": watch, "informer": watch,
		"kubelet": append([]rbacv1.PolicyRule{rule("nodes/pods", "get"), rule("pods", "get")}, writes...),
	} {
		var role rbacv1.ClusterRole
		newHelm(t).object(t, "ClusterRole", &role, append(everything, "--set", "podSource="+source)...)
		if diff := cmp.Diff(want, role.Rules); diff != "" {
			t.Errorf("rules with pod source %s (-want +got):\n%s", source, diff)
		}
	}
}

// The host's network, and where it is read the folder with the kubelet's
// socket, is all that the agent gets of the node.
func TestI8NoContainerIsPrivileged(t *testing.T) {
	for _, args := range [][]string{everything, serversOnly} {
		for _, source := range []string{"auto", "podsapi", "informer", "kubelet"} {
			spec := daemonSet(t, append(slices.Clone(args), "--set", "podSource="+source)...).Spec.Template.Spec
			unprivileged(t, spec, source == "auto" || source == "podsapi")
		}
	}
}

func unprivileged(t *testing.T, spec corev1.PodSpec, socket bool) {
	t.Helper()
	if !spec.HostNetwork || spec.HostPID || spec.HostIPC {
		t.Errorf("hostNetwork %v, hostPID %v, hostIPC %v; want the first alone",
			spec.HostNetwork, spec.HostPID, spec.HostIPC)
	}
	var folders []string
	for _, v := range spec.Volumes {
		ownToken := v.Projected != nil && len(v.Projected.Sources) == 1 && v.Projected.Sources[0].ServiceAccountToken != nil
		if v.HostPath != nil {
			folders = append(folders, v.HostPath.Path)
		} else if v.Secret == nil && v.ConfigMap == nil && v.EmptyDir == nil && !ownToken {
			t.Errorf("volume %s is neither Secret nor ConfigMap nor the agent's own", v.Name)
		}
	}
	for _, m := range spec.Containers[0].VolumeMounts {
		if !m.ReadOnly && m.Name != "signing-keys" { // a folder of the pod's own
			t.Errorf("%s is mounted for writing", m.Name)
		}
	}
	user, wantFolders := int64(65532), []string(nil)
	if socket {
		user, wantFolders = 0, []string{"/var/lib/kubelet/pods-api"}
	}
	if diff := cmp.Diff(wantFolders, folders); diff != "" {
		t.Errorf("folders of the node (-want +got):\n%s", diff)
	}
	wantPod := &corev1.PodSecurityContext{
		RunAsNonRoot:   new(!socket),
		RunAsUser:      new(user),
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

	bare := daemonSet(t, "--set", "clusterID=test", "--set", "podSource=informer").Spec.Template.Spec
	if slices.ContainsFunc(bare.Volumes, func(v corev1.Volume) bool { return v.EmptyDir == nil }) {
		t.Errorf("volumes %v without a Secret, want none but the agent's own", bare.Volumes)
	}
}

// To log in takes no secret: the agent shows Consul its own token.
func TestI8LoginNeedsNoSecret(t *testing.T) {
	spec := daemonSet(t, append(slices.Clone(serversOnly), "--set", "podSource=informer")...).Spec.Template.Spec
	c := spec.Containers[0]
	for _, arg := range []string{"--registry=catalog", "--consul-auth-method=k8s", "--consul-bearer-token-file=/run/fairway/consul-login/token"} {
		if !slices.Contains(c.Args, arg) {
			t.Errorf("args %q lack %s", c.Args, arg)
		}
	}
	want := []corev1.VolumeMount{
		{Name: "signing-keys", MountPath: "/run/fairway/signing-keys"},
		{Name: "consul-login", MountPath: "/run/fairway/consul-login", ReadOnly: true},
	}
	if diff := cmp.Diff(want, c.VolumeMounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	if len(spec.Volumes) != 2 || spec.Volumes[1].Projected == nil || spec.Volumes[1].Projected.Sources[0].ServiceAccountToken.Audience != "consul" {
		t.Errorf("volumes %+v", spec.Volumes)
	}
	if spec.DNSPolicy != corev1.DNSClusterFirstWithHostNet {
		t.Errorf("dnsPolicy %s: the servers' name is the cluster's", spec.DNSPolicy)
	}
}

// The agent takes what the chart gives it, and knows its node.
func TestTheAgentTakesTheFlags(t *testing.T) {
	for _, args := range [][]string{everything, serversOnly} {
		c := daemonSet(t, args...).Spec.Template.Spec.Containers[0]
		if err := agent.Command().ParseFlags(c.Args); err != nil {
			t.Errorf("args %q: %v", c.Args, err)
		}
		got := map[string]string{}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
				got[e.Name] = e.ValueFrom.FieldRef.FieldPath
			}
		}
		want := map[string]string{
			"NODE_NAME": "spec.nodeName", "NODE_IP": "status.hostIP",
			"POD_NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("environment (-want +got):\n%s", diff)
		}
	}
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
	unnested := strings.Repeat(" ", 80)
	resources := unnested // the indent of the last key, if that is resources
	for i, line := range lines {
		m := key.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		indent, name, value := m[1], m[2], m[3]
		if len(indent) > len(resources) {
			continue // the API's own names
		}
		if resources = unnested; name == "resources" {
			resources = indent
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
	return h.run(t, "template", args...)
}

// run runs helm on the chart.
func (h helm) run(t *testing.T, verb string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), h.program, append([]string{verb, "fairway", h.chart}, args...)...)
	home := t.TempDir() // nobody's own helm settings
	cmd.Env = append(os.Environ(), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// object renders the chart and decodes its only object of a kind. A field that
// the API does not know is an error.
func (h helm) object(t *testing.T, kind string, into any, args ...string) {
	t.Helper()
	found := h.objects(t, kind, args...)
	if len(found) != 1 {
		t.Fatalf("%d objects of kind %s, want 1", len(found), kind)
	}
	for _, doc := range found {
		decode(t, doc, into)
	}
}

// objects renders the chart and returns its objects of a kind by name.
func (h helm) objects(t *testing.T, kind string, args ...string) map[string][]byte {
	t.Helper()
	out, err := h.template(t, args...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, out)
	}
	found := map[string][]byte{}
	for doc := range bytes.SplitSeq([]byte(out), []byte("\n---\n")) {
		var head metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatalf("rendered document: %v\n%s", err, doc)
		}
		if head.Kind == kind {
			found[head.Name] = doc
		}
	}
	return found
}

func decode(t *testing.T, doc []byte, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(doc, into); err != nil {
		t.Fatalf("decode: %v\n%s", err, doc)
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
