package registration

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// Decide compares what is claimed with what the registry holds. Equal input gives
// an equal plan, in whatever order it is listed.
func Decide(in Input) Plan {
	d := decision{
		in: in, claims: make(map[string]Claim, len(in.Claims)),
		wanted: make(map[string]wish, len(in.Entries)), serving: make(map[string]service.Health, len(in.Entries)),
	}
	for _, claim := range in.Claims {
		owner := claim.Owner()
		d.claims[owner] = claim
		if _, gone := in.Gone[owner]; !gone && !claim.Ended {
			d.want(claim)
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
		if !w.claim.Terminating {
			d.op(Register, w.instance, "not registered yet")
		}
	}

	slices.SortFunc(d.plan.Ops, func(a, b Op) int { return a.compare(&b) })
	d.plan.sortRest()
	return d.plan
}

// Join makes one plan of those that were decided of parts of a whole. No two of the
// parts may have an owner or an ID in common.
func Join(parts []Plan) Plan {
	n := 0
	for _, part := range parts {
		n += len(part.Ops)
	}
	var whole Plan
	ops := make([]*Op, 0, n) // which are much cheaper to sort than what they point to
	for _, part := range parts {
		for i := range part.Ops {
			ops = append(ops, &part.Ops[i])
		}
		whole.Held = append(whole.Held, part.Held...)
		whole.Replaced = append(whole.Replaced, part.Replaced...)
		whole.Foreign += part.Foreign
		if whole.Refused == nil && part.Refused != nil {
			whole.Refused = map[string]string{}
		}
		maps.Copy(whole.Refused, part.Refused)
	}
	slices.SortFunc(ops, (*Op).compare)
	if n > 0 {
		whole.Ops = make([]Op, 0, n)
	}
	for _, op := range ops {
		whole.Ops = append(whole.Ops, *op)
	}
	whole.sortRest()
	return whole
}

// compare is the order of a plan.
func (o *Op) compare(other *Op) int {
	return cmp.Or(
		cmp.Compare(o.phase(), other.phase()),
		cmp.Compare(o.Instance.ID, other.Instance.ID),
		cmp.Compare(o.Kind, other.Kind), // an entry is registered before it is made passing
	)
}

// sortRest puts what is beside the ops into its order.
func (p *Plan) sortRest() {
	for _, held := range [][]Held{p.Held, p.Replaced} {
		slices.SortFunc(held, func(a, b Held) int { return cmp.Compare(a.Entry.Instance.ID, b.Entry.Instance.ID) })
	}
}

// phase is the op's place in the plan. To take clients away from what leaves
// cannot wait. To give clients what is ready comes before entries that nobody
// is given yet, and those before removals of what nobody is given any more (I4).
func (o *Op) phase() int {
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

// wish is an instance that is asked for.
type wish struct {
	instance service.Instance
	claim    Claim
}

// decision is one run of Decide.
type decision struct {
	in      Input
	claims  map[string]Claim          // by owner
	wanted  map[string]wish           // by instance ID; what has an entry is taken out
	serving map[string]service.Health // of our own entries that are as wanted but perhaps for this, by instance ID
	plan    Plan
}

// want notes what a claim asks for, but for what is another registrar's.
func (d *decision) want(claim Claim) {
	for _, instance := range claim.Instances {
		if d.in.Yielded[instance.ID] == "" {
			d.wanted[instance.ID] = wish{instance: instance, claim: claim}
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

// unwanted decides about an entry of ours that no claim asks for.
func (d *decision) unwanted(entry Entry) {
	owner, is := entry.Instance.Owner(), kindOfOwner(entry.Instance)
	proof, gone := d.in.Gone[owner]
	claim, present := d.claims[owner]
	successor := d.successor(entry, claim)
	switch {
	case gone:
		d.leave(entry, is+" is gone: "+proof, removalOf(PodGone, entry, claim, present))
	case !present && owner == "":
		d.hold(entry, "the entry names no pod UID, so nothing can prove that its pod is gone")
	case !present && is == ownerEndpoint:
		d.hold(entry, fmt.Sprintf("nothing is known of endpoint %s, and nothing proves that it is gone", entry.Instance.Endpoint))
	case !present:
		d.hold(entry, fmt.Sprintf("pod %s (UID %s) is not on the list, and nothing proves that it is gone",
			entry.Instance.Pod, owner))
	case claim.Ended:
		d.leave(entry, cmp.Or(claim.Notes, "pod has ended"), "")
	case d.yielded(entry, claim) != "":
		d.leave(entry, d.yielded(entry, claim), "")
	case claim.Incomplete:
		d.keep(entry, claim)
	case successor != "":
		d.plan.Replaced = append(d.plan.Replaced, Held{Entry: entry,
			Reason: fmt.Sprintf("kept until %s is in service, which the %s wants instead", successor, is)})
	case slices.ContainsFunc(claim.Instances, func(in service.Instance) bool { return in.Name == entry.Instance.Name }):
		d.leave(entry, fmt.Sprintf("the %s wants service %q under another ID now", is, entry.Instance.Name), "")
	default:
		reason := fmt.Sprintf("the pod does not declare service %q any more", entry.Instance.Name)
		if is == ownerEndpoint {
			reason = fmt.Sprintf("the endpoint is not published as %q any more", entry.Instance.Name)
		}
		if claim.Withdrawn != "" {
			reason += ": " + claim.Withdrawn
		}
		d.leave(entry, reason, removalOf(Undeclared, entry, claim, present))
	}
}

// What an owner is called in reasons.
const (
	ownerPod      = "pod"
	ownerEndpoint = "endpoint"
)

func kindOfOwner(in service.Instance) string {
	if in.Endpoint != (service.EndpointRef{}) {
		return ownerEndpoint
	}
	return ownerPod
}

// removalOf is kind if the entry is in service, and its owner has not left itself.
func removalOf(kind Removal, entry Entry, claim Claim, present bool) Removal {
	if !entry.InService() || present && claim.Health == service.Critical {
		return ""
	}
	return kind
}

// yielded is why the claim's service of an entry is not to be registered here,
// under whatever ID; empty if it is.
func (d *decision) yielded(entry Entry, claim Claim) string {
	for _, instance := range claim.Instances {
		if instance.Name == entry.Instance.Name {
			return d.in.Yielded[instance.ID]
		}
	}
	return ""
}

// keep leaves an entry as it is, but for its health.
func (d *decision) keep(entry Entry, claim Claim) {
	instance := entry.Instance
	instance.Health, instance.Notes = claim.Health, claim.Notes
	if fixed, ok := claim.Fixed.For(instance.Name); ok {
		// An annotation that cannot be understood puts nothing into service that
		// was taken out before, nor the other way round.
		instance.Health = cmp.Or(fixed, entry.Instance.Health, claim.Health)
		if fixed != "" {
			instance.Notes = fixedNotes
		}
	}
	if !entry.HasCheck {
		d.check(instance, noCheck, "")
		return
	}
	d.follow(entry, instance)
}

// successor is the ID under which the claim has the service of an entry and that
// the registry does not yet hold in service just as it is claimed. It is empty if
// there is nothing to wait for, because the entry or its successor is not to serve
// anyway.
func (d *decision) successor(entry Entry, claim Claim) string {
	if !entry.InService() {
		return ""
	}
	for _, instance := range claim.Instances {
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
