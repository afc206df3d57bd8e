package consulimport_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

const cluster = "here"

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// world is a Kubernetes and a Consul with the controller between them. Consul
// says what it is told to.
type world struct {
	in       consulimport.Input
	memory   consulimport.Memory
	services map[consulimport.Ref]consulimport.Service
	slices   map[consulimport.Ref]consulimport.Slice
	version  int
}

func newWorld(imports ...consulimport.Import) *world {
	return &world{
		in: consulimport.Input{
			Cluster: cluster, Now: noon, MaxShare: 0.5, Imports: imports,
			Listings: map[consulimport.Where]consulimport.Listing{},
			Answers:  map[consulimport.Origin]consulimport.Answer{},
		},
		services: map[consulimport.Ref]consulimport.Service{},
		slices:   map[consulimport.Ref]consulimport.Slice{},
	}
}

// input is what the controller sees.
func (w *world) input() consulimport.Input {
	in := w.in
	in.Services = slices.Collect(maps.Values(w.services))
	in.Slices = slices.Collect(maps.Values(w.slices))
	return in
}

// pass decides and writes, as the API server would take it.
func (w *world) pass(t fataler) consulimport.Plan {
	t.Helper()
	var plan consulimport.Plan
	plan, w.memory = consulimport.Decide(w.input(), w.memory)
	for _, op := range plan.Ops {
		if err := w.apply(op); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
	return plan
}

// fataler is what testing.T and rapid.T have in common here.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// apply carries out an op, and fails on what no plan may contain: a write to
// what is not ours (I5), to what is not there, or of what the API refuses.
func (w *world) apply(op consulimport.Op) error {
	w.version++
	if op.Reason == "" {
		return fmt.Errorf("no reason")
	}
	if op.Service != nil {
		return write(w.services, op.Verb, *op.Service, op.Service.Object, func(s *consulimport.Service) *consulimport.Object { return &s.Object }, w.version)
	}
	if n := len(op.Slice.Endpoints); op.Verb != consulimport.Delete && (n == 0 || n > 100) {
		return fmt.Errorf("%d endpoints", n)
	}
	before, exists := w.slices[op.Slice.Ref]
	if exists && before.Family != op.Slice.Family {
		return fmt.Errorf("the family of a slice cannot change")
	}
	return write(w.slices, op.Verb, *op.Slice, op.Slice.Object, func(s *consulimport.Slice) *consulimport.Object { return &s.Object }, w.version)
}

func write[T any](objects map[consulimport.Ref]T, verb consulimport.Verb, object T, o consulimport.Object,
	of func(*T) *consulimport.Object, version int) error {
	before, exists := objects[o.Ref]
	switch {
	case (verb == consulimport.Create) == exists:
		return fmt.Errorf("exists: %v", exists)
	case exists && of(&before).Import == "":
		return fmt.Errorf("it is not ours")
	case exists && of(&before).Version != o.Version:
		return fmt.Errorf("version %q is not %q", o.Version, of(&before).Version)
	case verb == consulimport.Delete:
		delete(objects, o.Ref)
		return nil
	case o.Import == "" || o.Owner == "" || o.Origin.Name == "":
		return fmt.Errorf("it has no owner: %+v", o)
	}
	of(&object).Version = fmt.Sprint(version)
	objects[o.Ref] = object
	return nil
}

// rest passes twice: the first writes all that is to be written.
func (w *world) rest(t fataler) consulimport.Plan {
	t.Helper()
	w.pass(t)
	plan := w.pass(t)
	if len(plan.Ops) > 0 {
		t.Fatalf("one pass does not write all: %v", plan.Ops)
	}
	return plan
}

// says lets Consul answer for a service: index and instances.
func (w *world) says(name string, index uint64, instances ...consulimport.Instance) {
	w.answer(consulimport.Origin{Name: name}, index, instances...)
}

func (w *world) answer(origin consulimport.Origin, index uint64, instances ...consulimport.Instance) {
	w.in.Answers[origin] = consulimport.Answer{Read: consulimport.Read{Asked: w.in.Now, Index: index}, Instances: instances}
}

// lists lets Consul say which services there are.
func (w *world) lists(names ...string) {
	w.in.Listings[consulimport.Where{}] = consulimport.Listing{Read: consulimport.Read{Asked: w.in.Now, Index: 1}, Names: names}
}

func (w *world) sleep(d time.Duration) { w.in.Now = w.in.Now.Add(d) }

// has is what is there for a Service: its ready endpoints, spare ones in
// brackets, with their ports, sorted.
func (w *world) has(name string) string {
	var all []string
	for _, s := range w.slices {
		if s.Service != name {
			continue
		}
		for _, e := range s.Endpoints {
			var ports []string
			for _, p := range s.Ports {
				ports = append(ports, strings.TrimPrefix(fmt.Sprintf("%s:%d", p.Name, p.Port), ":"))
			}
			text := e.Address.String() + "=" + strings.Join(ports, ",")
			if e.State == consulimport.Spare {
				text = "(" + text + ")"
			}
			all = append(all, text)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// expect fails if a Service has other endpoints.
func (w *world) expect(t *testing.T, name, want string) {
	t.Helper()
	if got := w.has(name); got != want {
		t.Fatalf("Service %s has %q, want %q", name, got, want)
	}
}

func names(names ...string) consulimport.Import {
	return consulimport.Import{Ref: consulimport.Ref{Namespace: "shop", Name: "imp"}, UID: "u1", Names: names}
}

func pattern(pattern string) consulimport.Import {
	in := names()
	in.Pattern = pattern
	return in
}

func with(in consulimport.Import, change func(*consulimport.Import)) consulimport.Import {
	change(&in)
	return in
}

// inst is an instance that passes at 10.0.0.N, port 8080.
func inst(n int, change ...func(*consulimport.Instance)) consulimport.Instance {
	in := consulimport.Instance{
		ID: fmt.Sprint("i", n), Node: "n", Health: service.Passing,
		Address: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), Port: 8080, Weights: service.Weights{Passing: 1, Warning: 1},
	}
	for _, c := range change {
		c(&in)
	}
	return in
}

func health(h service.Health) func(*consulimport.Instance) {
	return func(in *consulimport.Instance) { in.Health = h }
}

func port(p uint16) func(*consulimport.Instance) {
	return func(in *consulimport.Instance) { in.Port = p }
}

func host(name string) func(*consulimport.Instance) {
	return func(in *consulimport.Instance) { in.Address, in.Host = netip.Addr{}, name }
}

// ref is an object in the namespace of the imports.
func ref(name string) consulimport.Ref { return consulimport.Ref{Namespace: "shop", Name: name} }

// condition is status and reason of one of an import's conditions.
func condition(plan consulimport.Plan, kind string) string {
	for _, c := range plan.Statuses[0].Conditions {
		if c.Type == kind {
			return string(c.Status) + " " + c.Reason
		}
	}
	return ""
}
