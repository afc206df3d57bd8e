package agentapi

import (
	"cmp"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

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
	svc := consul.ServiceOf(in)
	return api.AgentServiceRegistration{
		ID:              svc.ID,
		Name:            svc.Service,
		Address:         svc.Address,
		Port:            svc.Port,
		TaggedAddresses: svc.TaggedAddresses,
		Tags:            svc.Tags,
		Meta:            svc.Meta,
		Weights:         &svc.Weights,
		Check:           r.check(in.ID, in.Health, in.CheckTTL),
	}
}

// check is the check of an entry. Without a TTL of its own it has the
// Registry's.
func (r *Registry) check(id string, status service.Health, ttl time.Duration) *api.AgentServiceCheck {
	ttl = cmp.Or(ttl, r.ttl)
	return &api.AgentServiceCheck{
		CheckID: id,
		Name:    consul.CheckName,
		Notes:   checkNotes(ttl),
		TTL:     ttl.String(),
		Status:  string(status),
	}
}

// entry reads what the agent holds. check is nil if there is none of the
// service's ID.
func (r *Registry) entry(svc *api.AgentService, check *api.AgentCheck) (registration.Entry, holding) {
	entry := registration.Entry{
		Instance: consul.InstanceOf(svc),
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
