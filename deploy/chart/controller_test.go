package chart_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fairway.dev/fairway/internal/app/controller"
)

// The controller's rights are exactly this list, each where it is needed, and only
// for what it does.
func TestI8ControllerRightsAreExactlyTheList(t *testing.T) {
	rule := func(group string, resources []string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
	}
	watch := func(group string, resources ...string) rbacv1.PolicyRule {
		return rule(group, resources, "get", "list", "watch")
	}
	events := rule("", []string{"events"}, "create", "patch")
	own := rule("coordination.k8s.io", []string{"leases"}, "get", "update")
	own.ResourceNames = []string{"fairway-controller"}
	lead := []rbacv1.PolicyRule{rule("coordination.k8s.io", []string{"leases"}, "create"), own}
	kubelets := []rbacv1.PolicyRule{rule("coordination.k8s.io", []string{"leases"}, "list", "watch")}
	agents := append(slices.Clone(everything), "--set", "controller.consulAddress=http://c:8500")
	export := []string{"--set", "controller.export.enabled=true"}
	imports := []string{"--set", "controller.import.enabled=true"}
	imported := []rbacv1.PolicyRule{
		rule("fairway.dev", []string{"consulimports"}, "list", "watch"),
		rule("fairway.dev", []string{"consulimports/status"}, "update"),
		rule("fairway.dev", []string{"consulimports/finalizers"}, "update"),
		rule("", []string{"services"}, "list", "watch", "create", "patch", "delete"),
		rule("discovery.k8s.io", []string{"endpointslices"}, "list", "watch", "create", "patch", "delete"),
	}

	for name, tt := range map[string]struct {
		args []string
		want map[string][]rbacv1.PolicyRule
	}{
		"nodes": {serversOnly, map[string][]rbacv1.PolicyRule{
			"": {watch("", "nodes")}, "fairway-system": lead, "kube-node-lease": kubelets, "default": {events},
		}},
		"Services": {append(agents, export...), map[string][]rbacv1.PolicyRule{
			"": {watch("", "nodes"), watch("", "services"), watch("discovery.k8s.io", "endpointslices"), events}, "fairway-system": lead,
		}},
		"imports": {append(slices.Clone(agents), imports...), map[string][]rbacv1.PolicyRule{"": imported, "fairway-system": lead}},
		"imports of some namespaces": {
			append(append(slices.Clone(agents), imports...), "--set", "controller.import.namespaces={shop,bar}"),
			map[string][]rbacv1.PolicyRule{"shop": imported, "bar": imported, "fairway-system": lead},
		},
		"all of it": {
			append(append(slices.Clone(serversOnly), export...), "--set", "controller.export.ingress=true", "--set", "controller.export.gateway=true",
				"--set", "controller.export.namespaceSelector=team"),
			map[string][]rbacv1.PolicyRule{
				"": {watch("", "nodes"), watch("", "services", "namespaces"), watch("discovery.k8s.io", "endpointslices"),
					watch("networking.k8s.io", "ingresses"), watch("gateway.networking.k8s.io", "gateways", "httproutes"), events},
				"fairway-system": lead, "kube-node-lease": kubelets, "default": {events},
			},
		},
	} {
		got := controllerRules(t, append(slices.Clone(tt.args), "--namespace", "fairway-system")...)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: rules by namespace (-want +got):\n%s", name, diff)
		}
	}
}

// controllerRules are what the controller's account may do, by namespace.
func controllerRules(t *testing.T, args ...string) map[string][]rbacv1.PolicyRule {
	t.Helper()
	rules, bound := map[string][]rbacv1.PolicyRule{}, map[string]bool{}
	out, err := newHelm(t).template(t, args...)
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
			rules[object.Namespace] = append(rules[object.Namespace], object.Rules...)
		case "ClusterRoleBinding", "RoleBinding":
			subject := rbacv1.Subject{Kind: "ServiceAccount", Name: "fairway-controller", Namespace: "fairway-system"}
			if bound[object.Namespace] = object.RoleRef.Name == object.Name; !slices.Equal(object.Subjects, []rbacv1.Subject{subject}) {
				t.Errorf("%s %s is for %v", object.Kind, object.Name, object.Subjects)
			}
		}
	}
	for namespace := range rules {
		if !bound[namespace] {
			t.Errorf("the rules in namespace %q are bound to nobody", namespace)
		}
	}
	return rules
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
		"Services":                  {append(slices.Clone(everything), "--set", "controller.export.enabled=true", "--set", "controller.consulAddress=http://c:8500"), true},
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

