package agentapi

import (
	"net/netip"
	"slices"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// The texts of every check that Fairway registers.
const (
	checkName  = "Kubernetes readiness"
	checkNotes = "Set by Fairway from the readiness of the pod's containers."
)

// typeTTL is how the agent names the type of a TTL check.
const typeTTL = "ttl"

// definition is the whole of an entry in the agent's words.
func (r *Registry) definition(in service.Instance) api.AgentServiceRegistration {
	address := ""
	if in.Address.IsValid() {
		address = in.Address.String()
	}
	return api.AgentServiceRegistration{
		ID:      in.ID,
		Name:    in.Name,
		Address: address,
		Port:    int(in.Port),
		Tags:    slices.Clone(in.Tags),
		Meta:    in.Meta,
		Check:   r.check(in.ID, in.Health),
	}
}

func (r *Registry) check(id string, status service.Health) *api.AgentServiceCheck {
	return &api.AgentServiceCheck{
		CheckID: id,
		Name:    checkName,
		Notes:   checkNotes,
		TTL:     r.ttl.String(),
		Status:  string(status),
	}
}

// entry reads what the agent holds. check is nil if there is none of the
// service's ID.
func (r *Registry) entry(svc *api.AgentService, check *api.AgentCheck) (registration.Entry, holding) {
	entry := registration.Entry{
		Instance: instance(svc),
		Cluster:  svc.Meta[service.MetaCluster],
		Node:     svc.Meta[service.MetaNode],
	}
	held := holding{definition: api.AgentServiceRegistration{
		ID:                svc.ID,
		Name:              svc.Service,
		Address:           svc.Address,
		Port:              svc.Port,
		Tags:              svc.Tags,
		Meta:              svc.Meta,
		TaggedAddresses:   svc.TaggedAddresses,
		EnableTagOverride: svc.EnableTagOverride,
		Weights:           &svc.Weights,
	}}
	if check != nil && check.ServiceID == svc.ID && check.Type == typeTTL {
		entry.HasCheck = true
		entry.Instance.Health = service.Health(check.Status)
		entry.Instance.Notes = check.Output
		held.status, held.output = service.Health(check.Status), check.Output
		held.definition.Check = r.check(svc.ID, held.status)
		held.definition.Check.Name, held.definition.Check.Notes = check.Name, check.Notes
	}
	return entry, held
}

// instance reads a service as an instance without health. An address or port
// that cannot be Fairway's reads as none, which differs from any that is
// wanted, and so is repaired.
func instance(svc *api.AgentService) service.Instance {
	in := service.Instance{
		ID:   svc.ID,
		Name: svc.Service,
		Pod: service.PodRef{
			Namespace: svc.Meta[service.MetaNamespace],
			Name:      svc.Meta[service.MetaPod],
			UID:       svc.Meta[service.MetaPodUID],
		},
		Tags: svc.Tags,
		Meta: svc.Meta,
	}
	if len(in.Tags) == 0 {
		in.Tags = nil
	}
	if address, err := netip.ParseAddr(svc.Address); err == nil {
		in.Address = address
	}
	if svc.Port > 0 && svc.Port <= 65535 {
		in.Port = uint16(svc.Port)
	}
	return in
}
