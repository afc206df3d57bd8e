package services

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/service"
)

// readService is what the core needs to know of a Service.
func readService(in *corev1.Service) export.Service {
	out := export.Service{
		Namespace: in.Namespace, Name: in.Name, UID: string(in.UID), Labels: in.Labels, Annotations: ours(in.Annotations),
		Type: export.ServiceType(in.Spec.Type), HasSelector: len(in.Spec.Selector) > 0,
		ExternalIPs: addresses(in.Spec.ExternalIPs), ExternalName: in.Spec.ExternalName,
		Imported: in.Labels[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy && in.Labels[v1alpha1.LabelImport] != "",
	}
	for _, port := range in.Spec.Ports {
		protocol := string(port.Protocol)
		if protocol == "" {
			protocol = string(corev1.ProtocolTCP)
		}
		out.Ports = append(out.Ports, service.Port{
			Name: port.Name, Port: portNumber(port.Port), NodePort: portNumber(port.NodePort), Protocol: protocol,
		})
	}
	ips := in.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{in.Spec.ClusterIP}
	}
	out.Headless, out.ClusterIPs = ips[0] == corev1.ClusterIPNone, addresses(ips)
	for _, at := range in.Status.LoadBalancer.Ingress {
		if ip, err := netip.ParseAddr(at.IP); err == nil {
			out.Balancer = append(out.Balancer, export.BalancerAddress{IP: ip})
		} else if at.Hostname != "" {
			out.Balancer = append(out.Balancer, export.BalancerAddress{Hostname: at.Hostname})
		}
	}
	return out
}

// ours are the annotations that can mean something to the core. The others, such as
// what kubectl applied last, may be long and change often.
func ours(annotations map[string]string) map[string]string {
	var out map[string]string
	for key, value := range annotations {
		if strings.HasPrefix(key, annotation.Native) || strings.HasPrefix(key, annotation.Consul) {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = value
		}
	}
	return out
}

// addresses are those of the texts that are one.
func addresses(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil {
			out = append(out, address)
		}
	}
	return out
}

// portNumber is 0 for what is no port.
func portNumber(n int32) uint16 {
	if n < 1 || n > 65535 {
		return 0
	}
	return uint16(n)
}

// readSlice is what the core needs to know of an EndpointSlice.
func readSlice(in *discoveryv1.EndpointSlice) export.EndpointSlice {
	out := export.EndpointSlice{
		Namespace: in.Namespace, Name: in.Name, Service: in.Labels[discoveryv1.LabelServiceName],
		AddressType: export.AddressType(in.AddressType),
	}
	if len(in.Endpoints) > 0 {
		out.Endpoints = make([]export.Endpoint, len(in.Endpoints))
	}
	for i, e := range in.Endpoints {
		out.Endpoints[i] = export.Endpoint{
			Addresses: e.Addresses, Ready: e.Conditions.Ready, Serving: e.Conditions.Serving, Terminating: e.Conditions.Terminating,
			Node: value(e.NodeName), Zone: value(e.Zone),
		}
		if e.TargetRef != nil {
			out.Endpoints[i].Target = export.Target{Kind: e.TargetRef.Kind, Name: e.TargetRef.Name, UID: string(e.TargetRef.UID)}
		}
	}
	for _, port := range in.Ports {
		p := export.EndpointPort{Name: value(port.Name)}
		if number := portNumber(value(port.Port)); number != 0 {
			p.Port = &number
		}
		out.Ports = append(out.Ports, p)
	}
	return out
}

// value is what a pointer points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// readNode is what the core needs to know of a Node.
func readNode(in *corev1.Node) export.Node {
	out := export.Node{Name: in.Name}
	for _, at := range in.Status.Addresses {
		switch ip, err := netip.ParseAddr(at.Address); {
		case err != nil:
		case at.Type == corev1.NodeInternalIP:
			out.Internal = append(out.Internal, ip)
		case at.Type == corev1.NodeExternalIP:
			out.External = append(out.External, ip)
		}
	}
	return out
}

// readNamespace is what the core needs to know of a Namespace.
func readNamespace(in *corev1.Namespace) export.Namespace {
	return export.Namespace{Name: in.Name, Labels: in.Labels}
}

// readIngress is what the core needs to know of an Ingress.
func readIngress(in *networkingv1.Ingress) export.Ingress {
	out := export.Ingress{Namespace: in.Namespace, Name: in.Name}
	for _, tls := range in.Spec.TLS {
		out.TLS = append(out.TLS, tls.Hosts...)
	}
	for _, rule := range in.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		read := export.IngressRule{Host: rule.Host}
		for _, path := range rule.HTTP.Paths {
			if value(path.PathType) == networkingv1.PathTypeExact {
				continue // never more than one path of the host
			}
			p := export.IngressPath{Path: path.Path}
			if path.Backend.Service != nil {
				p.Service = path.Backend.Service.Name
			}
			read.Paths = append(read.Paths, p)
		}
		out.Rules = append(out.Rules, read)
	}
	return out
}
