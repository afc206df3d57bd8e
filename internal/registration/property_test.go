package registration_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// registry behaves as Consul's agent does, as far as a plan can tell: to
// register an existing service again keeps the status of its check.
type registry map[string]registration.Entry

// apply carries out a plan and fails on what no plan may contain: a write to
// something foreign (I5), a removal of what is not critical (I4), a change of
// health where there is no check.
func (r registry) apply(plan registration.Plan) error {
	for _, op := range plan.Ops {
		id := op.Instance.ID
		old, exists := r[id]
		if exists && !own(old) {
			return fmt.Errorf("%s of foreign entry %s", op.Kind, id)
		}
		after, remains := op.After(old, exists)
		if op.Reason == "" {
			return fmt.Errorf("%s of %s without a reason", op.Kind, id)
		}
		switch op.Kind {
		case registration.Register:
			written := registration.Entry{Instance: op.Instance, Cluster: cluster, Node: node, HasCheck: true}
			if exists && old.HasCheck {
				written.Instance.Health = old.Instance.Health
			}
			r[id] = written
		case registration.SetHealth:
			if !exists || !old.HasCheck {
				return fmt.Errorf("set health of %s, which has no check", id)
			}
			old.Instance.Health = op.Instance.Health
			r[id] = old
		case registration.Deregister:
			if !exists || !old.HasCheck || old.Instance.Health != service.Critical {
				return fmt.Errorf("deregister %s, which is not critical: %+v", id, old)
			}
			delete(r, id)
		}
		if now, exists := r[id]; exists != remains || !cmp.Equal(now, after, ignoreNotes) {
			return fmt.Errorf("%s of %s leaves %+v (%v); After says %+v (%v)", op.Kind, id, now, exists, after, remains)
		}
	}
	return nil
}

// entries are sorted so that a failure can be replayed.
func (r registry) entries() []registration.Entry {
	var entries []registration.Entry
	for _, id := range slices.Sorted(maps.Keys(r)) {
		entries = append(entries, r[id])
	}
	return entries
}

// ignoreNotes: they are shown, not compared.
var ignoreNotes = cmp.Options{cmpopts.IgnoreFields(service.Instance{}, "Notes"), cmpopts.EquateComparable(netip.Addr{})}

func own(e registration.Entry) bool { return e.Cluster == cluster && e.Node == node }

// drawWorld makes pods in all states, and a registry that has drifted from
// what they ask for in all ways.
func drawWorld(t *rapid.T) (registration.Input, registry) {
	healths := rapid.SampledFrom([]service.Health{service.Passing, service.Warning, service.Critical})
	names := []string{"web", "api", "db"}
	in := registration.Input{Cluster: cluster, Node: node, Gone: map[string]string{}}
	reg := registry{}
	for uid := range rapid.IntRange(0, 5).Draw(t, "pods") {
		pod := livePod(fmt.Sprint(uid), healths.Draw(t, "health"),
			rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 3, rapid.ID[string]).Draw(t, "declared")...)
		pod.Incomplete = rapid.Bool().Draw(t, "incomplete")
		pod.Ended = rapid.IntRange(0, 4).Draw(t, "ended") == 0
		pod.Terminating = rapid.IntRange(0, 4).Draw(t, "terminating") == 0
		if pod.Ended || pod.Terminating {
			pod = withHealth(pod, service.Critical)
		} else {
			drawFixed(t, &pod)
		}
		if rapid.IntRange(0, 2).Draw(t, "listed") > 0 {
			in.Claims = append(in.Claims, pod)
		}
		if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
			in.Gone[pod.Pod.UID] = "deletion seen"
		}
		registered := rapid.SampledFrom(names)
		for _, name := range rapid.SliceOfN(registered, 0, 5).Draw(t, "registered") {
			e := entry(pod, name, health(healths.Draw(t, "registered health")))
			switch rapid.IntRange(0, 14).Draw(t, "drift") {
			case 0:
				e.Instance.Port++
			case 1:
				e.Instance.Tags = nil
			case 2:
				e.Instance.Meta = map[string]string{service.MetaCluster: cluster, service.MetaNode: node, service.MetaPodUID: pod.Pod.UID, "other": "x"}
			case 3:
				noCheck(&e)
			case 4:
				e.Cluster = "c2"
			case 5:
				e.Node = "n2"
			case 7:
				e.Instance.Weights.Passing++
			case 8:
				e.Instance.CheckTTL, e.Instance.Tagged = 0, map[string]netip.Addr{service.TaggedWANIPv4: {}}
			case 9, 10: // as another version of Fairway would have called it
				e.Instance.ID = "old_" + e.Instance.ID
			case 6: // somebody took the pod UID out of the meta
				e.Instance.Meta, e.Instance.Pod = nil, service.PodRef{}
			}
			reg[e.Instance.ID] = e
		}
	}
	in.Entries = reg.entries()
	return in, reg
}

