package export_test

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

func sameAddr(a, b netip.Addr) bool { return a == b }

// Whatever the lists lack, nothing leaves service that the cluster truly wants in
// it; with no memory of what was there before, too.
func TestI1WhatListsLackTakesNothingOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was, p := drawCluster(t), drawPolicy(t)
		r := settled(was, p)
		is := drawLater(t, was)
		truth := wanted(with(is, func(c *export.Cluster) { c.Gone = proofs(was, is) }), p)
		before := maps.Clone(r)
		view := drawView(t, was, is)
		for range 3 {
			plan, err := r.pass(input(view, p))
			if err != nil {
				t.Fatal(err)
			}
			for id, want := range truth {
				old, existed := before[id]
				now, exists := r[id]
				if want.Health != service.Critical && inService(old, existed) && !inService(now, exists) {
					t.Fatalf("%s was taken out, and is truly wanted: %v", id, ops(plan))
				}
			}
		}
	})
}

// A cluster of which nothing is seen loses nothing.
func TestI1EmptyListsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was, p := drawCluster(t), drawPolicy(t)
		r := settled(was, p)
		drift(t, r)
		if plan, err := r.pass(input(export.Cluster{}, p)); err != nil || len(plan.Ops) > 0 {
			t.Fatalf("%v, ops: %v", err, ops(plan))
		}
	})
}

// What leaves is critical before it is removed, at each step of each pass; foreign
// entries are never written. The registry of the tests fails otherwise.
func TestI4AndI5InAnyWorld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was, p := drawCluster(t), drawPolicy(t)
		r := settled(was, p)
		drift(t, r)
		theirs := registry{}
		for id, entry := range r {
			if !own(entry) {
				theirs[id] = entry
			}
		}
		is := drawLater(t, was)
		view := drawView(t, was, is)
		for range 4 {
			plan, err := r.pass(input(view, p))
			if err != nil {
				t.Fatal(err)
			}
			if plan.Foreign != len(theirs) {
				t.Fatalf("%d foreign, want %d", plan.Foreign, len(theirs))
			}
		}
		for id, entry := range theirs {
			if diff := cmp.Diff(entry, r[id], cmp.Comparer(sameAddr)); diff != "" {
				t.Fatalf("a foreign entry changed:\n%s", diff)
			}
		}
	})
}

// Of any world, however little is seen of it, a plan makes an end: after a few
// passes nothing is written any more.
func TestI6AnyWorldComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was, p := drawCluster(t), drawPolicy(t)
		r := settled(was, p)
		drift(t, r)
		view := drawView(t, was, drawLater(t, was))
		for range 3 {
			if _, err := r.pass(input(view, p)); err != nil {
				t.Fatal(err)
			}
		}
		if plan, _ := r.pass(input(view, p)); len(plan.Ops) > 0 {
			t.Fatalf("not at rest after three passes: %v", ops(plan))
		}
	})
}

// When all is seen, and what is gone is proven, the registry comes to hold just
// what the Services ask for, but for those that are not understood.
func TestTheRegistryConvergesToTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was, p := drawCluster(t), drawPolicy(t)
		r := settled(was, p)
		is := drawLater(t, was)
		is.Gone = proofs(was, is)
		for range 4 {
			if _, err := r.pass(input(is, p)); err != nil {
				t.Fatal(err)
			}
		}
		undecided, skipped := map[string]bool{}, map[string]bool{}
		for _, svc := range is.Services {
			result := export.Instances(svc, is, p)
			undecided[svc.Name] = result.Verdict == export.Undecided || len(result.Errors) > 0
			for _, s := range result.Skipped {
				skipped[svc.Name+"/"+s.Key] = true
			}
		}
		truth := wanted(is, p)
		for id, want := range truth {
			have, exists := r[id]
			leaves := want.Health != service.Passing // a terminating endpoint is not registered any more
			if !exists && leaves {
				continue
			}
			have.Instance.Notes = want.Notes
			if diff := cmp.Diff(want, have.Instance, cmp.Comparer(sameAddr)); diff != "" {
				t.Fatalf("-want +have:\n%s", diff)
			}
		}
		for id, entry := range r {
			ref := entry.Instance.Endpoint
			if _, want := truth[id]; !want && !undecided[ref.Service] && !skipped[ref.Service+"/"+ref.Key] {
				t.Fatalf("%s is still there: %+v", id, entry)
			}
		}
	})
}

