package catalog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// checkNotes are those of the check of a pod's entry, and of a Service's.
const (
	checkNotes        = "Set by Fairway from the readiness of the pod's containers."
	checkNotesService = "Set by Fairway from the EndpointSlices of the Service."
)

// picture is what the servers hold of the virtual node: what was last read,
// and the writes since. Every index in it is good for a check-and-set.
type picture struct {
	read    bool // false: nothing is known
	at      indexes
	node    *api.Node
	lease   *api.HealthCheck
	entries map[string]holding // by service ID
}

// indexes are those of the answers that a picture was read from. They are zero if
// something was written since.
type indexes struct {
	checks uint64 // of all checks in Consul
	node   uint64 // of the virtual node and its services, at least
}

// holding is one entry. check is nil if there is none of the service's ID.
type holding struct {
	service *api.AgentService
	check   *api.HealthCheck
}

// newPicture sorts what was read. It is an error if the parts do not fit
// together, as they would not if they came from two Consuls.
func newPicture(id identity, node *api.CatalogNode, checks api.HealthChecks) (picture, error) {
	p := picture{read: true, entries: map[string]holding{}}
	switch {
	case node == nil && len(checks) == 0:
		return p, nil
	case node == nil || node.Node == nil || node.Services == nil || node.Node.Node != id.name:
		return picture{}, consul.Unusable("the node's record does not fit its checks")
	}
	if err := id.owns(node.Node); err != nil {
		return picture{}, err
	}
	p.node = node.Node
	for key, svc := range node.Services {
		if svc == nil || svc.ID != key || svc.ModifyIndex == 0 {
			return picture{}, consul.Unusable("service %q is not what was asked for", key)
		}
		p.entries[key] = holding{service: svc}
	}
	for _, check := range checks {
		if check == nil || check.Node != id.name || check.ModifyIndex == 0 {
			return picture{}, consul.Unusable("a check is not what was asked for")
		}
		p.add(check)
	}
	return p, nil
}

// add takes in a check, if it is the lease or that of an entry.
func (p *picture) add(check *api.HealthCheck) {
	held, ok := p.entries[check.ServiceID]
	switch {
	case check.CheckID == LeaseCheck && check.ServiceID == "":
		p.lease = check
	case ok && check.CheckID == check.ServiceID:
		held.check = check
		p.entries[check.ServiceID] = held
	}
}

// index is the highest index of a check in the picture.
func (p picture) index() uint64 {
	var index uint64
	if p.lease != nil {
		index = p.lease.ModifyIndex
	}
	for _, held := range p.entries {
		if held.check != nil {
			index = max(index, held.check.ModifyIndex)
		}
	}
	return index
}

// list is the entries in Fairway's words.
func (p picture) list(lapsed bool) []registration.Entry {
	entries := make([]registration.Entry, 0, len(p.entries))
	for _, held := range p.entries {
		entry := registration.Entry{
			Instance: consul.InstanceOf(held.service),
			Cluster:  held.service.Meta[service.MetaCluster],
			Node:     held.service.Meta[service.MetaNode],
			Lapsed:   lapsed,
		}
		if held.check != nil {
			entry.HasCheck = true
			entry.Instance.Health = service.Health(held.check.Status)
			entry.Instance.Notes = held.check.Output
		}
		entries = append(entries, entry)
	}
	return entries
}

// ops are what carries out an op on an entry: all of them or none. There are
// none if it is done already.
func (id identity) ops(p picture, op registration.Op) (api.TxnOps, error) {
	in := op.Instance
	held, exists := p.entries[in.ID]
	if exists && held.service.Meta[service.MetaCluster] != id.cluster { // I5; the ID holds the pod's UID
		return nil, &consul.Error{Kind: consul.ErrConflict, Err: errors.New("the entry is another cluster's")}
	}
	switch {
	case op.Kind == registration.Register:
		svc, check := consul.ServiceOf(in), id.check(in)
		if exists {
			svc.ModifyIndex = held.service.ModifyIndex
		}
		if held.check != nil {
			// Written again with the service, because it carries a copy of the
			// service's tags. A change of health is an op of its own.
			check.Status, check.Output, check.ModifyIndex = held.check.Status, held.check.Output, held.check.ModifyIndex
		}
		return api.TxnOps{id.service(api.ServiceCAS, svc), checkOp(api.CheckCAS, check)}, nil
	case op.Kind == registration.Deregister && !exists:
		return nil, nil
	case op.Kind == registration.Deregister:
		var ops api.TxnOps
		if held.check != nil { // if it is not critical any more, this fails, and all with it (I4)
			ops = append(ops, checkOp(api.CheckDeleteCAS, *held.check))
		}
		return append(ops, id.service(api.ServiceDeleteCAS, api.AgentService{
			ID: in.ID, Service: held.service.Service, ModifyIndex: held.service.ModifyIndex,
		})), nil
	case op.Kind != registration.SetHealth:
		return nil, fmt.Errorf("no such kind of op: %q", op.Kind)
	case held.check == nil:
		return nil, &consul.Error{Kind: consul.ErrConflict, Err: errors.New("the entry has no check of ours")}
	}
	check := *held.check
	check.Status, check.Output = string(in.Health), in.Notes
	return api.TxnOps{checkOp(api.CheckCAS, check)}, nil
}

// learn takes in a transaction that was carried out. A result that is missing
// leaves its part unknown, so that the next write of it is a conflict and the
// node is read again.
func (p *picture) learn(sent api.TxnOps, results api.TxnResults) {
	p.at = indexes{}
	for _, op := range sent {
		switch {
		case op.Node != nil:
			p.node = nil
		case op.Check != nil && op.Check.Check.ServiceID == "":
			p.lease = nil
		case op.Service != nil:
			delete(p.entries, op.Service.Service.ID)
		}
	}
	for _, result := range results {
		switch {
		case result == nil:
		case result.Node != nil:
			p.node = result.Node
		case result.Service != nil:
			held := p.entries[result.Service.ID]
			held.service = result.Service
			p.entries[result.Service.ID] = held
		case result.Check != nil:
			p.add(result.Check)
		}
	}
}

// check is an entry's check in Consul's words.
func (id identity) check(in service.Instance) api.HealthCheck {
	notes := checkNotes
	if in.Endpoint.Key != "" {
		notes = checkNotesService
	}
	return api.HealthCheck{
		Node:        id.name,
		CheckID:     in.ID,
		Name:        consul.CheckName,
		Notes:       notes,
		Status:      string(in.Health),
		Output:      in.Notes,
		ServiceID:   in.ID,
		ServiceName: in.Name,
	}
}

func (id identity) service(verb api.ServiceOp, svc api.AgentService) *api.TxnOp {
	return &api.TxnOp{Service: &api.ServiceTxnOp{Verb: verb, Node: id.name, Service: svc}}
}

func checkOp(verb api.CheckOp, check api.HealthCheck) *api.TxnOp {
	return &api.TxnOp{Check: &api.CheckTxnOp{Verb: verb, Check: check}}
}