// withHealth gives the pod and its instances a health.
func withHealth(pod registration.Claim, health service.Health) registration.Claim {
	pod.Health = health
	for i := range pod.Instances {
		pod.Instances[i].Health = health
	}
	return pod
}

// drawFixed fixes the health of some of the pod's services, some of them in a
// way that cannot be understood: those are not among its instances.
func drawFixed(t *rapid.T, pod *registration.Claim) {
	values := []service.Health{service.Passing, service.Warning, service.Critical, ""}
	pod.Fixed = rapid.MapOfN(rapid.SampledFrom([]string{"", "web", "db"}), rapid.SampledFrom(values), 0, 2).Draw(t, "fixed")
	pod.Instances = slices.DeleteFunc(pod.Instances, func(in service.Instance) bool {
		health, fixed := pod.Fixed.For(in.Name)
		return fixed && health == ""
	})
	for i, in := range pod.Instances {
		if health, fixed := pod.Fixed.For(in.Name); fixed {
			pod.Instances[i].Health = health
		}
	}
	for _, health := range pod.Fixed {
		pod.Incomplete = pod.Incomplete || health == ""
	}
}

// An entry whose pod is neither listed nor proven gone is not touched.
func TestI1AbsenceNeedsProof(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, reg := drawWorld(t)
		listed := map[string]registration.Claim{}
		for _, pod := range in.Claims {
			listed[pod.Pod.UID] = pod
		}
		plan := registration.Decide(in)
		for _, op := range plan.Ops {
			uid := op.Instance.Pod.UID
			pod, isListed := listed[uid]
			_, isGone := in.Gone[uid]
			if !isListed && !isGone {
				t.Fatalf("%s of %s (%s): its pod is unknown", op.Kind, op.Instance.ID, op.Reason)
			}
			// Of a live pod only a service goes that the pod was understood not
			// to declare.
			asked, fixed := pod.Fixed.For(op.Instance.Name)
			if !fixed {
				asked = pod.Health
			}
			removed := op.Kind == registration.Deregister || op.Instance.Health == service.Critical && asked != service.Critical &&
				!(asked == "" && pod.Health == service.Critical && !reg[op.Instance.ID].HasCheck)
			if removed && !isGone && !pod.Ended && (pod.Incomplete || declares(pod, op.Instance.ID)) {
				t.Fatalf("%s of %s (%s): its pod is alive and was not understood to have given it up",
					op.Kind, op.Instance.ID, op.Reason)
			}
		}
		held := map[string]bool{}
		for _, h := range plan.Held {
			held[h.Entry.Instance.ID] = true
		}
		for id, e := range reg {
			_, isListed := listed[e.Instance.Pod.UID]
			_, isGone := in.Gone[e.Instance.Pod.UID]
			wanted := slices.ContainsFunc(in.Claims, func(pod registration.Claim) bool {
				_, gone := in.Gone[pod.Pod.UID]
				return declares(pod, id) && !pod.Ended && !gone
			})
			if want := own(e) && !isListed && !isGone && !wanted; held[id] != want {
				t.Fatalf("%s: held %v, want %v", id, held[id], want)
			}
		}
	})
}

func declares(pod registration.Claim, id string) bool {
	return slices.ContainsFunc(pod.Instances, func(i service.Instance) bool { return i.ID == id })
}

// An empty pod list without proofs changes nothing, whatever is registered.
func TestI1EmptyListChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, _ := drawWorld(t)
		in.Claims, in.Gone = nil, nil
		if plan := registration.Decide(in); len(plan.Ops) > 0 {
			t.Fatalf("ops: %v", lines(plan))
		}
	})
}

// Nothing is removed that was not seen critical in the registry, and what
// leaves service does so before anything else is done.
func TestI4StatusBeforeMembership(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, reg := drawWorld(t)
		plan := registration.Decide(in)
		for i, op := range plan.Ops {
			if op.Kind == registration.Deregister {
				if e := reg[op.Instance.ID]; !e.HasCheck || e.Instance.Health != service.Critical {
					t.Fatalf("deregister %s, which the registry holds as %+v", op.Instance.ID, e)
				}
			}
			e, exists := reg[op.Instance.ID]
			after, _ := op.After(e, exists)
			if leaves := exists && e.InService() && !after.InService(); leaves != op.Leaves {
				t.Fatalf("%s of %s: leaves %v, of %+v", op.Kind, op.Instance.ID, op.Leaves, e)
			}
			if i > 0 && op.Leaves && !plan.Ops[i-1].Leaves {
				t.Fatalf("%s leaves only after other work: %v", op.Instance.ID, lines(plan))
			}
		}
	})
}

