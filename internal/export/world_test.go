package export_test

import (
	"fmt"
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// drawCluster makes a cluster as it truly is: Services of all types, whose pods
// stand in one slice or in two that agree.
func drawCluster(t *rapid.T) export.Cluster {
	c := export.Cluster{Nodes: nodes()}
	for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "Services")] {
		svc := drawService(t, name)
		c.Services = append(c.Services, svc)
		c.Slices = append(c.Slices, drawSlices(t, name)...)
		if rapid.Bool().Draw(t, "Ingress") {
			c.Ingresses = append(c.Ingresses, export.Ingress{Namespace: "shop", Name: name, Rules: []export.IngressRule{
				{Host: name + ".example.com", Paths: []export.IngressPath{{Path: "/", Service: name}}}}})
		}
	}
	return c
}

func drawService(t *rapid.T, name string) export.Service {
	svc := web(func(svc *export.Service) { svc.Name, svc.UID = name, name+"-1" })
	svc.Type = rapid.SampledFrom([]export.ServiceType{export.TypeClusterIP, export.TypeClusterIP, export.TypeNodePort, export.TypeLoadBalancer}).Draw(t, "type")
	svc.Headless = svc.Type == export.TypeClusterIP && rapid.Bool().Draw(t, "headless")
	if svc.Type == export.TypeLoadBalancer {
		svc.Balancer = rapid.SliceOfNDistinct(rapid.SampledFrom([]export.BalancerAddress{
			{IP: addr("203.0.113.9")}, {IP: addr("fd00:2::9")}, {Hostname: "lb.example.com"}}), 0, 3,
			rapid.ID[export.BalancerAddress]).Draw(t, "balancer")
	}
	if rapid.IntRange(0, 4).Draw(t, "external") == 0 {
		svc.ExternalIPs = []netip.Addr{addr("203.0.113.7")}
	}
	svc.Annotations = drawAnnotations(t)
	return svc
}

func drawAnnotations(t *rapid.T) map[string]string {
	return rapid.MapOfN(rapid.SampledFrom([]string{
		annotation.Native + "service-name", annotation.Native + "service-address", annotation.Native + "service-tags",
		annotation.Native + "service-health", annotation.Native + "service-draining", annotation.Native + "service-sync",
		annotation.Native + "service-tag", annotation.Consul + "service-weight",
	}), rapid.SampledFrom([]string{"other", "vip", "endpoints", "node", "hostname", "passing", "warning", "true", "false", "a,,b", "10"}), 0, 2).Draw(t, "annotations")
}

// drawSlices makes up to three slices; the last may hold the other family.
func drawSlices(t *rapid.T, name string) []export.EndpointSlice {
	found := make([]export.EndpointSlice, rapid.IntRange(0, 3).Draw(t, "slices"))
	for i := range found {
		found[i] = slice(fmt.Sprintf("%s-%d", name, i))
		found[i].Service = name
	}
	if len(found) == 0 {
		return nil
	}
	last := len(found) - 1
	if rapid.Bool().Draw(t, "IPv6") {
		found[last].AddressType = export.IPv6
	}
	for n := range rapid.IntRange(0, 4).Draw(t, "pods") {
		e := pod(n+1, func(e *export.Endpoint) { e.Target.UID = name + e.Target.UID })
		drawState(t, &e)
		for _, at := range rapid.SliceOfNDistinct(rapid.IntRange(0, last), 1, 2, rapid.ID[int]).Draw(t, "in") {
			copied := e
			if found[at].AddressType == export.IPv6 {
				copied.Addresses = []string{fmt.Sprintf("fd00::%d", n+1)}
			}
			found[at].Endpoints = append(found[at].Endpoints, copied)
		}
	}
	return found
}

func drawState(t *rapid.T, e *export.Endpoint) {
	switch rapid.IntRange(0, 5).Draw(t, "state") {
	case 0:
		notReady(e)
	case 1:
		terminating(e)
	}
}

