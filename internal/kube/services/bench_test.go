package services

import (
	"fmt"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// manySlice is as a cluster writes it: a slice of five pods.
func manySlice(i, revision int) *discoveryv1.EndpointSlice {
	s := slice(fmt.Sprintf("web-%d-abcde", i), fmt.Sprintf("web-%d", i), revision)
	for j := range 5 {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", i/250, i%250, j+1)},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: fmt.Sprintf("web-%d-%d", i, j), UID: "00000000-0000-0000-0000-000000000000"},
			NodeName:   new(fmt.Sprintf("node-%d", j)), Zone: new("zone-" + strconv.Itoa(revision)),
		})
	}
	s.Ports = []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}}
	return s
}

// BenchmarkView is what it takes to see one change: of an EndpointSlice, among 5,000
// Services of five endpoints each.
func BenchmarkView(b *testing.B) {
	const services = 5000
	s := unheard(b, all)
	var listed, slices []any
	for i := range services {
		listed = append(listed, svc("web-"+strconv.Itoa(i), 1, func(s *corev1.Service) {
			s.Spec.Selector = map[string]string{"app": "web"}
			s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}}
			s.Spec.ClusterIPs = []string{"198.19.0.1"}
		}))
		slices = append(slices, manySlice(i, 1))
	}
	do(b, s.services.Replace(listed, "1"), s.slices.Replace(slices, "1"))
	var view View
	for _, bb := range []struct {
		name   string
		change func(i int) error
	}{
		{"of a slice", func(i int) error { return s.slices.Update(manySlice(i%services, 2+i)) }},
		{"of a Service", func(i int) error {
			return s.services.Update(svc("web-"+strconv.Itoa(i%services), 2+i, externalName(strconv.Itoa(i))))
		}},
		{"of nothing", func(int) error { return nil }},
	} {
		b.Run("after a change "+bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				do(b, bb.change(i))
				view = s.View()
				s.Changes()
			}
		})
	}
	if n := len(view.Cluster.Slices); n != services {
		b.Fatalf("%d slices", n)
	}
}

// BenchmarkUpdate is what an event of an EndpointSlice takes while nobody looks: one
// that changes nothing that is known, and one that does.
func BenchmarkUpdate(b *testing.B) {
	s := unheard(b, all)
	a, z := manySlice(0, 2), manySlice(0, 3)
	z.ResourceVersion = a.ResourceVersion // neither is late
	for _, bb := range []struct {
		name   string
		events [2]*discoveryv1.EndpointSlice
	}{{"the same", [2]*discoveryv1.EndpointSlice{a, a}}, {"another", [2]*discoveryv1.EndpointSlice{a, z}}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				do(b, s.slices.Update(bb.events[i%2]))
			}
		})
	}
}