// Foreign entries are in no op, and are counted.
func TestI5OwnByIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, reg := drawWorld(t)
		plan := registration.Decide(in)
		foreign := 0
		for _, e := range reg {
			if !own(e) {
				foreign++
			}
		}
		if plan.Foreign != foreign {
			t.Fatalf("%d foreign, want %d", plan.Foreign, foreign)
		}
		for _, op := range plan.Ops {
			if e, exists := reg[op.Instance.ID]; exists && !own(e) {
				t.Fatalf("%s of foreign %s", op.Kind, op.Instance.ID)
			}
		}
	})
}

// A service that a pod wants in service, and that is, is at no moment without an
// entry in service, also while its ID changes.
func TestReplacedOnlyByWhatServes(t *testing.T) {
	serves := func(reg registry, pod registration.Claim, name string) bool {
		for _, e := range reg {
			if own(e) && e.Instance.Pod == pod.Pod && e.Instance.Name == name && e.HasCheck && e.Instance.Health != service.Critical {
				return true
			}
		}
		return false
	}
	rapid.Check(t, func(t *rapid.T) {
		in, reg := drawWorld(t)
		for _, pod := range in.Claims {
			for _, in := range pod.Instances {
				if rapid.Bool().Draw(t, "renamed "+in.ID) {
					e := entry(pod, in.Name, oldID, health(service.Passing))
					reg[e.Instance.ID] = e
				}
			}
		}
		in.Entries = reg.entries()
		for range 4 {
			for _, op := range registration.Decide(in).Ops {
				before := maps.Clone(reg)
				if err := reg.apply(registration.Plan{Ops: []registration.Op{op}}); err != nil {
					t.Fatal(err)
				}
				for _, pod := range in.Claims {
					if _, gone := in.Gone[pod.Pod.UID]; gone || pod.Ended {
						continue
					}
					for _, want := range pod.Instances {
						if want.Health != service.Critical && serves(before, pod, want.Name) && !serves(reg, pod, want.Name) {
							t.Fatalf("%s of %s (%s) takes the last of %s out", op.Kind, op.Instance.ID, op.Reason, want.ID)
						}
					}
				}
			}
			in.Entries = reg.entries()
		}
	})
}

// Any world is at rest after three passes: one brings in, one takes out what it
// replaces, one removes; another writes nothing. At rest the registry holds what the pods ask for.
func TestI6NothingAtRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, reg := drawWorld(t)
		for range 3 {
			if err := reg.apply(registration.Decide(in)); err != nil {
				t.Fatal(err)
			}
			in.Entries = reg.entries()
		}
		plan := registration.Decide(in)
		if len(plan.Ops) > 0 {
			t.Fatalf("not at rest after three passes: %v", lines(plan))
		}
		for _, pod := range in.Claims {
			_, gone := in.Gone[pod.Pod.UID]
			for _, want := range pod.Instances {
				have, exists := reg[want.ID]
				switch {
				case gone || pod.Ended:
					if exists && own(have) && have.Instance.Pod == pod.Pod {
						t.Fatalf("%s is still there: %+v", want.ID, have)
					}
				case exists && !own(have):
					if plan.Refused[want.ID] == "" {
						t.Fatalf("%s is taken, and not refused", want.ID)
					}
				case !exists && pod.Terminating:
					// Not worth registering any more.
				case !exists:
					t.Fatalf("%s is missing", want.ID)
				default:
					have.Instance.Notes = want.Notes
					if diff := cmp.Diff(want, have.Instance, cmp.Comparer(sameAddr)); diff != "" {
						t.Fatalf("-want +have:\n%s", diff)
					}
				}
			}
		}
	})
}

// The order in which pods and entries are listed does not matter.
func TestPlanIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, _ := drawWorld(t)
		shuffled := in
		shuffled.Claims = rapid.Permutation(in.Claims).Draw(t, "claims")
		shuffled.Entries = rapid.Permutation(in.Entries).Draw(t, "entries")
		if diff := cmp.Diff(registration.Decide(in), registration.Decide(shuffled), cmp.Comparer(sameAddr)); diff != "" {
			t.Fatalf("two plans for one world:\n%s", diff)
		}
	})
}
