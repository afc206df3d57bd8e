package catalog

import (
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/service"
)

var n1 = identity{cluster: "east", node: "n1", name: NodeName("east", "n1"), address: netip.MustParseAddr("198.18.0.21")}

func TestNodeName(t *testing.T) {
	for want, names := range map[string][2]string{
		"fairway-east-n1-46789a06":                                        {"east", "n1"},
		"fairway-prod-eu-1-ip-10-0-1-2-eu-central-1-compute-int-56205f1b": {"Prod_EU.1", "ip-10-0-1-2.eu-central-1.compute.internal"},
	} {
		if got := NodeName(names[0], names[1]); got != want {
			t.Errorf("%v: %s, want %s", names, got, want)
		}
	}
	legal := regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])$`)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,250}`)
		cluster, node, other := name.Draw(t, "cluster"), name.Draw(t, "node"), name.Draw(t, "other")
		got := NodeName(cluster, node)
		if !legal.MatchString(got) || got != NodeName(cluster, node) {
			t.Errorf("%q is no label of DNS, or not always the same", got)
		}
		if other != node && NodeName(cluster, other) == got {
			t.Errorf("%q and %q have the same name", node, other)
		}
	})
	// What only looks the same does not collide.
	if NodeName("a-b", "c") == NodeName("a", "b-c") || NodeName("a", "b.c") == NodeName("a", "b-c") {
		t.Error("different nodes have the same name")
	}
}

// Every field of an Instance that is compared survives the way to Consul and
// back. One that is added and not converted fails here.
func TestInstanceSurvivesTheWayThere(t *testing.T) {
	pod := service.PodRef{Namespace: "shop", Name: "web-1", UID: "uid-1"}
	in := service.Instance{
		ID: service.InstanceID("web", pod), Name: "web", Pod: pod,
		Address: netip.MustParseAddr("198.18.64.7"), Port: 8080, Tags: []string{"v1"},
		Meta:    map[string]string{service.MetaNamespace: "shop", service.MetaPod: "web-1", service.MetaPodUID: "uid-1", "a": "b"},
		Tagged:  map[string]netip.Addr{service.TaggedLANIPv4: netip.MustParseAddr("198.18.64.7")},
		Weights: service.Weights{Passing: 2, Warning: 1},
		Health:  service.Warning, Notes: "why",
	}
	host := in // of a Service, and with a name for its address
	host.Endpoint = service.EndpointRef{Namespace: "shop", Service: "web", Key: "uid-uid-1"}
	host.ID, host.Meta = host.Endpoint.InstanceID("web"), maps.Clone(in.Meta)
	host.Meta[service.MetaService], host.Meta[service.MetaEndpoint] = "web", host.Endpoint.Key
	host.Address, host.Hostname = netip.Addr{}, "lb.example.com"

	for i := range reflect.TypeFor[service.Instance]().NumField() {
		name := reflect.TypeFor[service.Instance]().Field(i).Name
		if reflect.ValueOf(in).Field(i).IsZero() && reflect.ValueOf(host).Field(i).IsZero() && name != "CheckTTL" { // only client agents have it
			t.Errorf("field %s is not set in this test", name)
		}
	}
	for _, in := range []service.Instance{in, host} {
		svc, check := consul.ServiceOf(in), n1.check(in)
		p := picture{read: true, entries: map[string]holding{in.ID: {service: &svc, check: &check}}}
		if diff := cmp.Diff(in, p.list(false)[0].Instance, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("read back (-want +got):\n%s", diff)
		}
	}
}
