package export

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// The kinds of EndpointRef.Key. Those of endpoints end with '-', and what follows
// tells which.
const (
	keyTarget   = "uid-"  // the object behind an endpoint, by UID
	keyIP       = "ip-"   // an endpoint that nothing is known to be behind
	keyName     = "name-" // such an endpoint of an FQDN slice
	keyNode     = "node-" // a node that has endpoints
	keyBalancer = "lb-"
	keyExternal = "external-"
	keyHost     = "host-"
	keyVIP      = "vip"
)

// endpoint is what all slices together say of one endpoint of a Service.
type endpoint struct {
	key      string
	target   Target
	statedBy []Object // in order
	v4, v6   netip.Addr
	name     string
	node     string
	zone     string
	ports    map[string]uint16 // by name, 0 for one that is there without a number
	problem  string            // why it cannot be registered

	ready, serving, terminating bool
}

// merge makes one endpoint of what several slices say of it: its addresses of each
// family, and duplicates that are there while an endpoint moves from one slice to
// another. That an endpoint terminates is never taken back, so one slice that says
// so is enough. Of ready and serving the newer word is not known; the better one
// counts, because a slice that is about to be changed takes nobody out of service.
// What could not be told apart is left out, with the reason.
func merge(stated []EndpointSlice) (merged map[string]endpoint, out []Skipped) {
	merged = map[string]endpoint{}
	for _, slice := range stated {
		for _, e := range slice.Endpoints {
			got := read(slice, e)
			if got.key == "" {
				out = append(out, Skipped{Reason: got.problem})
				continue
			}
			if have, twice := merged[got.key]; twice {
				got = have.and(got)
			}
			merged[got.key] = got
		}
	}
	return merged, out
}

// read is one endpoint of a slice. It has no key if nothing could tell it apart from
// others.
func read(slice EndpointSlice, e Endpoint) endpoint {
	out := endpoint{
		target: e.Target, statedBy: []Object{slice.Object()}, node: e.Node, zone: e.Zone, ports: map[string]uint16{},
		ready: e.Ready == nil || *e.Ready, serving: e.Serving == nil || *e.Serving,
		terminating: e.Terminating != nil && *e.Terminating,
	}
	for _, port := range slice.Ports {
		out.ports[port.Name] = 0
		if port.Port != nil {
			out.ports[port.Name] = *port.Port
		}
	}
	first := ""
	if len(e.Addresses) > 0 {
		first = e.Addresses[0]
	}
	address, err := netip.ParseAddr(first)
	switch {
	case slice.AddressType == FQDN && isHostname(first):
		out.name, out.key = first, keyName+first
	case slice.AddressType == IPv4 && err == nil && address.Is4():
		out.v4, out.key = address, keyIP+first
	case slice.AddressType == IPv6 && err == nil && address.Is6() && address.Zone() == "":
		out.v6, out.key = address, keyIP+address.String()
	default:
		out.problem = fmt.Sprintf("%s gives an endpoint the address %q, which is no %s", slice.Object(), first, slice.AddressType)
	}
	if e.Target.UID != "" {
		out.key = keyTarget + e.Target.UID
	}
	return out
}

// and joins what is said of one endpoint in two places. The order does not matter.
func (e endpoint) and(other endpoint) endpoint {
	first, second := e, other
	if other.statedBy[0].compare(e.statedBy[0]) < 0 {
		first, second = other, e
	}
	out := first
	out.statedBy = slices.Compact(slices.SortedFunc(slices.Values(slices.Concat(e.statedBy, other.statedBy)), Object.compare))
	out.v4, out.v6 = lesser(first.v4, second.v4), lesser(first.v6, second.v6)
	out.name = smallest(first.name, second.name)
	out.node, out.zone = smallest(first.node, second.node), smallest(first.zone, second.zone)
	out.ports = map[string]uint16{}
	for _, ports := range []map[string]uint16{first.ports, second.ports} {
		for name, number := range ports {
			if have, ok := out.ports[name]; !ok || have == 0 || number != 0 && number < have {
				out.ports[name] = number
			}
		}
	}
	out.problem = smallest(first.problem, second.problem)
	if out.v4.IsValid() || out.v6.IsValid() || out.name != "" {
		out.problem = "" // one good address is enough
	}
	out.ready, out.serving = first.ready || second.ready, first.serving || second.serving
	out.terminating = first.terminating || second.terminating
	return out
}

