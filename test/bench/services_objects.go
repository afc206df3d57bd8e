package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	servicesNamespace   = "bench-services"
	endpointsPerService = 5
)

// published are Services at the API server. Their endpoints are what the bench
// says: nobody listens there.
type published struct {
	kube kubernetes.Interface
	node string // of all endpoints
	n    int
}

func serviceName(i int) string { return fmt.Sprintf("bench-%d", i) }

// grow adds Services until there are n.
func (p *published) grow(ctx context.Context, n int) error {
	var more []int
	for i := p.n; i < n; i++ {
		more = append(more, i)
	}
	err := each(more, func(i int) error {
		if _, err := p.kube.CoreV1().Services(servicesNamespace).Create(ctx, serviceObject(i), metav1.CreateOptions{}); err != nil {
			return err
		}
		_, err := p.kube.DiscoveryV1().EndpointSlices(servicesNamespace).Create(ctx, p.slice(i), metav1.CreateOptions{})
		return err
	})
	p.n = n
	return err
}

func serviceObject(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName(i), Annotations: map[string]string{
			"fairway.dev/service-sync": "true", "fairway.dev/service-tags": "bench", "fairway.dev/service-meta": "team:shop",
		}},
		// The lab has some 250 cluster IPs.
		Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

// slice is the EndpointSlice of a Service, as Kubernetes makes it for ready pods.
func (p *published) slice(i int) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName(i), Labels: map[string]string{
			discoveryv1.LabelServiceName: serviceName(i), discoveryv1.LabelManagedBy: "bench", corev1.IsHeadlessService: "",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for e := range endpointsPerService {
		var address [4]byte
		number := endpointsPerService*i + e
		binary.BigEndian.PutUint32(address[:], 10<<24|uint32(number))
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{netip.AddrFrom4(address).String()}, NodeName: &p.node, Zone: new("zone-1"),
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			TargetRef: &corev1.ObjectReference{
				Kind: "Pod", Namespace: servicesNamespace, Name: fmt.Sprintf("%s-%d", serviceName(i), e), UID: types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012x", number)),
			},
		})
	}
	return slice
}

// ready makes the first endpoint of a Service ready, or not ready.
func (p *published) ready(ctx context.Context, i int, is bool) error {
	patch := fmt.Appendf(nil, `[{"op":"replace","path":"/endpoints/0/conditions/ready","value":%t}]`, is)
	_, err := p.kube.DiscoveryV1().EndpointSlices(servicesNamespace).Patch(ctx, serviceName(i), types.JSONPatchType, patch, metav1.PatchOptions{})
	return err
}
