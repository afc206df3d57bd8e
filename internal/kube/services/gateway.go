package services

import (
	"cmp"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"fairway.dev/fairway/internal/export"
)

const (
	gatewayGroup = "gateway.networking.k8s.io"
	kindGateway  = "Gateway"
)

// The parts of the Gateway API's objects that are read. The whole would be a module
// to depend on, and most of what is held of an object.
type (
	httpRoute struct {
		Spec struct {
			ParentRefs []parentRef
			Hostnames  []string
			Rules      []struct {
				Matches     []routeMatch
				BackendRefs []backendRef
			}
		}
		Status struct {
			Parents []struct {
				ParentRef  parentRef
				Conditions []struct{ Type, Status string }
			}
		}
	}
	parentRef struct {
		Group       *string
		Kind        string
		Namespace   string
		Name        string
		SectionName string
		Port        int32
	}
	routeMatch struct {
		Path                 *struct{ Type, Value string }
		Headers, QueryParams []any
		Method               string
	}
	backendRef struct {
		Group, Kind, Namespace, Name string
		Weight                       *int32
	}
	gatewayListeners struct {
		Spec struct {
			Listeners []struct {
				Name, Hostname, Protocol string
				Port                     int32
			}
		}
	}
)

// readRoute is what the core needs to know of an HTTPRoute.
func readRoute(object any) (export.HTTPRoute, error) {
	in, from, err := decode[httpRoute](object)
	if err != nil {
		return export.HTTPRoute{}, err
	}
	out := export.HTTPRoute{Namespace: from.GetNamespace(), Name: from.GetName(), Hostnames: in.Spec.Hostnames}
	accepted := map[parentRef]bool{}
	for _, parent := range in.Status.Parents {
		ref, _ := parent.ParentRef.gateway(out.Namespace)
		for _, condition := range parent.Conditions {
			if condition.Type == "Accepted" && condition.Status == "True" {
				accepted[ref] = true
			}
		}
	}
	for _, parent := range in.Spec.ParentRefs {
		if ref, ok := parent.gateway(out.Namespace); ok {
			out.Parents = append(out.Parents, export.ParentRef{
				Namespace: ref.Namespace, Gateway: ref.Name, Section: ref.SectionName, Accepted: accepted[ref],
			})
		}
	}
	for _, rule := range in.Spec.Rules {
		read := export.RouteRule{}
		for _, match := range rule.Matches {
			if prefix, all := match.prefix(); all {
				read.Paths = append(read.Paths, prefix)
			}
		}
		if len(rule.Matches) > 0 && len(read.Paths) == 0 {
			continue // no path of which it takes all requests
		}
		for _, backend := range rule.BackendRefs {
			if backend.takesRequests() {
				read.Backends = append(read.Backends, export.Backend{
					Namespace: cmp.Or(backend.Namespace, out.Namespace), Service: backend.Name,
				})
			}
		}
		out.Rules = append(out.Rules, read)
	}
	return out, nil
}

// gateway fills in what a reference leaves out. It is not ok if that to which it
// refers is no Gateway: a mesh attaches routes to Services.
func (r parentRef) gateway(namespace string) (ref parentRef, ok bool) {
	ok = (r.Group == nil || *r.Group == gatewayGroup) && cmp.Or(r.Kind, kindGateway) == kindGateway
	r.Group, r.Kind, r.Namespace = nil, "", cmp.Or(r.Namespace, namespace)
	return r, ok
}

// prefix is the path under which a match takes all requests, if there is one.
func (m routeMatch) prefix() (path string, all bool) {
	if len(m.Headers) > 0 || len(m.QueryParams) > 0 || m.Method != "" {
		return "", false
	}
	if m.Path == nil {
		return "/", true
	}
	return cmp.Or(m.Path.Value, "/"), cmp.Or(m.Path.Type, "PathPrefix") == "PathPrefix"
}

// takesRequests tells whether a backend is a Service that gets any.
func (b backendRef) takesRequests() bool {
	return b.Group == "" && cmp.Or(b.Kind, "Service") == "Service" && (b.Weight == nil || *b.Weight > 0)
}

// readGateway is what the core needs to know of a Gateway.
func readGateway(object any) (export.Gateway, error) {
	in, from, err := decode[gatewayListeners](object)
	if err != nil {
		return export.Gateway{}, err
	}
	out := export.Gateway{Namespace: from.GetNamespace(), Name: from.GetName()}
	for _, l := range in.Spec.Listeners {
		out.Listeners = append(out.Listeners, export.Listener{
			Name: l.Name, Hostname: l.Hostname, Port: portNumber(l.Port), Protocol: l.Protocol,
		})
	}
	return out, nil
}

// decode reads the parts of an object that T names.
func decode[T any](object any) (out T, from *unstructured.Unstructured, err error) {
	from, ok := object.(*unstructured.Unstructured)
	if !ok {
		return out, nil, fmt.Errorf("it is a %T", object)
	}
	text, err := json.Marshal(from.Object)
	if err != nil {
		return out, nil, err
	}
	return out, from, json.Unmarshal(text, &out)
}