// lesser is the one of two addresses that comes first, or the only valid one.
func lesser(a, b netip.Addr) netip.Addr {
	if !b.IsValid() || a.IsValid() && a.Less(b) {
		return a
	}
	return b
}

// smallest is the one of two texts that comes first, or the only one.
func smallest(a, b string) string {
	if a != "" && b != "" {
		return min(a, b)
	}
	return cmp.Or(a, b)
}

// addresses are those of the endpoint, the Service's first family first.
func (e endpoint) addresses(svc Service) []netip.Addr {
	both := []netip.Addr{e.v4, e.v6}
	if len(svc.ClusterIPs) > 0 && svc.ClusterIPs[0].Is6() {
		slices.Reverse(both)
	}
	return slices.DeleteFunc(both, func(a netip.Addr) bool { return !a.IsValid() })
}

// pod is the pod behind the endpoint. If there is none it has no more than the
// namespace.
func (e endpoint) pod(namespace string) service.PodRef {
	if e.target.Kind == "Pod" && e.target.UID != "" {
		return service.PodRef{Namespace: namespace, Name: e.target.Name, UID: e.target.UID}
	}
	return service.PodRef{Namespace: namespace}
}

// health is that of an instance, and why.
type health struct {
	is    service.Health
	notes string
	// leaves is true if it is about to end, or its node has: that goes before a
	// health that an annotation fixes, and nothing new is registered.
	leaves bool
	// unknown is true if nothing may be said: what would is missing.
	unknown bool
}

// healthOf is the health of one endpoint. nodeGone is what proves that its node is
// gone, and draining the health of what terminates and still serves.
func healthOf(e endpoint, nodeGone string, draining service.Health) health {
	switch {
	case nodeGone != "":
		return health{is: service.Critical, notes: "its node " + e.node + " is gone: " + nodeGone, leaves: true}
	case e.terminating && e.serving && draining == service.Warning:
		return health{is: service.Warning, notes: "endpoint is terminating, and still serving", leaves: true}
	case e.terminating:
		return health{is: service.Critical, notes: "endpoint is terminating", leaves: true}
	case e.ready:
		return health{is: service.Passing, notes: "endpoint is ready"}
	default:
		return health{is: service.Critical, notes: "endpoint is not ready"}
	}
}

// best is the health of an address behind which there are several endpoints: that
// of the best. missing is an object that may state more of them; then nothing is
// known unless one passes.
func best(of []health, missing string) health {
	rank := []service.Health{service.Critical, service.Warning, service.Passing}
	out, passing := health{is: service.Critical}, 0
	for _, h := range of {
		if slices.Index(rank, h.is) > slices.Index(rank, out.is) {
			out.is = h.is
		}
		if h.is == service.Passing {
			passing++
		}
	}
	switch {
	case out.is != service.Passing && missing != "":
		return health{is: service.Passing, notes: missing + " is missing, and may state endpoints that are ready", unknown: true}
	case out.is == service.Passing:
		out.notes = "an endpoint is ready" // how many would be written at each change
	case out.is == service.Warning:
		out.notes = "no endpoint is ready, one still serves"
	default:
		out.notes = "no endpoint is ready"
	}
	return out
}

// isHostname tells whether a name can be looked up and stand in an entry's ID. What
// reads as an IP is none: Consul would give it back as one.
func isHostname(name string) bool {
	const longest = 253
	_, err := netip.ParseAddr(name)
	return err != nil && name != "" && len(name) <= longest && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "-") &&
		!strings.Contains(name, "..") && !strings.ContainsFunc(name, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		return !letter && (r < '0' || r > '9') && r != '-' && r != '.'
	})
}
