package chart_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fairway.dev/fairway/internal/app/controller"
)

// The controller's rights are exactly this list, each where it is needed.
func TestI8ControllerRightsAreExactlyTheList(t *testing.T) {
	leases := func(names []string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: names, Verbs: verbs}
	}
	want := map[string][]rbacv1.PolicyRule{
		"":                {{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "list", "watch"}}},
		"fairway-system":  {leases(nil, "create"), leases([]string{"fairway-controller"}, "get", "update")},
		"kube-node-lease": {leases(nil, "list", "watch")},
		"default":         {{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}}},
	}
	controllerRights(t, want, serversOnly...)

	// To import, it has these rights as well, in all namespaces or in those named.
	rule := func(group, resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
	}
	imports := []rbacv1.PolicyRule{
		rule("fairway.dev", "consulimports", "list", "watch"),
		rule("fairway.dev", "consulimports/status", "update"),
		rule("fairway.dev", "consulimports/finalizers", "update"),
		rule("", "services", "list", "watch", "create", "patch", "delete"),
		rule("discovery.k8s.io", "endpointslices", "list", "watch", "create", "patch", "delete"),
	}
	everywhere := maps.Clone(want)
	everywhere[""] = append(slices.Clone(want[""]), imports...)
	controllerRights(t, everywhere, append(slices.Clone(serversOnly), "--set", "controller.import.enabled=true")...)
	want["shop"], want["bar"] = imports, imports
	controllerRights(t, want, append(slices.Clone(serversOnly), "--set", "controller.import.enabled=true", "--set", "controller.import.namespaces={shop,bar}")...)
}

// controllerRights compares the controller's rights, by namespace.
func controllerRights(t *testing.T, want map[string][]rbacv1.PolicyRule, args ...string) {
	t.Helper()
	got, bound := map[string][]rbacv1.PolicyRule{}, map[string]bool{}
	out, err := newHelm(t).template(t, append(slices.Clone(args), "--namespace", "fairway-system")...)
	if err != nil {
		t.Fatal(out)
	}
	for doc := range strings.SplitSeq(out, "\n---\n") {
		var object struct {
			metav1.PartialObjectMetadata
			Rules    []rbacv1.PolicyRule
			RoleRef  rbacv1.RoleRef
			Subjects []rbacv1.Subject
		}
		if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
			t.Fatal(err)
		}
		if object.Labels["app.kubernetes.io/component"] != "controller" {
			continue
		}
		switch object.Kind {
		case "ClusterRole", "Role":
			got[object.Namespace] = append(got[object.Namespace], object.Rules...)
		case "ClusterRoleBinding", "RoleBinding":
			subject := rbacv1.Subject{Kind: "ServiceAccount", Name: "fairway-controller", Namespace: "fairway-system"}
			if bound[object.Namespace] = object.RoleRef.Name == object.Name; !slices.Equal(object.Subjects, []rbacv1.Subject{subject}) {
				t.Errorf("%s %s is for %v", object.Kind, object.Name, object.Subjects)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules by namespace (-want +got):\n%s", diff)
	}
	for namespace := range want {
		if !bound[namespace] {
			t.Errorf("the rules in namespace %q are bound to nobody", namespace)
		}
	}
}

// The controller is there where it is needed, or asked for, and takes what the
// chart gives it.
func TestController(t *testing.T) {
	h := newHelm(t)
	for name, tt := range map[string]struct {
		args []string
		want bool
	}{
		"client agents":             {everything, false},
		"servers":                   {serversOnly, true},
		"servers, not wanted":       {append(slices.Clone(serversOnly), "--set", "controller.enabled=false"), false},
		"client agents, to import":  {append(slices.Clone(everything), "--set", "controller.import.enabled=true", "--set", "controller.import.namespaces={a,b}", "--set", "controller.consulAddress=http://c:8500"), true},
		"client agents, and wanted": {append(slices.Clone(everything), "--set", "controller.enabled=true", "--set", "controller.consulAddress=http://c:8500"), true},
	} {
		for _, kind := range []string{"Deployment", "PodDisruptionBudget"} {
			if found := h.objects(t, kind, tt.args...); (len(found) == 1) != tt.want {
				t.Errorf("%s: %d objects of kind %s", name, len(found), kind)
			}
		}
		if !tt.want {
			continue
		}
		var deployment appsv1.Deployment
		h.object(t, "Deployment", &deployment, append(tt.args, "--set", "controller.forgetNodesAfter=2h")...)
		spec := deployment.Spec.Template.Spec
		if err := controller.Command().ParseFlags(spec.Containers[0].Args); err != nil {
			t.Errorf("%s: args %q: %v", name, spec.Containers[0].Args, err)
		}
		if *deployment.Spec.Replicas != 2 || len(spec.TopologySpreadConstraints) != 2 {
			t.Errorf("%s: %d replicas, spread by %v", name, *deployment.Spec.Replicas, spec.TopologySpreadConstraints)
		}
	}
	if out, err := h.template(t, append(slices.Clone(everything), "--set", "controller.enabled=true")...); err == nil ||
		!strings.Contains(out, "controller.consulAddress is required with registry=agent") {
		t.Errorf("the controller at the nodes' loopback: %v\n%s", err, out)
	}
	var deployment appsv1.Deployment
	args := []string{"--set", "consul.login.authMethod=", "--set", "consul.tokenSecret.name=all", "--set", "controller.tokenSecret.name=own", "--set", "controller.tokenSecret.key=t"}
	h.object(t, "Deployment", &deployment, append(slices.Clone(serversOnly), args...)...)
	spec := deployment.Spec.Template.Spec
	if len(spec.Volumes) != 1 || spec.Volumes[0].Secret.SecretName != "own" || !slices.Contains(spec.Containers[0].Args, "--consul-token-file=/run/fairway/consul-token/t") {
		t.Errorf("with a token of its own: volumes %v, args %q", spec.Volumes, spec.Containers[0].Args)
	}
}

// The controller gets nothing of the node, and no privileges.
func TestI8ControllerIsUnprivileged(t *testing.T) {
	var deployment appsv1.Deployment
	newHelm(t).object(t, "Deployment", &deployment, serversOnly...)
	spec := deployment.Spec.Template.Spec
	if spec.HostNetwork {
		t.Error("it is on the node's network")
	}
	spec.HostNetwork = true // the agent's, which else is held to the same
	unprivileged(t, spec, false)
}

// What users have made is there as long as its CRD is, so that stays when the chart
// is removed, or does not import any more.
func TestI2CRDsOutliveTheChart(t *testing.T) {
	h := newHelm(t)
	var definition metav1.PartialObjectMetadata
	found := h.objects(t, "CustomResourceDefinition", append(slices.Clone(serversOnly), "--set", "controller.import.enabled=true")...)
	if err := yaml.Unmarshal(found["consulimports.fairway.dev"], &definition); err != nil || len(found) != 1 {
		t.Fatalf("%d CRDs, %v", len(found), err)
	}
	if got := definition.Annotations["helm.sh/resource-policy"]; got != "keep" {
		t.Errorf("the resource policy is %q: Helm would take all ConsulImports away, and their Services", got)
	}
	if found := h.objects(t, "CustomResourceDefinition", serversOnly...); len(found) != 0 {
		t.Errorf("%d CRDs where nothing is imported", len(found))
	}
}
