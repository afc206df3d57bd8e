package discovery

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

// portMeta begins the meta keys that hold an instance's further ports.
const portMeta = "port-"

// instanceOf reads an instance as the health endpoint gives it to clients. What is
// no port reads as none.
func instanceOf(entry *api.ServiceEntry) consulimport.Instance {
	svc := entry.Service
	in := consulimport.Instance{
		ID: svc.ID, Node: entry.Node.Node, Health: healthOf(entry.Checks), Port: port(svc.Port),
		Tagged: map[string]netip.AddrPort{}, Ports: map[string]uint16{}, Tags: svc.Tags,
		Cluster: svc.Meta[service.MetaCluster], Zone: zoneOf(entry),
		Weights: service.Weights{Passing: svc.Weights.Passing, Warning: svc.Weights.Warning},
	}
	at := cmp.Or(svc.Address, entry.Node.Address)
	if address, err := netip.ParseAddr(at); err == nil {
		in.Address = address
	} else {
		in.Host = at
	}
	for name, tagged := range svc.TaggedAddresses {
		if address, err := netip.ParseAddr(tagged.Address); err == nil {
			in.Tagged[name] = netip.AddrPortFrom(address, port(tagged.Port))
		}
	}
	for key, value := range svc.Meta {
		name, is := strings.CutPrefix(key, portMeta)
		if number, err := strconv.Atoi(value); is && err == nil && port(number) != 0 {
			in.Ports[name] = port(number)
		}
	}
	for _, p := range svc.Ports {
		if p.Default && in.Port == 0 {
			in.Port = port(p.Port)
		}
		in.Ports[p.Name] = port(p.Port)
	}
	return in
}

// healthOf is that of all checks. What is in maintenance, or in a state that we do
// not know, is not given to clients.
func healthOf(checks api.HealthChecks) service.Health {
	switch health := service.Health(checks.AggregatedStatus()); health {
	case service.Passing, service.Warning:
		return health
	}
	return service.Critical
}

// zoneOf is the instance's zone, or its node's.
func zoneOf(entry *api.ServiceEntry) string {
	zone := entry.Service.Meta[service.MetaZone]
	for _, locality := range []*api.Locality{entry.Node.Locality, entry.Service.Locality} {
		if locality != nil && locality.Zone != "" {
			zone = locality.Zone
		}
	}
	return zone
}

func port(n int) uint16 {
	if n < 1 || n > 65535 {
		return 0
	}
	return uint16(n)
}
