package export

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

// places are those at which the Service takes requests. reason says why there are
// none, if there is more to say than that. If it is undecided which there are,
// reason says why.
func (d *described) places() (places []place, reason string, undecided bool) {
	switch d.address {
	case annotation.Endpoints:
		return d.endpointPlaces()
	case annotation.Node:
		return d.nodePlaces()
	case annotation.Hostname:
		return d.hostPlaces()
	}
	// What is left are addresses of the Service itself.
	switch {
	case d.svc.Type == TypeExternalName:
		return nil, "a Service of type ExternalName has no address: remove " + annotation.Native + "service-address, or give hostname", true
	case d.address == annotation.VIP && d.svc.Headless:
		return nil, "a headless Service has no cluster IP: remove " + annotation.Native + "service-address, or give endpoints", true
	case d.address == annotation.LoadBalancer && d.svc.Type != TypeLoadBalancer:
		return nil, "a Service of type " + string(d.svc.Type) + " has no load balancer: correct " + annotation.Native + "service-address", true
	case d.address == annotation.VIP:
		if len(d.svc.ClusterIPs) == 0 {
			return nil, "it has no cluster IP yet", false
		}
		p := d.addressPlace(keyVIP, d.svc.ClusterIPs)
		return []place{p}, "", false
	case d.address == annotation.LoadBalancer && len(d.svc.Balancer) == 0:
		return nil, "its load balancer has no address yet", false
	case d.address == annotation.LoadBalancer:
		return d.addressPlaces(keyBalancer, d.svc.Balancer), "", false
	default:
		return d.addressPlaces(keyExternal, balancerAddresses(d.svc.ExternalIPs)), "", false
	}
}

func balancerAddresses(ips []netip.Addr) []BalancerAddress {
	var addresses []BalancerAddress
	for _, ip := range ips {
		addresses = append(addresses, BalancerAddress{IP: ip})
	}
	return addresses
}

// addressPlaces is one place for each address. Two that are one of each family are
// the same place.
func (d *described) addressPlaces(prefix string, addresses []BalancerAddress) []place {
	if len(addresses) == 2 && addresses[0].IP.IsValid() && addresses[1].IP.IsValid() && addresses[0].IP.Is4() != addresses[1].IP.Is4() {
		ips := []netip.Addr{addresses[0].IP, addresses[1].IP}
		slices.SortFunc(ips, netip.Addr.Compare) // IPv4 first, in whatever order they are listed
		return []place{d.addressPlace(prefix+ips[0].String(), ips)}
	}
	byKey := map[string]place{}
	for _, a := range addresses {
		if a.IP.IsValid() {
			p := d.addressPlace(prefix+a.IP.String(), []netip.Addr{a.IP})
			byKey[p.key] = p
		} else {
			p := d.hostPlace(prefix, host{name: a.Hostname, statedBy: d.svc.Object()})
			byKey[p.key] = p
		}
	}
	return slices.Collect(maps.Values(byKey))
}

// addressPlace is a place of the Service itself, with its own ports.
func (d *described) addressPlace(key string, ips []netip.Addr) place {
	p := place{key: key, health: d.allHealth(), shared: true}
	p.problem = d.unknown(p.health)
	p.pod.Namespace = d.svc.Namespace
	p.instance = d.instance(p, d.with(d.svc.Object()), "", "", d.declared.Port.Port, d.further(servicePort))
	p.instance.Address, p.instance.Tagged = ips[0], service.TaggedAddresses(ips)
	return p
}

// with is who states a place behind which all endpoints stand: what states its
// address, and what states them.
func (d *described) with(object Object) []Object { return append([]Object{object}, d.staters...) }

// unknown says why no instance can be made for the lack of a health.
func (d *described) unknown(h health) string {
	if h.unknown {
		return h.notes
	}
	return ""
}

// allHealth is the health of what stands for all endpoints of the Service.
func (d *described) allHealth() health {
	var all []health
	for _, e := range d.endpoints {
		all = append(all, healthOf(e, d.nodeGone(e.node), d.declared.Draining))
	}
	if len(d.staters) == 0 && d.missing == "" && !d.svc.HasSelector {
		return d.fixed(health{is: service.Passing, notes: "nothing tells its health: the Service has no endpoints"})
	}
	return d.fixed(best(all, d.missing))
}

// fixed is a health, unless an annotation fixes another.
func (d *described) fixed(h health) health {
	if is := d.declared.Fixed[""]; is != "" && !h.leaves {
		return health{is: is, notes: "fixed by the annotation service-health"}
	}
	return h
}

func servicePort(port service.Port) uint16 { return port.Port }

// further are the ports beside the main one, by name, as far as they have a number
// here.
func (d *described) further(number func(service.Port) uint16) map[string]uint16 {
	ports := map[string]uint16{}
	for _, port := range d.declared.Further {
		if n := number(port); n != 0 {
			ports[port.Name] = n
		}
	}
	return ports
}

