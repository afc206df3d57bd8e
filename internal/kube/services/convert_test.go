package services

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/service"
)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func same(t *testing.T, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid-1", ResourceVersion: "1"}
}

func TestService(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in   corev1.Service
		want export.Service
	}{
		"all there is": {
			corev1.Service{
				ObjectMeta: metav1.ObjectMeta{
					Labels: map[string]string{"app": "web"},
					Annotations: map[string]string{
						"fairway.dev/service-name": "web", "consul.hashicorp.com/service-tags": "a",
						"kubectl.kubernetes.io/last-applied-configuration": "{}",
					},
				},
				Spec: corev1.ServiceSpec{
					Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "web"},
					ClusterIP: "198.19.0.9", ClusterIPs: []string{"198.19.0.9", "fd00::9"}, ExternalIPs: []string{"203.0.113.7", "nonsense"},
					Ports: []corev1.ServicePort{
						{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080, TargetPort: intstr.FromString("web")},
						{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53},
						{Name: "plain", Port: 81},
					},
				},
				Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
					{IP: "203.0.113.9", IPMode: new(corev1.LoadBalancerIPModeProxy)}, {Hostname: "lb.example.com"}, {},
				}}},
			},
			export.Service{
				Labels:      map[string]string{"app": "web"},
				Annotations: map[string]string{"fairway.dev/service-name": "web", "consul.hashicorp.com/service-tags": "a"},
				Type:        export.TypeLoadBalancer, HasSelector: true,
				ClusterIPs: []netip.Addr{addr("198.19.0.9"), addr("fd00::9")}, ExternalIPs: []netip.Addr{addr("203.0.113.7")},
				Ports: []service.Port{
					{Name: "http", Protocol: "TCP", Port: 80, NodePort: 30080}, {Name: "dns", Protocol: "UDP", Port: 53},
					{Name: "plain", Protocol: "TCP", Port: 81},
				},
				Balancer: []export.BalancerAddress{{IP: addr("203.0.113.9")}, {Hostname: "lb.example.com"}},
			},
		},
		"headless": {
			corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "None", ClusterIPs: []string{"None"}}},
			export.Service{Type: export.TypeClusterIP, Headless: true},
		},
		"only the older field": {
			corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "198.19.0.9"}},
			export.Service{Type: export.TypeClusterIP, ClusterIPs: []netip.Addr{addr("198.19.0.9")}},
		},
		"a name outside": {
			corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.com"}},
			export.Service{Type: export.TypeExternalName, ExternalName: "db.example.com"},
		},
		"an import": {
			corev1.Service{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{
				v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelConsulImport: "web"}}},
			export.Service{Imported: true, Labels: map[string]string{
				v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelConsulImport: "web"}},
		},
		"what somebody else manages": {
			corev1.Service{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelManagedBy: "Helm"}}},
			export.Service{Labels: map[string]string{v1alpha1.LabelManagedBy: "Helm"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.in.Namespace, tt.in.Name, tt.in.UID = "shop", "web", "uid-1"
			tt.want.Namespace, tt.want.Name, tt.want.UID = "shop", "web", "uid-1"
			same(t, tt.want, readService(&tt.in))
		})
	}
}

func TestEndpointSlice(t *testing.T) {
	t.Parallel()
	meta := named("web-1")
	meta.Labels = map[string]string{discoveryv1.LabelServiceName: "web", "app": "web"}
	got := readSlice(&discoveryv1.EndpointSlice{
		ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{
			{
				Addresses:  []string{"10.0.0.1", "10.0.0.2"},
				Conditions: discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)},
				TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "web-a", UID: "pod-1"},
				NodeName:   new("n1"), Zone: new("z1"),
			},
			{Addresses: []string{"10.0.0.3"}},
		},
		Ports: []discoveryv1.EndpointPort{
			{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)},
			{Name: new("any")}, {Port: new(int32(9100))}, {Name: new("wrong"), Port: new(int32(70000))},
		},
	})
	same(t, export.EndpointSlice{
		Namespace: "shop", Name: "web-1", Service: "web", AddressType: export.IPv4,
		Endpoints: []export.Endpoint{
			{
				Addresses: []string{"10.0.0.1", "10.0.0.2"}, Ready: new(false), Serving: new(true), Terminating: new(true),
				Target: export.Target{Kind: "Pod", Name: "web-a", UID: "pod-1"}, Node: "n1", Zone: "z1",
			},
			{Addresses: []string{"10.0.0.3"}},
		},
		Ports: []export.EndpointPort{{Name: "http", Port: new(uint16(8080))}, {Name: "any"}, {Port: new(uint16(9100))}, {Name: "wrong"}},
	}, got)

	same(t, export.EndpointSlice{Namespace: "shop", Name: "names", AddressType: export.FQDN},
		readSlice(&discoveryv1.EndpointSlice{ObjectMeta: named("names"), AddressType: discoveryv1.AddressTypeFQDN}))
}

func TestNodeAndNamespace(t *testing.T) {
	t.Parallel()
	same(t, export.Node{Name: "n1", Internal: []netip.Addr{addr("10.1.0.1"), addr("fd00:1::1")}, External: []netip.Addr{addr("203.0.113.1")}},
		readNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "10.1.0.1"},
			{Type: corev1.NodeExternalIP, Address: "203.0.113.1"}, {Type: corev1.NodeInternalIP, Address: "fd00:1::1"},
			{Type: corev1.NodeInternalDNS, Address: "10.9.9.9"}, {Type: corev1.NodeExternalIP, Address: "nonsense"},
		}}}))
	same(t, export.Namespace{Name: "shop", Labels: map[string]string{"team": "a"}},
		readNamespace(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "a"}}}))
}

func TestIngress(t *testing.T) {
	t.Parallel()
	to := func(path, service string, kind networkingv1.PathType) networkingv1.HTTPIngressPath {
		return networkingv1.HTTPIngressPath{Path: path, PathType: &kind, Backend: networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: service}}}
	}
	bucket := networkingv1.HTTPIngressPath{Path: "/files", Backend: networkingv1.IngressBackend{
		Resource: &corev1.TypedLocalObjectReference{Kind: "Bucket", Name: "web"}}}
	rule := func(host string, paths ...networkingv1.HTTPIngressPath) networkingv1.IngressRule {
		return networkingv1.IngressRule{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: paths}}}
	}
	got := readIngress(&networkingv1.Ingress{ObjectMeta: named("web"), Spec: networkingv1.IngressSpec{
		TLS: []networkingv1.IngressTLS{{Hosts: []string{"a.example.com"}}, {Hosts: []string{"*.example.org", "b.example.com"}}, {}},
		Rules: []networkingv1.IngressRule{
			rule("a.example.com", to("/", "web", networkingv1.PathTypePrefix), to("/api", "api", networkingv1.PathTypeImplementationSpecific), bucket),
			rule("", to("", "web", networkingv1.PathTypeImplementationSpecific)),
			rule("front.example.com", to("/", "web", networkingv1.PathTypeExact)), // the front page alone
			{Host: "default.example.com"},
		},
	}})
	same(t, export.Ingress{
		Namespace: "shop", Name: "web", TLS: []string{"a.example.com", "*.example.org", "b.example.com"},
		Rules: []export.IngressRule{
			{Host: "a.example.com", Paths: []export.IngressPath{{Path: "/", Service: "web"}, {Path: "/api", Service: "api"}, {Path: "/files"}}},
			{Paths: []export.IngressPath{{Service: "web"}}},
			{Host: "front.example.com"},
		},
	}, got)
}
