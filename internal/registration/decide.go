package registration

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// Decide compares what the pods of a node ask for with what the registry
// holds. Equal input gives an equal plan, in whatever order it is listed.
func Decide(in Input) Plan {
	d := decision{
		in: in, pods: make(map[string]PodState, len(in.Pods)),
		wanted: make(map[string]wish, len(in.Entries)), serving: make(map[string]service.Health, len(in.Entries)),
	}
	for _, pod := range in.Pods {
		d.pods[pod.Pod.UID] = pod
		if _, gone := in.Gone[pod.Pod.UID]; !gone && !pod.Ended {
			d.want(pod)
		}
	}

	for _, entry := range in.Entries {
		w, wanted := d.wanted[entry.Instance.ID]
		if wanted && entry.Cluster == in.Cluster && entry.Node == in.Node && entry.HasCheck &&
			len(Differences(entry.Instance, w.instance)) == 0 {
			d.serving[entry.Instance.ID] = entry.Instance.Health
		}
	}
	for _, entry := range in.Entries {
		id := entry.Instance.ID
		w, wanted := d.wanted[id]
		delete(d.wanted, id)
		switch {
		case entry.Cluster != in.Cluster || entry.Node != in.Node:
			d.foreign(entry, wanted)
		case wanted:
			d.update(entry, w)
		default:
			d.unwanted(entry)
		}
	}

	for _, w := range d.wanted { // those that have no entry yet
		if !w.pod.Terminating {
			d.op(Register, w.instance, "not registered yet")
		}
	}

	slices.SortFunc(d.plan.Ops, func(a, b Op) int {
		return cmp.Or(
			cmp.Compare(a.phase(), b.phase()),
			cmp.Compare(a.Instance.ID, b.Instance.ID),
			cmp.Compare(a.Kind, b.Kind), // an entry is registered before it is made passing
		)
	})
	for _, held := range [][]Held{d.plan.Held, d.plan.Replaced} {
		slices.SortFunc(held, func(a, b Held) int { return cmp.Compare(a.Entry.Instance.ID, b.Entry.Instance.ID) })
	}
	return d.plan
}

// phase is the op's place in the plan. To take clients away from what leaves
// cannot wait. To give clients what is ready comes before entries that nobody
// is given yet, and those before removals of what nobody is given any more (I4).
func (o Op) phase() int {
	switch {
	case o.Leaves:
		return 0
	case o.Kind == Deregister:
		return 3
	case o.Instance.Health == service.Critical:
		return 2
	default:
		return 1
	}
}

// Background tells whether no client notices when the op is done: what it is
// about is not in service, before and after.
func (o Op) Background() bool { return o.phase() >= 2 }

// wish is an instance that a pod asks for.
type wish struct {
	instance service.Instance
	pod      PodState
}

// decision is one run of Decide.
type decision struct {
	in      Input
	pods    map[string]PodState       // by UID
	wanted  map[string]wish           // by instance ID; what has an entry is taken out
	serving map[string]service.Health // of our own entries that are as wanted but perhaps for this, by instance ID
	plan    Plan
}

// want notes what a pod asks for, but for what is another registrar's.
func (d *decision) want(pod PodState) {
	for _, instance := range pod.Instances {
		if d.in.Yielded[instance.ID] == "" {
			d.wanted[instance.ID] = wish{instance: instance, pod: pod}
		}
	}
}

func (d *decision) op(kind Kind, instance service.Instance, reason string) {
	d.plan.Ops = append(d.plan.Ops, Op{Kind: kind, Instance: instance, Reason: reason})
}

// foreign counts an entry that is not ours, and refuses its ID to a pod that
// asks for it.
func (d *decision) foreign(entry Entry, wanted bool) {
	d.plan.Foreign++
	if !wanted {
		return
	}
	if d.plan.Refused == nil {
		d.plan.Refused = map[string]string{}
	}
	d.plan.Refused[entry.Instance.ID] = fmt.Sprintf(
		"the registry holds an entry of this ID that belongs to cluster %q, node %q; this is cluster %q, node %q",
		entry.Cluster, entry.Node, d.in.Cluster, d.in.Node)
}

// update brings an entry to what its pod asks for.
func (d *decision) update(entry Entry, w wish) {
	if !entry.HasCheck {
		d.check(w.instance, strings.Join(append(Differences(entry.Instance, w.instance), noCheck), "; "), "")
		return
	}
	if diff := Differences(entry.Instance, w.instance); len(diff) > 0 {
		d.op(Register, w.instance, strings.Join(diff, "; "))
	}
	d.follow(entry, w.instance)
}