// Each value about Services is a flag, and what the chart has for its defaults is
// what the controller has.
func TestExportValues(t *testing.T) {
	flags := func(args ...string) map[string]string {
		var deployment appsv1.Deployment
		newHelm(t).object(t, "Deployment", &deployment, append(append(slices.Clone(serversOnly), "--set", "controller.export.enabled=true"), args...)...)
		cmd := controller.Command()
		if err := cmd.ParseFlags(deployment.Spec.Template.Spec.Containers[0].Args); err != nil {
			t.Fatal(err)
		}
		values := map[string]string{}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if strings.HasPrefix(f.Name, "export") || f.Name == "max-removal-share" {
				values[f.Name] = f.Value.String()
			}
		})
		return values
	}
	want := map[string]string{}
	controller.Command().Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, "export") || f.Name == "max-removal-share" {
			want[f.Name] = f.DefValue
		}
	})
	want["export"] = "true"
	if diff := cmp.Diff(want, flags()); diff != "" {
		t.Errorf("defaults (-controller +chart):\n%s", diff)
	}
	for flag, value := range map[string][2]string{
		"export-all": {"all", "true"}, "export-namespaces": {"namespaces", "{a,b}"}, "export-except-namespaces": {"exceptNamespaces", "{c}"},
		"export-selector": {"selector", "tier=front"}, "export-namespace-selector": {"namespaceSelector", "team"},
		"export-name": {"name", "k8s-{name}"}, "export-load-balancer": {"loadBalancer", "off"}, "export-node-port": {"nodePort", "vip"},
		"export-cluster-ip": {"clusterIP", "vip"}, "export-headless": {"headless", "off"}, "export-external-name": {"externalName", "off"},
		"export-node-address": {"nodeAddress", "internal"}, "export-external-ips": {"externalIPs", "false"},
		"export-ingress": {"ingress", "true"}, "export-gateway": {"gateway", "true"}, "max-removal-share": {"maxRemovalShare", "0.25"},
	} {
		want[flag] = strings.NewReplacer("{a,b}", "[a,b]", "{c}", "[c]").Replace(value[1])
		how := "--set"
		if flag == "max-removal-share" {
			how = "--set-json" // --set makes a string of it
		}
		set := strings.NewReplacer("k8s-{name}", `k8s-\{name\}`).Replace(value[1])
		if got := flags(how, "controller.export."+value[0]+"="+set)[flag]; got != want[flag] {
			t.Errorf("%s: the chart gives %q, want %q", flag, got, want[flag])
		}
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

// Who switches Services or imports on is told what comes next, and nobody else is.
func TestNotesTellOfWhatIsOn(t *testing.T) {
	h := newHelm(t)
	const some, all, imports = "Services with this annotation", "Services are published", "kubectl get consulimports"
	for _, tt := range []struct {
		set  string
		want []string
	}{
		{"registry=agent", nil},
		{"controller.export.enabled=true", []string{some}},
		{"controller.export.enabled=true,controller.export.all=true", []string{all}},
		{"controller.import.enabled=true", []string{imports}},
	} {
		notes, err := h.run(t, "install", "--dry-run=client", "--set", "clusterID=test,controller.consulAddress=http://consul:8500,"+tt.set)
		if err != nil {
			t.Fatalf("helm install: %v\n%s", err, notes)
		}
		_, notes, _ = strings.Cut(notes, "\nNOTES:\n")
		if !strings.Contains(notes, "fairway doctor") {
			t.Errorf("%s: there are no notes:\n%s", tt.set, notes)
		}
		for _, text := range []string{some, all, imports} {
			if got := strings.Contains(notes, text); got != slices.Contains(tt.want, text) {
				t.Errorf("%s: the notes say %q: %v\n%s", tt.set, text, got, notes)
			}
		}
	}
}
