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
		if !isHostname(h.name) { // none, or a wildcard
			return
		}
		// The same host in two places: HTTPS if there is any, and then in a fixed order.
		have, ok := byName[h.name]
		if !ok || cmp.Or(-cmp.Compare(rank(h.port), rank(have.port)), cmp.Compare(h.port, have.port),
			h.statedBy.compare(have.statedBy)) < 0 {
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

// rank puts HTTPS first.
func rank(port uint16) int {
	if port == portHTTPS {
		return 1
	}
	return 0
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
			port := uint16(portHTTP)
			if slices.ContainsFunc(i.TLS, func(pattern string) bool { return covers(pattern, rule.Host) }) {
				port = portHTTPS
			}
			hosts = append(hosts, host{rule.Host, port, i.Object()})
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
		at := slices.IndexFunc(c.Gateways, func(g Gateway) bool { return g.Namespace == parent.Namespace && g.Name == parent.Gateway })
		switch object := (Object{KindGateway, parent.Namespace, parent.Gateway}); {
		case !parent.Accepted:
			continue
		case at < 0 && c.Gone[object] == "":
			missing = append(missing, object)
			continue
		case at < 0:
			continue
		}
		gateway := c.Gateways[at]
		if gateway.Missing {
			missing = append(missing, gateway.Object())
		}
		for _, l := range gateway.Listeners {
			if parent.Section != "" && parent.Section != l.Name || l.Protocol != "HTTP" && l.Protocol != "HTTPS" {
				continue
			}
			if len(r.Hostnames) == 0 {
				hosts = append(hosts, host{l.Hostname, l.Port, r.Object()})
			}
			for _, name := range r.Hostnames {
				if l.Hostname == "" || covers(l.Hostname, name) {
					hosts = append(hosts, host{name, l.Port, r.Object()})
				}
			}
		}
	}
	return hosts, missing
}

// covers tells whether a host is that of a pattern, which may begin with "*.".
func covers(pattern, name string) bool {
	suffix, wild := strings.CutPrefix(pattern, "*")
	if !wild {
		return pattern == name
	}
	return strings.HasSuffix(name, suffix) && len(name) > len(suffix)
}
