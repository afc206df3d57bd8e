package export_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// epoch is when all begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// policy publishes all Services of all namespaces.
func policy(change ...func(*export.Policy)) export.Policy {
	p := export.DefaultPolicy()
	p.Cluster, p.Sync = "c1", true
	for _, c := range change {
		c(&p)
	}
	return p
}

// web is a Service of two ports in front of pods.
func web(change ...func(*export.Service)) export.Service {
	svc := export.Service{
		Namespace: "shop", Name: "web", UID: "s1", Type: export.TypeClusterIP, HasSelector: true,
		ClusterIPs: []netip.Addr{addr("198.19.0.9")},
		Ports: []service.Port{
			{Name: "http", Port: 80, NodePort: 30080, Protocol: "TCP"},
			{Name: "metrics", Port: 9100, NodePort: 30100, Protocol: "TCP"},
		},
	}
	for _, c := range change {
		c(&svc)
	}
	return svc
}

func annotated(pairs ...string) func(*export.Service) {
	return func(svc *export.Service) {
		svc.Annotations = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			svc.Annotations[pairs[i]] = pairs[i+1]
		}
	}
}

// slice is an EndpointSlice of web with the endpoints given, for its two ports.
func slice(name string, endpoints ...export.Endpoint) export.EndpointSlice {
	return export.EndpointSlice{
		Namespace: "shop", Name: name, Service: "web", AddressType: export.IPv4, Endpoints: endpoints,
		Ports: []export.EndpointPort{{Name: "http", Port: new(uint16(8080))}, {Name: "metrics", Port: new(uint16(9100))}},
	}
}

// pod is the endpoint of a ready pod, number n, on node n1 or n2.
func pod(n int, change ...func(*export.Endpoint)) export.Endpoint {
	e := export.Endpoint{
		Addresses: []string{fmt.Sprintf("198.18.64.%d", n)},
		Ready:     new(true), Serving: new(true), Terminating: new(false),
		Target: export.Target{Kind: "Pod", Name: fmt.Sprintf("web-%d", n), UID: fmt.Sprintf("p%d", n)},
		Node:   fmt.Sprintf("n%d", (n-1)%2+1), Zone: "z1",
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

func notReady(e *export.Endpoint) { e.Ready, e.Serving = new(false), new(false) }

func terminating(e *export.Endpoint) { e.Ready, e.Terminating = new(false), new(true) }

// nodes are n1 and n2.
func nodes() []export.Node {
	return []export.Node{
		{Name: "n1", Internal: []netip.Addr{addr("198.18.0.1")}, External: []netip.Addr{addr("203.0.113.1")}},
		{Name: "n2", Internal: []netip.Addr{addr("198.18.0.2")}},
	}
}

// cluster has one Service and its slices.
func cluster(svc export.Service, slices ...export.EndpointSlice) export.Cluster {
	return export.Cluster{Services: []export.Service{svc}, Slices: slices, Nodes: nodes()}
}

// registry is what Consul holds, by ID. It behaves as Consul does, as far as a
// plan can tell.
type registry map[string]registration.Entry

// pass decides once and carries the plan out, with all that no plan may contain as
// an error: a write to what is foreign (I5), a removal of what is not critical (I4).
func (r registry) pass(in export.Input) (export.Plan, error) {
	in.Entries = r.entries()
	plan := export.Decide(in)
	for _, op := range plan.Ops {
		id := op.Instance.ID
		before, existed := r[id]
		switch {
		case op.Reason == "":
			return plan, fmt.Errorf("%s of %s has no reason", op.Kind, id)
		case !slices.Contains([]service.Health{service.Passing, service.Warning, service.Critical}, op.Instance.Health):
			return plan, fmt.Errorf("%s of %s with health %q", op.Kind, id, op.Instance.Health)
		case existed && !own(before):
			return plan, fmt.Errorf("%s of foreign %s", op.Kind, id)
		case op.Kind != registration.Register && !existed:
			return plan, fmt.Errorf("%s of %s, which is not there", op.Kind, id)
		case op.Kind == registration.Deregister && (!before.HasCheck || before.Instance.Health != service.Critical):
			return plan, fmt.Errorf("%s of %s, which is %s", op.Kind, id, before.Instance.Health)
		}
		if after, remains := op.After(before, existed); remains {
			r[id] = after
		} else {
			delete(r, id)
		}
	}
	return plan, nil
}

// entries are what the registry holds, by shard.
func (r registry) entries() map[int][]registration.Entry {
	entries := map[int][]registration.Entry{}
	for shard := range export.Shards {
		entries[shard] = nil
	}
	for _, id := range slices.Sorted(maps.Keys(r)) {
		ref := r[id].Instance.Endpoint
		shard := export.ShardOf(ref.Namespace, ref.Service)
		entries[shard] = append(entries[shard], r[id])
	}
	return entries
}

func own(entry registration.Entry) bool { return entry.Cluster == "c1" && entry.Node == "" }

// input is a cluster with a breaker that lets all pass.
func input(c export.Cluster, p export.Policy) export.Input {
	return export.Input{Policy: p, Cluster: c, Evidence: export.Evidence{Now: epoch, MaxShare: 1}}
}

// settled is a registry that holds what the cluster asks for.
func settled(c export.Cluster, p export.Policy) registry {
	r := registry{}
	for range 4 {
		if _, err := r.pass(input(c, p)); err != nil {
			panic(err)
		}
	}
	return r
}

// serving lists what clients may be given: name, address and port of each entry in
// service, and its health if that is not passing.
func (r registry) serving() []string {
	var out []string
	for _, entry := range r {
		if entry.InService() {
			out = append(out, line(entry.Instance))
		}
	}
	slices.Sort(out)
	return out
}

func line(in service.Instance) string {
	at := in.Hostname
	if in.Address.IsValid() {
		at = in.Address.String()
	}
	text := fmt.Sprintf("%s %s %d", in.Name, at, in.Port)
	if in.Health != service.Passing {
		text += " " + string(in.Health)
	}
	return text
}

// lines shows instances, each with its health, if it is not passing.
func lines(instances []service.Instance) []string {
	var out []string
	for _, in := range instances {
		out = append(out, line(in))
	}
	slices.Sort(out)
	return out
}

// ops shows a plan as text.
func ops(plan export.Plan) []string {
	var out []string
	for _, op := range plan.Ops {
		out = append(out, strings.Join([]string{string(op.Kind), line(op.Instance), op.Reason}, " | "))
	}
	for _, held := range plan.Held {
		out = append(out, "held | "+line(held.Entry.Instance)+" | "+held.Reason)
	}
	for _, kept := range plan.Replaced {
		out = append(out, "kept | "+line(kept.Entry.Instance))
	}
	for _, frozen := range plan.Frozen {
		out = append(out, "frozen | "+line(frozen.Op.Instance)+" | "+frozen.Reason)
	}
	return out
}
