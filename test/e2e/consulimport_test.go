package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"fairway.dev/fairway/api/v1alpha1"
)

// TestConsulImportsAreChecked: the API server takes what the controller
// understands, fills in the defaults, and refuses the rest in words that help.
func TestConsulImportsAreChecked(t *testing.T) {
	definition := filepath.Join("..", "..", "deploy", "chart", "files", "crds", "fairway.dev_consulimports.yaml")
	if _, err := fleet.lab.Kubectl(bounded(t), "apply", "-f", definition); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // what Helm has not made it does not take over
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if _, err := fleet.lab.Kubectl(ctx, "delete", "-f", definition); err != nil {
			t.Error(err)
		}
	})
	if _, err := fleet.lab.Kubectl(bounded(t), "wait", "--for=condition=Established", "-f", definition); err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(fleet.lab.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	imports := client.Resource(v1alpha1.GroupVersion().WithResource("consulimports")).Namespace(namespace(t))
	tests := []struct {
		name, spec string
		refusal    string // empty: it is taken
	}{
		{"a", `{source: {names: [web, db]}}`, ""},
		{"a", `{source: {pattern: "web-.*", tags: [v2], datacenter: dc2}, deletion: Retain,
			target: {name: "consul-{service}", type: Headless, ports: [{name: http, port: 80}, {name: dns, port: 80, protocol: UDP}], labels: {team: a}}}`, ""},
		{"a", `{source: {names: [web]}, target: {name: frontend}}`, ""},
		{strings.Repeat("a", 63), `{source: {names: [web]}}`, ""},
		{strings.Repeat("a", 64), `{source: {names: [web]}}`, "the name has more than 63 characters"},
		{"a", `{source: {}}`, "give either names or pattern"},
		{"a", `{source: {names: [web], pattern: web}}`, "give either names or pattern"},
		{"a", `{source: {names: []}}`, "spec.source.names"},
		{"a", `{source: {names: [web, web]}}`, "Duplicate value"},
		{"a", `{source: {pattern: "("}}`, "not a regular expression (RE2)"},
		{"a", `{source: {names: [web], datacenter: dc2, peer: east}}`, "give either datacenter or peer"},
		{"a", `{source: {names: [web, db]}, target: {name: frontend}}`, "target.name must contain {service}"},
		{"a", `{source: {pattern: web}, target: {name: frontend}}`, "target.name must contain {service}"},
		{"a", `{source: {names: [web]}, target: {name: Web}}`, "spec.target.name"},
		{"a", `{source: {names: [web]}, target: {type: NodePort}}`, "Unsupported value"},
		{"a", `{source: {names: [web]}, target: {ports: [{port: 1}, {name: a}]}}`, "each of several ports needs a name"},
		{"a", `{source: {names: [web]}, target: {ports: [{name: a, port: 1}, {name: a, port: 2}]}}`, "two ports have the same name"},
		{"a", `{source: {names: [web]}, target: {ports: [{name: a, port: 1}, {name: b, port: 1}]}}`, "two ports have the same number and protocol"},
		{"a", `{source: {names: [web]}, target: {ports: [{port: 65536}]}}`, "spec.target.ports[0].port"},
		{"a", `{source: {names: [web]}, target: {labels: {fairway.dev/import: b}}}`, "are set by Fairway"},
		{"a", `{source: {names: [web]}, target: {annotations: {fairway.dev/x: b}}}`, "are set by Fairway"},
		{"a", `{source: {names: [web]}, deletion: Sometimes}`, "Unsupported value"},
	}
	for _, tt := range tests {
		t.Run(tt.spec, func(t *testing.T) {
			var spec map[string]any
			if err := yaml.Unmarshal([]byte(tt.spec), &spec); err != nil {
				t.Fatal(err)
			}
			object := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
			object.SetGroupVersionKind(v1alpha1.GroupVersion().WithKind("ConsulImport"))
			object.SetName(tt.name)
			made, err := imports.Create(t.Context(), object, dryRun)
			switch {
			case tt.refusal == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.refusal == "":
				target, _, _ := unstructured.NestedMap(made.Object, "spec", "target")
				if deletion, _, _ := unstructured.NestedString(made.Object, "spec", "deletion"); deletion == "" {
					t.Error("deletion has no default")
				}
				if target != nil && (target["type"] == nil || target["name"] == nil) {
					t.Errorf("no defaults: %v", target)
				}
			case !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tt.refusal):
				t.Errorf("error %v, want %q", err, tt.refusal)
			}
		})
	}
}