// drawLater is the cluster some time later: pods have changed, those and objects
// have gone, and annotations were edited. Nothing has moved, and nothing is new.
func drawLater(t *rapid.T, c export.Cluster) export.Cluster {
	later := export.Cluster{}
	leaves := func(what string) bool { return rapid.IntRange(0, 5).Draw(t, what+" leaves") == 0 }
	for _, svc := range c.Services {
		switch {
		case leaves(svc.Name):
			continue
		case rapid.IntRange(0, 3).Draw(t, "edit") == 0:
			svc.Annotations = drawAnnotations(t)
		case rapid.IntRange(0, 5).Draw(t, "made again") == 0:
			svc.UID += "-2"
		}
		later.Services = append(later.Services, svc)
	}
	states := map[string]export.Endpoint{} // by UID, so that all slices agree
	for _, slice := range c.Slices {
		if leaves(slice.Name) {
			continue
		}
		var endpoints []export.Endpoint
		for _, e := range slice.Endpoints {
			now, seen := states[e.Target.UID]
			if !seen {
				now = e
				now.Ready, now.Serving, now.Terminating = new(true), new(true), e.Terminating
				drawState(t, &now)
				if leaves(e.Target.UID) {
					now.Target.UID = ""
				}
				states[e.Target.UID] = now
			}
			if now.Target.UID != "" {
				now.Addresses = e.Addresses
				endpoints = append(endpoints, now)
			}
		}
		slice.Endpoints = endpoints
		later.Slices = append(later.Slices, slice)
	}
	for _, node := range c.Nodes {
		if !leaves(node.Name) {
			later.Nodes = append(later.Nodes, node)
		}
	}
	for _, ingress := range c.Ingresses {
		if !leaves(ingress.Name + "'s Ingress") {
			later.Ingresses = append(later.Ingresses, ingress)
		}
	}
	return later
}

// identified is what all objects have.
type identified interface{ Object() export.Object }

// drawSeen is what is seen of objects that are there now, given those that were
// before: any may be hidden by a list, and is then missing, or was never heard of.
func drawSeen[T identified](t *rapid.T, was, is []T, miss func(T) T) []T {
	var seen []T
	for _, object := range is {
		switch rapid.IntRange(0, 3).Draw(t, "see "+object.Object().String()) {
		case 0:
		case 1:
			i := slices.IndexFunc(was, func(w T) bool { return w.Object() == object.Object() })
			seen = append(seen, miss(was[i])) // as it was
		default:
			seen = append(seen, object)
		}
	}
	return seen
}

// drawView is what is seen of a cluster through lists that lack some of it, with
// proof of some of what has gone.
func drawView(t *rapid.T, was, is export.Cluster) export.Cluster {
	view := export.Cluster{
		Services:  drawSeen(t, was.Services, is.Services, func(s export.Service) export.Service { s.Missing = true; return s }),
		Slices:    drawSeen(t, was.Slices, is.Slices, func(s export.EndpointSlice) export.EndpointSlice { s.Missing = true; return s }),
		Nodes:     drawSeen(t, was.Nodes, is.Nodes, func(n export.Node) export.Node { n.Missing = true; return n }),
		Ingresses: drawSeen(t, was.Ingresses, is.Ingresses, func(i export.Ingress) export.Ingress { i.Missing = true; return i }),
		Gone:      proofs(was, is),
	}
	for object := range view.Gone {
		if rapid.Bool().Draw(t, "no proof for "+object.String()) {
			delete(view.Gone, object)
		}
	}
	return view
}

// proofs are those of everything that is gone.
func proofs(was, is export.Cluster) map[export.Object]string {
	gone := map[export.Object]string{}
	for _, o := range objects(was) {
		gone[o] = "deletion seen"
	}
	for _, o := range objects(is) {
		delete(gone, o)
	}
	return gone
}

func objects(c export.Cluster) []export.Object {
	var all []export.Object
	for _, o := range c.Services {
		all = append(all, o.Object())
	}
	for _, o := range c.Slices {
		all = append(all, o.Object())
	}
	for _, o := range c.Nodes {
		all = append(all, o.Object())
	}
	for _, o := range c.Ingresses {
		all = append(all, o.Object())
	}
	return all
}

func drawPolicy(t *rapid.T) export.Policy {
	return policy(func(p *export.Policy) {
		p.ClusterIP = rapid.SampledFrom([]annotation.Address{annotation.Endpoints, annotation.VIP, export.Off}).Draw(t, "ClusterIP")
		p.LoadBalancer = rapid.SampledFrom([]annotation.Address{annotation.LoadBalancer, annotation.Endpoints}).Draw(t, "LoadBalancer")
		p.Ingress = rapid.Bool().Draw(t, "Ingress counts")
	})
}

// drift changes a registry as people, other clusters and other versions do.
func drift(t *rapid.T, r registry) {
	for id, entry := range r {
		switch rapid.IntRange(0, 7).Draw(t, "drift of "+id) {
		case 0:
			entry.Instance.Port++
		case 1:
			entry.HasCheck, entry.Instance.Health = false, ""
		case 2:
			entry.Cluster = "c2"
		case 3:
			entry.Instance.Health = service.Critical
		}
		r[id] = entry
	}
}

// wanted are the instances that a cluster truly asks for, by ID.
func wanted(c export.Cluster, p export.Policy) map[string]service.Instance {
	all := map[string]service.Instance{}
	for _, svc := range c.Services {
		for _, in := range export.Instances(svc, c, p).Instances {
			all[in.ID] = in
		}
	}
	return all
}

func inService(entry registration.Entry, exists bool) bool { return exists && entry.InService() }
