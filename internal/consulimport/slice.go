package consulimport

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// shape is a slice as it should be, and what changes in it.
type shape struct {
	want    Slice
	exists  bool
	before  Slice
	holds   bool
	added   []string
	removed []string
	changed []string
}

// shapes are the slices of a Service. An endpoint that is to stay stays where it
// is; a new one goes into a slice that is written anyway, then into one that has
// room, then into a new one.
func (v *verdict) shapes(w *world, exists bool) []*shape {
	var shapes []*shape
	placed := map[place]bool{}
	for _, s := range v.slices {
		shapes = append(shapes, v.remain(s, placed))
	}
	if !exists || v.kind == ExternalName {
		return shapes
	}
	for _, where := range slices.SortedFunc(maps.Keys(v.picture.wanted), place.compare) {
		if placed[where] {
			continue
		}
		to := room(shapes, where.group)
		if to == nil {
			to = &shape{want: v.newSlice(w, where.group)}
			shapes = append(shapes, to)
		}
		e := v.picture.wanted[where]
		to.want.Endpoints = append(to.want.Endpoints, e)
		to.added = append(to.added, e.Address.String())
	}
	return shapes
}

// remain is what of an existing slice stays.
func (v *verdict) remain(s Slice, placed map[place]bool) *shape {
	to := &shape{want: s, before: s, exists: true}
	to.want.Endpoints = nil
	group := s.group()
	for _, e := range s.Endpoints {
		where := place{group, e.Address}
		want, wanted := v.picture.wanted[where]
		switch kept := v.kept[at{s.Ref.Name, e.Address}]; {
		case placed[where]:
			to.removed = append(to.removed, e.Address.String()+" is in another slice")
			continue
		case kept:
			want, to.holds = e, true
		case !wanted || v.kind == ExternalName:
			to.removed = append(to.removed, e.Address.String()+": "+v.leaves[at{s.Ref.Name, e.Address}])
			continue
		case want != e:
			to.changed = append(to.changed, fmt.Sprintf("%s is %s", e.Address, want.State))
		}
		placed[where] = true
		to.want.Endpoints = append(to.want.Endpoints, want)
	}
	return to
}

// room is the slice of a group to which an endpoint is added.
func room(shapes []*shape, g group) *shape {
	var best *shape
	for _, s := range shapes {
		if s.want.group() != g || len(s.want.Endpoints) >= maxEndpoints {
			continue
		}
		if written := len(s.added)+len(s.removed)+len(s.changed) > 0 || !s.exists; written {
			return s
		}
		if best == nil {
			best = s
		}
	}
	return best
}

// newSlice is an empty slice under a name that is free.
func (v *verdict) newSlice(w *world, g group) Slice {
	ref := Ref{v.ref.Namespace, ""}
	for n := 1; ref.Name == "" || w.taken[ref]; n++ {
		ref.Name = fmt.Sprintf("%s-consul-%d", v.ref.Name, n)
	}
	w.taken[ref] = true
	return Slice{
		Object: Object{Ref: ref}, Service: v.ref.Name, Headless: v.kind == Headless,
		Family: g.family, Ports: slices.Clone(v.picture.ports[g.ports]),
	}
}

// op is what must be written of a shape; none if it is as it should be.
func (s *shape) op(v *verdict) (Op, bool) {
	want := s.want
	var reasons []string
	for _, part := range []struct {
		what string
		of   []string
	}{{"new: ", s.added}, {"changed: ", s.changed}, {"gone: ", s.removed}} {
		if len(part.of) > 0 {
			reasons = append(reasons, part.what+some(part.of))
		}
	}
	if s.exists && len(want.Endpoints) == 0 {
		before := s.before
		return Op{Verb: Delete, Slice: &before, Reason: strings.Join(append(reasons, "no endpoint is left"), "; ")}, true
	}
	want.Object = v.object(want.Object, s.holds)
	want.Headless = v.kind == Headless
	if s.exists {
		reasons = append(reasons, differences(s.before.Object, want.Object)...)
		if s.before.Headless != want.Headless {
			reasons = append(reasons, "its label for headless Services is wrong")
		}
	}
	if len(reasons) == 0 {
		return Op{}, false
	}
	want.Mark = v.mark(s.holds)
	if s.exists {
		return Op{Verb: Update, Slice: &want, Reason: strings.Join(reasons, "; ")}, true
	}
	return Op{Verb: Create, Slice: &want, Reason: strings.Join(reasons, "; ")}, true
}

// adds tells whether clients gain by the op, so that it comes before what takes
// something away.
func (s *shape) adds() bool { return len(s.added)+len(s.changed) > 0 }

// object is what our objects of a verdict have in common. A mark is kept unless
// it says something else than what is so now.
func (v *verdict) object(o Object, holds bool) Object {
	o.Import, o.Owner, o.Origin = v.in.Ref.Name, v.in.UID, v.origin
	if mark := v.mark(holds); mark == Before || o.Mark > mark {
		o.Mark = mark
	}
	return o
}

// differences are what is wrong with what our objects have in common.
func differences(have, want Object) []string {
	var diff []string
	if have.Import != want.Import || have.Owner != want.Owner {
		diff = append(diff, "it belongs to the ConsulImport "+want.Import)
	}
	if have.Origin != want.Origin {
		diff = append(diff, "it stands for service "+want.Origin.String())
	}
	if have.Mark != want.Mark && want.Mark == Before {
		diff = append(diff, "it holds what is from before Consul's index went back")
	} else if have.Mark > want.Mark {
		diff = append(diff, fmt.Sprintf("Consul's index began anew: it is %d", want.Mark))
	}
	return diff
}

// some is a list, shortened if long.
func some(all []string) string {
	const most = 3
	if len(all) > most {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(" and %d more", len(all)-most)
	}
	return strings.Join(all, ", ")
}
