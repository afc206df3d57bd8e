package consulimport

import (
	"fmt"
	"net/netip"
	"time"
)

// verdict is what is decided about one Service.
type verdict struct {
	claim
	existing *Service
	slices   []Slice // those that exist
	record   record
	answer   Answer
	picture  *picture // nil if Consul is unknown, or nobody claims the Service
	unknown  string   // why Consul is unknown
	leftOver bool     // no import claims the Service any more
	kind     Type     // of the Service; an existing one keeps its own
	// leaves says why endpoints leave, by socket and slice; kept are those that
	// stay although they are not wanted.
	leaves map[at]string
	kept   map[at]bool
	held   string // why some are kept; empty if none is
	reason string // the same in one word
	// loses is true if there are endpoints and none remains, or would but for
	// what is held.
	loses bool
}

// at is an endpoint where it stands.
type at struct {
	slice   string
	address netip.Addr
}

// judge decides about the Service of a claim, before the breaker.
func (w *world) judge(m Memory, c claim) *verdict {
	v := &verdict{claim: c, slices: w.slices[c.ref], kind: c.in.kind(), answer: w.Answers[c.origin], leaves: map[at]string{}, kept: map[at]bool{}}
	if s, ok := w.services[c.ref]; ok {
		v.existing, v.kind = &s, s.Type
	}
	v.record, v.unknown = w.recall(m, c)
	if v.unknown != "" {
		return v
	}
	v.picture = draw(c, v.answer, w.Cluster)
	v.compare(w.allowed(c.in))
	if v.picture.selected > 0 || !v.record.reset.IsZero() || len(v.answer.Instances) == 0 && !v.record.confirmed(v.answer) {
		v.record.nothing = time.Time{}
	} else if v.record.nothing.IsZero() {
		v.record.nothing = w.Now
	}
	return v
}

// leftOver decides about a Service of ours that no import claims any more.
func (w *world) leftOver(ref Ref, in *Import) *verdict {
	v := &verdict{claim: claim{in: in, ref: ref}, slices: w.slices[ref], leftOver: true, leaves: map[at]string{}, kept: map[at]bool{}}
	if s, ok := w.services[ref]; ok {
		v.existing, v.kind, v.origin = &s, s.Type, s.Origin
	}
	for _, s := range v.slices {
		for _, e := range s.Endpoints {
			v.leaves[at{s.Ref.Name, e.Address}] = notNamed
		}
	}
	v.loses = v.endpoints() > 0
	return v
}

const notNamed = "the ConsulImport does not name the service any more"

// allowed tells whether a person lets an import's removals pass.
func (w *world) allowed(in *Import) bool { return w.Now.Before(in.AllowedUntil) }

// compare sorts out what becomes of the endpoints that there are.
func (v *verdict) compare(allowed bool) {
	for _, s := range v.slices {
		group := s.group()
		for _, e := range s.Endpoints {
			if _, wanted := v.picture.wanted[place{group, e.Address}]; !wanted || v.kind == ExternalName {
				v.part(at{s.Ref.Name, e.Address}, s, allowed)
			}
		}
	}
	anew := !v.record.reset.IsZero()
	if v.kind == ExternalName && v.existing != nil && anew && !allowed && !v.picture.known[v.existing.ExternalName] {
		v.hold(at{}, ReasonIndexWentBack, wentBack)
	}
	v.loses = len(v.picture.wanted) == 0 && v.endpoints() > 0
	if anew && len(v.kept) == 0 {
		v.record.reset, v.record.index = time.Time{}, v.answer.Index
	}
	v.record.index = max(v.record.index, v.answer.Index)
}

// part decides whether an endpoint that is not wanted leaves, or is held.
func (v *verdict) part(where at, s Slice, allowed bool) {
	why, shown := v.shows(s, where.address)
	switch {
	case shown && why != "":
		v.leaves[where] = "it " + why
	case shown:
		v.leaves[where] = "its ports have changed"
	case allowed:
		v.leaves[where] = "Consul does not have it, and its removal was allowed"
	case !v.record.reset.IsZero():
		v.hold(where, ReasonIndexWentBack, wentBack)
	case len(v.answer.Instances) == 0 && !v.record.confirmed(v.answer):
		v.hold(where, ReasonNotConfirmed, fmt.Sprintf("Consul has nothing of the service; it is asked again %s later", ConfirmAfter))
	default:
		v.leaves[where] = "Consul does not have it any more"
	}
}

// hold keeps an endpoint. All that are held in one Service are so for the same
// reason.
func (v *verdict) hold(where at, reason, why string) {
	v.kept[where], v.reason, v.held = true, reason, why
}

// freeze keeps all that would leave.
func (v *verdict) freeze(why string) {
	for where := range v.leaves {
		v.kept[where] = true
	}
	v.leaves = map[at]string{}
	if v.reason == ReasonIndexWentBack { // which says more
		v.held += "; " + why
		return
	}
	v.reason, v.held = ReasonFrozen, why
}

// shows tells whether an instance of the answer is reached at an address and a
// port of a slice, and why it is no endpoint.
func (v *verdict) shows(s Slice, address netip.Addr) (why string, shown bool) {
	for _, port := range s.Ports {
		if reason, ok := v.picture.shown[netip.AddrPortFrom(address, port.Port)]; ok {
			why, shown = reason, true
		}
	}
	return why, shown
}

// ready is how many ready endpoints there are.
func (v *verdict) ready() int {
	n := 0
	for _, s := range v.slices {
		for _, e := range s.Endpoints {
			if e.State == Ready {
				n++
			}
		}
	}
	return n
}

// endpoints is how many there are.
func (v *verdict) endpoints() int {
	n := 0
	for _, s := range v.slices {
		n += len(s.Endpoints)
	}
	return n
}

// gone tells whether the Service is to be deleted: no endpoint of it is left,
// and nothing wants it back.
func (v *verdict) gone(w *world) bool {
	if v.existing == nil || v.in.Retain || len(v.kept) > 0 {
		return false
	}
	return v.leftOver || v.unknown == "" && !v.record.nothing.IsZero() && !w.Now.Before(v.record.nothing.Add(DeleteAfter))
}

// mark is that of an object that is written, or holds something.
func (v *verdict) mark(holds bool) uint64 {
	if holds && !v.record.reset.IsZero() {
		return Before
	}
	return v.answer.Index
}

func (s Slice) group() group { return group{s.Family, portsKey(s.Ports)} }
