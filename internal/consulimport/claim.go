package consulimport

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// consulItself is the service under which the Consul servers stand in their own
// catalog. A pattern does not mean it.
const consulItself = "consul"

// claim is an import's wish that a service of Consul be a Service.
type claim struct {
	in     *Import
	origin Origin
	ref    Ref // of the Service
}

// world is what there is, by name.
type world struct {
	Input
	imports  map[Ref]*Import
	services map[Ref]Service
	slices   map[Ref][]Slice // ours, by their Service, sorted by name
	taken    map[Ref]bool    // names of all slices
	invalid  map[Ref]string  // what is wrong with an import
}

func newWorld(in Input) *world {
	w := &world{
		Input: in, imports: map[Ref]*Import{}, services: map[Ref]Service{},
		slices: map[Ref][]Slice{}, taken: map[Ref]bool{}, invalid: map[Ref]string{},
	}
	for i := range in.Imports {
		w.imports[in.Imports[i].Ref] = &in.Imports[i]
	}
	for _, s := range in.Services {
		w.services[s.Ref] = s
	}
	for _, s := range in.Slices {
		w.taken[s.Ref] = true
		if s.Import != "" {
			ref := Ref{s.Ref.Namespace, s.Service}
			w.slices[ref] = append(w.slices[ref], s)
		}
	}
	for _, ours := range w.slices {
		slices.SortFunc(ours, func(a, b Slice) int { return a.Ref.compare(b.Ref) })
	}
	return w
}

// sorted are the imports by name.
func (w *world) sorted() []*Import {
	return slices.SortedFunc(maps.Values(w.imports), func(a, b *Import) int { return a.Ref.compare(b.Ref) })
}

// owner is the import that an object was made for; nil if it is not Fairway's,
// or its import is not there.
func (w *world) owner(o Object) *Import {
	if o.Import == "" {
		return nil
	}
	return w.imports[Ref{o.Ref.Namespace, o.Import}]
}

// origins are the services of Consul that an import means: those it names, or
// those that match its pattern and are on the list or were imported before. The
// list of names only adds to them, so that a list that lacks some takes none
// away (I1).
func (w *world) origins(in *Import) ([]Origin, error) {
	if len(in.Names) > 0 {
		var origins []Origin
		for _, name := range slices.Sorted(slices.Values(in.Names)) {
			origins = append(origins, Origin{in.Where, name})
		}
		return slices.Compact(origins), nil
	}
	pattern, err := regexp.Compile(`^(?:` + in.Pattern + `)$`)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	listing := w.Listings[in.Where]
	if listing.unknown() == "" {
		for _, name := range listing.Names {
			found[name] = true
		}
	}
	note := func(o Object) {
		if w.owner(o) == in { // from wherever: it stays until the new source is known
			found[o.Origin.Name] = true
		}
	}
	for _, s := range w.services {
		note(s.Object)
	}
	for _, ours := range w.slices {
		for _, s := range ours {
			note(s.Object)
		}
	}
	var origins []Origin
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if name != consulItself && pattern.MatchString(name) {
			origins = append(origins, Origin{in.Where, name})
		}
	}
	return origins, nil
}

// claims are the wishes that are granted, one for each Service, and those that
// are not, each with why.
func (w *world) claims() (granted map[Ref]claim, denied map[Ref][]NotImported) {
	byName := map[Ref][]claim{}
	denied = map[Ref][]NotImported{}
	for _, in := range w.sorted() {
		origins, err := w.origins(in)
		if err != nil {
			w.invalid[in.Ref] = fmt.Sprintf("source.pattern %q: %v", in.Pattern, err)
			continue
		}
		for _, origin := range origins {
			name, problem := ServiceName(in.Template, origin.Name)
			if problem != "" {
				denied[in.Ref] = append(denied[in.Ref], NotImported{origin.Name, ReasonNoName, problem})
				continue
			}
			ref := Ref{in.Ref.Namespace, name}
			byName[ref] = append(byName[ref], claim{in, origin, ref})
		}
	}
	granted = map[Ref]claim{}
	for _, ref := range slices.SortedFunc(maps.Keys(byName), Ref.compare) {
		claims := byName[ref]
		existing, exists := w.services[ref]
		var why string
		switch {
		case exists && existing.Import == "":
			why = fmt.Sprintf("there is a Service %q that is not Fairway's", ref.Name)
		case exists && w.owner(existing.Object) == nil:
			why = fmt.Sprintf("the Service %q belongs to the ConsulImport %q, which is not there", ref.Name, existing.Import)
		case exists && w.invalid[w.owner(existing.Object).Ref] != "":
			why = fmt.Sprintf("the Service %q belongs to the ConsulImport %q, which is not valid", ref.Name, existing.Import)
		default:
			granted[ref] = first(claims, existing)
			why = fmt.Sprintf("the Service %q stands for service %q of the ConsulImport %q", ref.Name, granted[ref].origin, granted[ref].in.Ref.Name)
		}
		for _, c := range claims {
			if c != granted[ref] {
				denied[c.in.Ref] = append(denied[c.in.Ref], NotImported{c.origin.Name, ReasonNameTaken, why})
			}
		}
	}
	return granted, denied
}

// first is whose claim is granted: who has the Service keeps it; else it is a
// service that is called just so, else the first by name.
func first(claims []claim, existing Service) claim {
	rank := func(c claim) int {
		switch {
		case existing.Import == c.in.Ref.Name && existing.Origin == c.origin:
			return 0
		case c.origin.Name == c.ref.Name:
			return 1
		}
		return 2
	}
	return slices.MinFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.in.Ref.compare(b.in.Ref), a.origin.compare(b.origin))
	})
}
