package consul

import (
	"net/netip"
	"slices"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/service"
)

// CheckName is the name of every check that Fairway registers.
const CheckName = "Kubernetes readiness"

// ServiceOf is an instance, without its health, in Consul's words.
func ServiceOf(in service.Instance) api.AgentService {
	svc := api.AgentService{
		ID:              in.ID,
		Service:         in.Name,
		Port:            int(in.Port),
		TaggedAddresses: make(map[string]api.ServiceAddress, len(in.Tagged)),
		Tags:            slices.Clone(in.Tags),
		Meta:            in.Meta,
		Weights:         api.AgentWeights{Passing: in.Weights.Passing, Warning: in.Weights.Warning},
	}
	svc.Address = in.Hostname
	if in.Address.IsValid() {
		svc.Address = in.Address.String()
	}
	for name, address := range in.Tagged {
		if address.IsValid() {
			svc.TaggedAddresses[name] = api.ServiceAddress{Address: address.String(), Port: int(in.Port)}
		}
	}
	return svc
}

// InstanceOf reads a service as an instance without health and TTL. An address
// that is none is taken for a hostname. A port, or an address by family, that
// cannot be Fairway's reads as none, which differs from any that is wanted, and so
// is repaired.
func InstanceOf(svc *api.AgentService) service.Instance {
	in := service.Instance{
		ID:   svc.ID,
		Name: svc.Service,
		Pod: service.PodRef{
			Namespace: svc.Meta[service.MetaNamespace],
			Name:      svc.Meta[service.MetaPod],
			UID:       svc.Meta[service.MetaPodUID],
		},
		Tagged:  make(map[string]netip.Addr, len(svc.TaggedAddresses)),
		Tags:    svc.Tags,
		Meta:    svc.Meta,
		Weights: service.Weights{Passing: svc.Weights.Passing, Warning: svc.Weights.Warning},
	}
	if len(in.Tags) == 0 {
		in.Tags = nil
	}
	if key := svc.Meta[service.MetaEndpoint]; key != "" {
		in.Endpoint = service.EndpointRef{
			Namespace: svc.Meta[service.MetaNamespace], Service: svc.Meta[service.MetaService], Key: key,
		}
	}
	if address, err := netip.ParseAddr(svc.Address); err == nil {
		in.Address = address
	} else {
		in.Hostname = svc.Address
	}
	if svc.Port > 0 && svc.Port <= 65535 {
		in.Port = uint16(svc.Port)
	}
	for name, tagged := range svc.TaggedAddresses {
		in.Tagged[name] = netip.Addr{}
		if address, err := netip.ParseAddr(tagged.Address); err == nil && tagged.Port == svc.Port {
			in.Tagged[name] = address
		}
	}
	return in
}
