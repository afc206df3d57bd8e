package services

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"fairway.dev/fairway/internal/export"
)

// kind is what the store of a kind must know of it.
type kind[T statement] struct {
	name       string // as export names it
	resource   string // as kubectl names it
	namespaced bool
	// optional is a kind that a cluster may lack.
	optional bool
	convert  func(object any) (T, error)
	missing  func(*T) *bool
	// service is the Service that an object is a part of, without a name if there is
	// none; nil if any Service may depend on any object.
	service func(T) export.Object
	peer
}

// peer is how the API server is asked for the objects of a kind.
type peer struct {
	lists   *cache.ListWatch
	example runtime.Object
	// get reads one object past every cache.
	get func(ctx context.Context, namespace, name string) (any, error)
}

// builtIn is a peer for a kind that every API server has.
func builtIn[O runtime.Object](client rest.Interface, resource string, empty func() O) peer {
	return peer{
		lists:   cache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything()),
		example: empty(),
		get: func(ctx context.Context, namespace, name string) (any, error) {
			object := empty()
			// No resourceVersion: the answer must be as of now, not from a cache.
			err := client.Get().NamespaceIfScoped(namespace, namespace != "").Resource(resource).Name(name).Do(ctx).Into(object)
			return object, err
		},
	}
}

// custom is a peer for a kind that an API server has if somebody has added it.
func custom(client dynamic.Interface, of schema.GroupVersionKind, resource string) peer {
	at, example := of.GroupVersion().WithResource(resource), new(unstructured.Unstructured)
	example.SetGroupVersionKind(of)
	return peer{
		lists: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				return client.Resource(at).List(ctx, options)
			},
			WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
				return client.Resource(at).Watch(ctx, options)
			},
		},
		example: example,
		get: func(ctx context.Context, namespace, name string) (any, error) {
			return client.Resource(at).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		},
	}
}

// typed makes a conversion of objects of one type one of any object.
func typed[O, T any](convert func(O) T) func(any) (T, error) {
	return func(object any) (T, error) {
		if o, ok := object.(O); ok {
			return convert(o), nil
		}
		var none T
		return none, fmt.Errorf("it is a %T", object)
	}
}

func serviceKind(client kubernetes.Interface) kind[export.Service] {
	return kind[export.Service]{
		name: export.KindService, resource: "services", namespaced: true,
		convert: typed(readService),
		missing: func(s *export.Service) *bool { return &s.Missing },
		service: export.Service.Object,
		peer:    builtIn(client.CoreV1().RESTClient(), "services", func() *corev1.Service { return new(corev1.Service) }),
	}
}

func sliceKind(client kubernetes.Interface) kind[export.EndpointSlice] {
	return kind[export.EndpointSlice]{
		name: export.KindEndpointSlice, resource: "endpointslices.discovery.k8s.io", namespaced: true,
		convert: typed(readSlice),
		missing: func(s *export.EndpointSlice) *bool { return &s.Missing },
		service: serviceOf,
		peer: builtIn(client.DiscoveryV1().RESTClient(), "endpointslices",
			func() *discoveryv1.EndpointSlice { return new(discoveryv1.EndpointSlice) }),
	}
}

// serviceOf is the Service that a slice is a part of. It has no name if there is none.
func serviceOf(slice export.EndpointSlice) export.Object {
	return export.Object{Kind: export.KindService, Namespace: slice.Namespace, Name: slice.Service}
}

func nodeKind(client kubernetes.Interface) kind[export.Node] {
	return kind[export.Node]{
		name: export.KindNode, resource: "nodes",
		convert: typed(readNode),
		missing: func(n *export.Node) *bool { return &n.Missing },
		peer:    builtIn(client.CoreV1().RESTClient(), "nodes", func() *corev1.Node { return new(corev1.Node) }),
	}
}

func namespaceKind(client kubernetes.Interface) kind[export.Namespace] {
	return kind[export.Namespace]{
		name: export.KindNamespace, resource: "namespaces",
		convert: typed(readNamespace),
		missing: func(n *export.Namespace) *bool { return &n.Missing },
		peer:    builtIn(client.CoreV1().RESTClient(), "namespaces", func() *corev1.Namespace { return new(corev1.Namespace) }),
	}
}

func ingressKind(client kubernetes.Interface) kind[export.Ingress] {
	return kind[export.Ingress]{
		name: export.KindIngress, resource: "ingresses.networking.k8s.io", namespaced: true,
		convert: typed(readIngress),
		missing: func(i *export.Ingress) *bool { return &i.Missing },
		peer: builtIn(client.NetworkingV1().RESTClient(), "ingresses",
			func() *networkingv1.Ingress { return new(networkingv1.Ingress) }),
	}
}

func routeKind(client dynamic.Interface) kind[export.HTTPRoute] {
	return kind[export.HTTPRoute]{
		name: export.KindHTTPRoute, resource: "httproutes." + gatewayGroup, namespaced: true, optional: true,
		convert: readRoute,
		missing: func(r *export.HTTPRoute) *bool { return &r.Missing },
		peer:    custom(client, schema.GroupVersionKind{Group: gatewayGroup, Version: "v1", Kind: "HTTPRoute"}, "httproutes"),
	}
}

func gatewayKind(client dynamic.Interface) kind[export.Gateway] {
	return kind[export.Gateway]{
		name: export.KindGateway, resource: "gateways." + gatewayGroup, namespaced: true, optional: true,
		convert: readGateway,
		missing: func(g *export.Gateway) *bool { return &g.Missing },
		peer:    custom(client, schema.GroupVersionKind{Group: gatewayGroup, Version: "v1", Kind: kindGateway}, "gateways"),
	}
}
