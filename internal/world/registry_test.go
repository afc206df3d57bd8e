package world_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// record is an entry with the index of its last change.
type record struct {
	registration.Entry
	index int
}

// registry behaves as either of the two does.
//
// A client agent takes what it is told, whatever has happened since its caller
// looked, and passes it on to the servers later. The servers themselves refuse
// to change what has changed since.
type registry struct {
	catalog bool // the servers
	index   int
	held    map[string]record
	servers map[string]record // what clients are given; the same map as held if catalog
}

func newRegistry(catalog bool) *registry {
	r := &registry{catalog: catalog, held: map[string]record{}, servers: map[string]record{}}
	if catalog {
		r.servers = r.held
	}
	return r
}

var errRefused = errors.New("refused")

// apply carries out an op whose caller has seen the record at an index, 0 if it
// did not exist. A violation is an error that is not errRefused.
func (r *registry) apply(op registration.Op, seen int) error {
	id := op.Instance.ID
	old, exists := r.held[id]
	if r.catalog && old.index != seen {
		return errRefused
	}
	switch {
	case exists && !own(old.Entry):
		return fmt.Errorf("I5: %s of %s, which belongs to cluster %s, node %s", op.Kind, id, old.Cluster, old.Node)
	case op.Kind == registration.Deregister && exists && (!old.HasCheck || old.Instance.Health != service.Critical):
		return fmt.Errorf("I4: deregister %s, which the registry holds as %+v", id, old.Entry)
	case op.Kind == registration.SetHealth && (!exists || !old.HasCheck):
		return errRefused
	}
	after, remains := op.After(old.Entry, exists)
	if !remains {
		r.index++
		delete(r.held, id)
		return nil
	}
	r.put(after)
	return nil
}

func (r *registry) put(e registration.Entry) {
	r.index++
	r.held[e.Instance.ID] = record{e, r.index}
}

// sync makes the servers hold what a client agent holds of an entry.
func (r *registry) sync(id string) {
	if held, ok := r.held[id]; ok {
		r.servers[id] = held
	} else {
		delete(r.servers, id)
	}
}

func (r *registry) ids() []string {
	all := maps.Clone(r.held)
	maps.Copy(all, r.servers)
	return slices.Sorted(maps.Keys(all))
}

// own tells whether an entry is this node's.
func own(e registration.Entry) bool { return e.Cluster == cluster && e.Node == nodeName }

// passing tells whether clients are given the entry.
func passing(e registration.Entry) bool {
	return e.HasCheck && e.Instance.Health == service.Passing
}

// meddle is what somebody else does to an entry of this node.
func (r *registry) meddle(t *rapid.T, id string) {
	e, ok := r.held[id]
	if !ok || !own(e.Entry) {
		return
	}
	switch rapid.SampledFrom([]string{"port", "tags", "health", "check", "removed", "old ID", "no pod", "taken"}).Draw(t, "edit") {
	case "port":
		e.Instance.Port++
	case "tags":
		e.Instance.Tags = []string{"edited"}
	case "health":
		if e.HasCheck {
			e.Instance.Health = rapid.SampledFrom([]service.Health{service.Passing, service.Warning, service.Critical}).Draw(t, "health")
		}
	case "check":
		e.HasCheck, e.Instance.Health, e.Instance.Notes = false, "", ""
	case "removed":
		r.index++
		delete(r.held, id)
		return
	case "old ID": // as an agent that names entries otherwise would leave it
		r.index++
		delete(r.held, id)
		e.Instance.ID = "old_" + id
	case "no pod":
		e.Instance.Pod, e.Instance.Meta = service.PodRef{}, nil
	case "taken":
		e.Cluster = "elsewhere"
	}
	r.put(e.Entry)
}