// What was in service and is to be, under whatever key, is at no step without an
// entry in service.
func TestANameThatServesGoesOnServing(t *testing.T) {
	serves := func(r registry, svc, name string) bool {
		for _, entry := range r {
			if own(entry) && entry.Instance.Endpoint.Service == svc && entry.Instance.Name == name && entry.InService() {
				return true
			}
		}
		return false
	}
	rapid.Check(t, func(t *rapid.T) {
		was := drawCluster(t)
		r := settled(was, policy())
		later := was
		later.Services = nil
		for _, svc := range was.Services { // other kinds of address alone
			svc.Annotations = maps.Clone(svc.Annotations)
			svc.Annotations["fairway.dev/service-address"] = rapid.SampledFrom([]string{"vip", "endpoints", "node"}).Draw(t, "address")
			later.Services = append(later.Services, svc)
		}
		for range 4 {
			in := input(later, policy())
			in.Entries = r.entries()
			for _, op := range export.Decide(in).Ops {
				before := maps.Clone(r)
				after, remains := op.After(r[op.Instance.ID], inRegistry(r, op.Instance.ID))
				if r[op.Instance.ID] = after; !remains {
					delete(r, op.Instance.ID)
				}
				for _, svc := range later.Services {
					result := export.Instances(svc, later, policy())
					for _, want := range result.Instances {
						if want.Health == service.Passing && serves(before, svc.Name, want.Name) && !serves(r, svc.Name, want.Name) {
							t.Fatalf("%s of %s (%s) takes the last of %s out", op.Kind, op.Instance.ID, op.Reason, want.Name)
						}
					}
				}
			}
		}
	})
}

func inRegistry(r registry, id string) bool {
	_, ok := r[id]
	return ok
}

// The order in which anything is listed does not matter.
func TestPlanIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was, p := drawCluster(t), drawPolicy(t)
		r := settled(was, p)
		drift(t, r)
		one := input(drawView(t, was, drawLater(t, was)), p)
		one.Entries = r.entries()
		other := one
		other.Cluster.Services = rapid.Permutation(one.Cluster.Services).Draw(t, "Services")
		other.Cluster.Slices = rapid.Permutation(one.Cluster.Slices).Draw(t, "slices")
		for i, slice := range other.Cluster.Slices {
			other.Cluster.Slices[i].Endpoints = rapid.Permutation(slice.Endpoints).Draw(t, "endpoints")
		}
		other.Cluster.Nodes = rapid.Permutation(one.Cluster.Nodes).Draw(t, "nodes")
		other.Cluster.Ingresses = rapid.Permutation(one.Cluster.Ingresses).Draw(t, "Ingresses")
		other.Entries = map[int][]registration.Entry{}
		for shard, entries := range one.Entries {
			other.Entries[shard] = rapid.Permutation(entries).Draw(t, "entries")
		}
		a, b := export.Decide(one), export.Decide(other)
		for _, plan := range []*export.Plan{&a, &b} {
			plan.Breaker = registration.Breaker{}
			for i := range plan.Services {
				plan.Services[i] = export.Result{Service: plan.Services[i].Service, Verdict: plan.Services[i].Verdict,
					Reason: plan.Services[i].Reason, Instances: plan.Services[i].Instances, Skipped: plan.Services[i].Skipped}
			}
		}
		if diff := cmp.Diff(a, b, cmp.Comparer(sameAddr), cmp.AllowUnexported(registration.Breaker{}),
			cmp.FilterPath(func(path cmp.Path) bool { return path.Last().String() == ".places" }, cmp.Ignore())); diff != "" {
			t.Fatalf("two plans for one world:\n%s", diff)
		}
	})
}