// endpointPlaces is one place for each endpoint.
func (d *described) endpointPlaces() (places []place, reason string, undecided bool) {
	if d.svc.Type == TypeExternalName {
		return nil, "a Service of type ExternalName has no endpoints: remove " + annotation.Native + "service-address, or give hostname", true
	}
	places = make([]place, 0, len(d.endpoints))
	for _, e := range d.endpoints {
		p := place{key: e.key, pod: e.pod(d.svc.Namespace)}
		p.health = d.fixed(healthOf(e, d.nodeGone(e.node), d.declared.Draining))
		var port uint16
		port, p.problem, p.absent = d.endpointPort(e)
		p.problem = cmp.Or(e.problem, p.problem)
		further := d.further(func(port service.Port) uint16 { return e.ports[port.Name] })
		p.instance = d.instance(p, e.statedBy, e.node, e.zone, port, further)
		ips := e.addresses(d.svc)
		if len(ips) > 0 {
			p.instance.Address = ips[0]
		} else {
			p.instance.Hostname = e.name
		}
		p.instance.Tagged = service.TaggedAddresses(ips)
		places = append(places, p)
	}
	if len(places) == 0 {
		reason = "it has no endpoints"
	}
	return places, reason, false
}

// endpointPort is the main port at an endpoint. problem is set if it is there but
// not known, absent if the endpoint does not have it.
func (d *described) endpointPort(e endpoint) (port uint16, problem, absent string) {
	if d.declared.Literal || len(d.svc.Ports) == 0 {
		return d.declared.Port.Port, "", ""
	}
	name := d.declared.Port.Name
	number, ok := e.ports[name]
	switch {
	case !ok:
		return 0, "", fmt.Sprintf("%s does not give it port %q: is the Service's targetPort a port of the pod?", e.statedBy[0], name)
	case number == 0:
		return 0, fmt.Sprintf("%s leaves open which number port %q has: it must be stated there", e.statedBy[0], name), ""
	}
	return number, "", ""
}

// nodePlaces is one place for each node that has endpoints, however many.
func (d *described) nodePlaces() (places []place, reason string, undecided bool) {
	port := d.declared.Port.NodePort
	if d.declared.Literal {
		port = d.declared.Port.Port
	}
	if port == 0 {
		return nil, "it has no node port: make it a Service of type NodePort, or correct " + annotation.Native + "service-address", true
	}
	byNode := map[string]endpoint{} // what all on the node have in common
	for _, e := range d.endpoints {
		if e.node == "" {
			continue
		}
		if have, ok := byNode[e.node]; ok {
			e = have.and(e)
		}
		byNode[e.node] = e
	}
	for name, e := range byNode {
		p := place{key: keyNode + name, pod: service.PodRef{Namespace: d.svc.Namespace}, shared: true}
		p.health, _ = d.nodeHealth(name)
		if gone := d.nodeGone(name); gone != "" {
			p.gone = "node " + name + " is gone: " + gone
		}
		ips, problem := d.nodeAddresses(name)
		p.problem = cmp.Or(problem, d.unknown(p.health))
		further := d.further(func(port service.Port) uint16 { return port.NodePort })
		p.instance = d.instance(p, d.staters, name, e.zone, port, further)
		p.instance.Tagged = service.TaggedAddresses(ips)
		if len(ips) > 0 {
			p.instance.Address = ips[0]
		}
		places = append(places, p)
	}
	if len(places) == 0 {
		reason = "no node has an endpoint of it"
	}
	return places, reason, false
}

// nodeHealth is the health of a node of the Service: that of the best endpoint on
// it. It is not ok if there is none.
func (d *described) nodeHealth(name string) (h health, ok bool) {
	var all []health
	for _, e := range d.endpoints {
		if e.node == name {
			all = append(all, healthOf(e, "", d.declared.Draining))
		}
	}
	return d.fixed(best(all, d.missing)), len(all) > 0
}

// nodeAddresses are those of a node that the policy asks for, or why there are none.
func (d *described) nodeAddresses(name string) ([]netip.Addr, string) {
	node, ok := d.nodes[name]
	ips := node.External
	if d.policy.NodeAddress == Internal || d.policy.NodeAddress == ExternalFirst && len(ips) == 0 {
		ips = node.Internal
	}
	switch {
	case !ok || node.Missing:
		d.unheard = append(d.unheard, Object{KindNode, "", name})
		return nil, "nothing is known of node " + name
	case len(ips) == 0:
		return nil, fmt.Sprintf("node %s has no address of the kind that is asked for (%s)", name, d.policy.NodeAddress)
	}
	return ips, ""
}

// hostPlaces is one place for each host.
func (d *described) hostPlaces() (places []place, reason string, undecided bool) {
	if len(d.hostless) > 0 {
		d.unheard = append(d.unheard, d.hostless...)
		return nil, d.hostless[0].String() + " is missing, and may state a host of it", true
	}
	hosts := d.hosts
	if d.svc.Type == TypeExternalName {
		hosts = []host{{name: d.svc.ExternalName, statedBy: d.svc.Object()}}
	}
	for _, h := range hosts {
		places = append(places, d.hostPlace(keyHost, h))
	}
	if len(places) == 0 {
		reason = "no Ingress and no HTTPRoute leads all requests for a host to it"
	}
	return places, reason, false
}

func (d *described) hostPlace(prefix string, h host) place {
	p := place{key: prefix + h.name, pod: service.PodRef{Namespace: d.svc.Namespace}, health: d.allHealth(), shared: true}
	p.problem = d.unknown(p.health)
	if !isHostname(h.name) {
		p.key, p.problem = prefix, fmt.Sprintf("%q is no hostname", h.name)
	}
	port, further := d.declared.Port.Port, d.further(servicePort)
	if h.port != 0 && !d.declared.Literal {
		port, further = h.port, nil
	}
	p.instance = d.instance(p, d.with(h.statedBy), "", "", port, further)
	p.instance.Hostname, p.instance.Tagged = h.name, service.TaggedAddresses(nil)
	return p
}