// unwanted decides about an entry of ours that no pod asks for.
func (d *decision) unwanted(entry Entry) {
	uid := entry.Instance.Pod.UID
	proof, gone := d.in.Gone[uid]
	pod, present := d.pods[uid]
	successor := d.successor(entry, pod)
	switch {
	case gone:
		d.leave(entry, "pod is gone: "+proof, removalOf(PodGone, entry, pod, present))
	case !present && uid == "":
		d.hold(entry, "the entry names no pod UID, so nothing can prove that its pod is gone")
	case !present:
		d.hold(entry, fmt.Sprintf("pod %s (UID %s) is not on the list, and nothing proves that it is gone",
			entry.Instance.Pod, uid))
	case pod.Ended:
		d.leave(entry, cmp.Or(pod.Notes, "pod has ended"), "")
	case d.yielded(entry, pod) != "":
		d.leave(entry, d.yielded(entry, pod), "")
	case pod.Incomplete:
		d.keep(entry, pod)
	case successor != "":
		d.plan.Replaced = append(d.plan.Replaced, Held{Entry: entry,
			Reason: fmt.Sprintf("kept until %s is in service, which the pod wants instead", successor)})
	case slices.ContainsFunc(pod.Instances, func(in service.Instance) bool { return in.Name == entry.Instance.Name }):
		d.leave(entry, fmt.Sprintf("the pod wants service %q under another ID now", entry.Instance.Name), "")
	default:
		d.leave(entry, fmt.Sprintf("the pod does not declare service %q any more", entry.Instance.Name),
			removalOf(Undeclared, entry, pod, present))
	}
}

// removalOf is kind if the entry is in service, and its pod has not left itself.
func removalOf(kind Removal, entry Entry, pod PodState, present bool) Removal {
	if !entry.InService() || present && pod.Health == service.Critical {
		return ""
	}
	return kind
}

// yielded is why the pod's service of an entry is not to be registered here,
// under whatever ID; empty if it is.
func (d *decision) yielded(entry Entry, pod PodState) string {
	for _, instance := range pod.Instances {
		if instance.Name == entry.Instance.Name {
			return d.in.Yielded[instance.ID]
		}
	}
	return ""
}

// keep leaves an entry as it is, but for its health.
func (d *decision) keep(entry Entry, pod PodState) {
	instance := entry.Instance
	instance.Health, instance.Notes = pod.Health, pod.Notes
	if fixed, ok := pod.Fixed.For(instance.Name); ok {
		// An annotation that cannot be understood puts nothing into service that
		// was taken out before, nor the other way round.
		instance.Health, instance.Notes = cmp.Or(fixed, entry.Instance.Health, pod.Health), fixedNotes
	}
	if !entry.HasCheck {
		d.check(instance, noCheck, "")
		return
	}
	d.follow(entry, instance)
}

// successor is the ID under which the pod wants the service of an entry and
// that the registry does not yet hold in service just as the pod wants it. It is empty if there is nothing
// to wait for, because the entry or its successor is not to serve anyway.
func (d *decision) successor(entry Entry, pod PodState) string {
	if !entry.InService() {
		return ""
	}
	for _, instance := range pod.Instances {
		if instance.Name == entry.Instance.Name && instance.Health != service.Critical &&
			d.serving[instance.ID] != instance.Health {
			return instance.ID
		}
	}
	return ""
}

// follow gives a checked entry its health.
func (d *decision) follow(entry Entry, instance service.Instance) {
	if entry.Instance.Health == instance.Health {
		return
	}
	d.plan.Ops = append(d.plan.Ops, Op{
		Kind: SetHealth, Instance: instance, Leaves: instance.Health == service.Critical,
		Reason: cmp.Or(instance.Notes, fmt.Sprintf("health is %s, should be %s", entry.Instance.Health, instance.Health)),
	})
}

// check registers an entry with the check that it lacks. Until then clients are
// given it.
func (d *decision) check(instance service.Instance, reason string, removal Removal) {
	d.plan.Ops = append(d.plan.Ops, Op{
		Kind: Register, Instance: instance, Reason: reason, Leaves: instance.Health == service.Critical, Removal: removal,
	})
}

// leave takes an entry out in two passes: critical now, removed when the
// registry is seen to hold it critical.
func (d *decision) leave(entry Entry, reason string, removal Removal) {
	instance := entry.Instance
	instance.Health, instance.Notes = service.Critical, reason
	if !entry.HasCheck { // there is nothing yet that could be critical
		d.check(instance, reason+"; "+noCheck, removal)
		return
	}
	op := Op{Kind: Deregister, Instance: instance, Reason: reason, Removal: removal}
	if entry.InService() {
		op.Kind, op.Leaves = SetHealth, true
	}
	d.plan.Ops = append(d.plan.Ops, op)
}

func (d *decision) hold(entry Entry, reason string) {
	d.plan.Held = append(d.plan.Held, Held{Entry: entry, Reason: reason})
}

const noCheck = "the entry has no health check"
