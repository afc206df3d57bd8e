package agentapi

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// checkName is the name of every check that Fairway registers.
const checkName = "Kubernetes readiness"

// The notes of a check hold its TTL, which the agent does not tell otherwise.
const (
	notesBefore = "Set by Fairway from the readiness of the pod's containers; critical if not renewed for "
	notesAfter  = "."
)

// typeTTL is how the agent names the type of a TTL check.
const typeTTL = "ttl"

func checkNotes(ttl time.Duration) string { return notesBefore + ttl.String() + notesAfter }

// notedTTL reads the TTL from a check's notes. It is zero if they are not as
// checkNotes writes them.
func notedTTL(notes string) time.Duration {
	text, _ := strings.CutPrefix(notes, notesBefore)
	ttl, err := time.ParseDuration(strings.TrimSuffix(text, notesAfter))
	if err != nil || ttl <= 0 || checkNotes(ttl) != notes {
		return 0
	}
	return ttl
}

// definition is the whole of an entry in the agent's words.
func (r *Registry) definition(in service.Instance) api.AgentServiceRegistration {
	address := ""
	if in.Address.IsValid() {
		address = in.Address.String()
	}
	tagged := make(map[string]api.ServiceAddress, len(in.Tagged))
	for name, address := range in.Tagged {
		if address.IsValid() {
			tagged[name] = api.ServiceAddress{Address: address.String(), Port: int(in.Port)}
		}
	}
	return api.AgentServiceRegistration{
		ID:              in.ID,
		Name:            in.Name,
		Address:         address,
		Port:            int(in.Port),
		TaggedAddresses: tagged,
		Tags:            slices.Clone(in.Tags),
		Meta:            in.Meta,
		Weights:         &api.AgentWeights{Passing: in.Weights.Passing, Warning: in.Weights.Warning},
		Check:           r.check(in.ID, in.Health, in.CheckTTL),
	}
}

// check is the check of an entry. Without a TTL of its own it has the
// Registry's.
func (r *Registry) check(id string, status service.Health, ttl time.Duration) *api.AgentServiceCheck {
	ttl = cmp.Or(ttl, r.ttl)
	return &api.AgentServiceCheck{
		CheckID: id,
		Name:    checkName,
		Notes:   checkNotes(ttl),
		TTL:     ttl.String(),
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
		entry.Instance.CheckTTL = notedTTL(check.Notes)
		held.definition.Check = r.check(svc.ID, held.status, entry.Instance.CheckTTL)
		held.definition.Check.Name, held.definition.Check.Notes = check.Name, check.Notes
	}
	return entry, held
}

// instance reads a service as an instance without health and TTL. An address or
// port that cannot be Fairway's reads as none, which differs from any that is
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
		Tagged:  make(map[string]netip.Addr, len(svc.TaggedAddresses)),
		Tags:    svc.Tags,
		Meta:    svc.Meta,
		Weights: service.Weights{Passing: svc.Weights.Passing, Warning: svc.Weights.Warning},
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
	for name, tagged := range svc.TaggedAddresses {
		in.Tagged[name] = netip.Addr{}
		if address, err := netip.ParseAddr(tagged.Address); err == nil && tagged.Port == svc.Port {
			in.Tagged[name] = address
		}
	}
	return in
}
