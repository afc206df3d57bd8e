package services

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"fairway.dev/fairway/internal/export"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	out := new(unstructured.Unstructured)
	if err := yaml.Unmarshal([]byte(text), &out.Object); err != nil {
		t.Fatal(err)
	}
	return out
}

const routeOfWeb = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: shop, name: web, uid: uid-1, resourceVersion: "1", generation: 2}
spec:
  hostnames: [a.example.com, b.example.com]
  parentRefs:
  - {group: gateway.networking.k8s.io, kind: Gateway, name: edge, namespace: infra, sectionName: https}
  - {name: inner}
  - {name: refused}
  - {group: "", kind: Service, name: web}
  rules:
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs:
    - {group: "", kind: Service, name: web, port: 80, weight: 1}
    - {name: canary, namespace: other, port: 80}
    - {name: idle, weight: 0}
    - {group: example.com, kind: Bucket, name: files}
  - matches:
    - {path: {type: Exact, value: /}}
    - {path: {value: /api}, method: GET}
    - {path: {value: /api}, headers: [{name: x, value: "y"}]}
    - {path: {value: /api}, queryParams: [{name: x, value: "y"}]}
    backendRefs: [{name: partly}]
  - matches: [{path: {type: RegularExpression, value: /v.*}}, {path: {type: PathPrefix, value: /v1}}]
    backendRefs: [{name: v1}]
  - backendRefs: [{name: rest}]
  - matches: [{}]
    backendRefs: [{name: all}]
status:
  parents:
  - parentRef: {group: gateway.networking.k8s.io, kind: Gateway, name: edge, namespace: infra, sectionName: https}
    controllerName: example.com/a
    conditions: [{type: Accepted, status: "False"}]
  - parentRef: {group: gateway.networking.k8s.io, kind: Gateway, name: edge, namespace: infra, sectionName: https}
    controllerName: example.com/b
    conditions: [{type: ResolvedRefs, status: "False"}, {type: Accepted, status: "True"}]
  - parentRef: {name: inner, namespace: shop}
    conditions: [{type: Accepted, status: "True"}]
  - parentRef: {name: refused}
    conditions: [{type: Accepted, status: "False"}, {type: ResolvedRefs, status: "True"}]
`

func TestRoute(t *testing.T) {
	t.Parallel()
	got, err := readRoute(object(t, routeOfWeb))
	if err != nil {
		t.Fatal(err)
	}
	same(t, export.HTTPRoute{
		Namespace: "shop", Name: "web", Hostnames: []string{"a.example.com", "b.example.com"},
		Parents: []export.ParentRef{
			{Namespace: "infra", Gateway: "edge", Section: "https", Accepted: true},
			{Namespace: "shop", Gateway: "inner", Accepted: true},
			{Namespace: "shop", Gateway: "refused"},
		},
		Rules: []export.RouteRule{
			{Paths: []string{"/"}, Backends: []export.Backend{{Namespace: "shop", Service: "web"}, {Namespace: "other", Service: "canary"}}},
			{Paths: []string{"/v1"}, Backends: []export.Backend{{Namespace: "shop", Service: "v1"}}},
			{Backends: []export.Backend{{Namespace: "shop", Service: "rest"}}},
			{Paths: []string{"/"}, Backends: []export.Backend{{Namespace: "shop", Service: "all"}}},
		},
	}, got)
}

func TestGateway(t *testing.T) {
	t.Parallel()
	got, err := readGateway(object(t, `
metadata: {namespace: infra, name: edge}
spec:
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, hostname: "*.example.com", port: 443, protocol: HTTPS, tls: {mode: Terminate}}
`))
	if err != nil {
		t.Fatal(err)
	}
	same(t, export.Gateway{Namespace: "infra", Name: "edge", Listeners: []export.Listener{
		{Name: "http", Port: 80, Protocol: "HTTP"}, {Name: "https", Hostname: "*.example.com", Port: 443, Protocol: "HTTPS"},
	}}, got)
}

// What cannot be read is not taken for a route that leads nowhere.
func TestUnreadableGatewayObjects(t *testing.T) {
	t.Parallel()
	strange := object(t, `{spec: {listeners: none, hostnames: 5}}`)
	for _, object := range []any{strange, &corev1.Service{}, nil} {
		if got, err := readRoute(object); err == nil {
			t.Errorf("a route was read: %+v", got)
		}
		if got, err := readGateway(object); err == nil {
			t.Errorf("a Gateway was read: %+v", got)
		}
	}
}
