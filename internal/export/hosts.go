package export

import (
	"cmp"
	"slices"
	"strings"
)

// host is a name under which clients outside reach a Service.
type host struct {
	name     string
	port     uint16 // 0 if the port is the Service's
	tls      bool
	statedBy Object
}

const (
	portHTTP  = 80
	portHTTPS = 443
)

// hostsOf are the hosts whose requests, all of them, an Ingress or a route leads to
// a Service, by name. missing are objects that may state more.
func (c Cluster) hostsOf(svc Service, ingress, gateway bool) (hosts []host, missing []Object) {
	byName := map[string]host{}
	note := func(h host) {
		// Of one host in two places that with TLS counts, and else the same one always.
		if have, ok := byName[h.name]; isHostname(h.name) && (!ok || h.before(have)) {
			byName[h.name] = h
		}
	}
	if ingress {
		for _, i := range c.Ingresses {
			for _, h := range i.hostsOf(svc) {
				note(h)
				if i.Missing {
					missing = append(missing, i.Object())
				}
			}
		}
	}
	if gateway {
		for _, r := range c.Routes {
			if r.leadsTo(svc) {
				found, gone := c.routeHosts(r)
				missing = append(missing, gone...)
				for _, h := range found {
					note(h)
				}
			}
		}
	}
	for _, h := range byName {
		hosts = append(hosts, h)
	}
	slices.SortFunc(hosts, func(a, b host) int { return cmp.Compare(a.name, b.name) })
	slices.SortFunc(missing, Object.compare)
	return hosts, slices.Compact(missing)
}

func (h host) before(other host) bool {
	if h.tls != other.tls {
		return h.tls
	}
	return cmp.Or(cmp.Compare(h.port, other.port), h.statedBy.compare(other.statedBy)) < 0
}

// hostsOf are the hosts that an Ingress leads to the Service as a whole.
func (i Ingress) hostsOf(svc Service) []host {
	var hosts []host
	if i.Namespace != svc.Namespace {
		return nil
	}
	for _, rule := range i.Rules {
		for _, path := range rule.Paths {
			if path.Service != svc.Name || path.Path != "" && path.Path != "/" {
				continue
			}
			h := host{name: rule.Host, port: portHTTP, statedBy: i.Object()}
			if slices.ContainsFunc(i.TLS, func(pattern string) bool { return covers(pattern, rule.Host) }) {
				h.port, h.tls = portHTTPS, true
			}
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// leadsTo tells whether the route leads all paths to the Service.
func (r HTTPRoute) leadsTo(svc Service) bool {
	return slices.ContainsFunc(r.Rules, func(rule RouteRule) bool {
		return (len(rule.Paths) == 0 || slices.Contains(rule.Paths, "/")) &&
			slices.Contains(rule.Backends, Backend{svc.Namespace, svc.Name})
	})
}

// routeHosts are the hosts under which a route takes requests: its own, as far as
// its Gateways' listeners let them pass, or those of the listeners.
func (c Cluster) routeHosts(r HTTPRoute) (hosts []host, missing []Object) {
	if r.Missing {
		missing = append(missing, r.Object())
	}
	for _, parent := range r.Parents {
		if !parent.Accepted {
			continue
		}
		object := Object{KindGateway, parent.Namespace, parent.Gateway}
		at := slices.IndexFunc(c.Gateways, func(g Gateway) bool { return g.Object() == object })
		if (at < 0 || c.Gateways[at].Missing) && c.Gone[object] == "" {
			missing = append(missing, object)
		}
		if at >= 0 {
			hosts = append(hosts, r.hostsAt(parent, c.Gateways[at])...)
		}
	}
	return hosts, missing
}

// hostsAt are the hosts of a route that the listeners of a Gateway let pass.
func (r HTTPRoute) hostsAt(parent ParentRef, gateway Gateway) []host {
	var hosts []host
	for _, l := range gateway.Listeners {
		if parent.Section != "" && parent.Section != l.Name || l.Protocol != "HTTP" && l.Protocol != "HTTPS" {
			continue
		}
		h := host{name: l.Hostname, port: l.Port, tls: l.Protocol == "HTTPS", statedBy: r.Object()}
		if len(r.Hostnames) == 0 {
			hosts = append(hosts, h)
		}
		for _, name := range r.Hostnames {
			if h.name = name; l.Hostname == "" || covers(l.Hostname, name) {
				hosts = append(hosts, h)
			}
		}
	}
	return hosts
}

// covers tells whether a host is that of a pattern, which may begin with "*.".
func covers(pattern, name string) bool {
	suffix, wild := strings.CutPrefix(pattern, "*")
	if !wild {
		return pattern == name
	}
	return strings.HasSuffix(name, suffix) && len(name) > len(suffix)
}
