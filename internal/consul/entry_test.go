package consul_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/service"
)

// What a Service's instance has is read back as it was written, so that it is not
// written again (I6).
func TestI6InstancesOfServicesAreReadBack(t *testing.T) {
	ref := service.EndpointRef{Namespace: "shop", Service: "web", Key: "uid-p1"}
	v4 := netip.MustParseAddr("198.18.64.1")
	full := service.Instance{
		ID: ref.InstanceID("web"), Name: "web", Pod: service.PodRef{Namespace: "shop", Name: "web-1", UID: "p1"}, Endpoint: ref,
		Address: v4, Port: 8080, Tagged: service.TaggedAddresses([]netip.Addr{v4}), Tags: []string{"a"},
		Meta: map[string]string{
			service.MetaNamespace: "shop", service.MetaService: "web", service.MetaEndpoint: "uid-p1",
			service.MetaPod: "web-1", service.MetaPodUID: "p1",
		},
		Weights: service.Weights{Passing: 1, Warning: 1},
	}
	host := full
	host.Address, host.Hostname, host.Tagged = netip.Addr{}, "lb.example.com", map[string]netip.Addr{}
	pod := full
	pod.Endpoint = service.EndpointRef{}
	pod.Meta = map[string]string{service.MetaNamespace: "shop", service.MetaPod: "web-1", service.MetaPodUID: "p1"}
	for name, want := range map[string]service.Instance{"address": full, "hostname": host, "a pod's own": pod} {
		t.Run(name, func(t *testing.T) {
			written := consul.ServiceOf(want)
			if diff := cmp.Diff(want, consul.InstanceOf(&written), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("-written +read:\n%s", diff)
			}
		})
	}
}
