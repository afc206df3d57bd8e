package consulimport

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// Decide compares what Consul said with what there is in Kubernetes, and
// returns what is to be written and what is to be remembered. It changes
// nothing of its input.
func Decide(in Input, memory Memory) (Plan, Memory) {
	w := newWorld(in)
	granted, denied := w.claims()
	var verdicts []*verdict
	for _, ref := range slices.SortedFunc(maps.Keys(granted), Ref.compare) {
		verdicts = append(verdicts, w.judge(memory, granted[ref]))
	}
	unclaimed, untouched := w.leftOvers(granted)
	verdicts = append(verdicts, unclaimed...)
	next := Memory{records: map[Ref]record{}, breaker: memory.breaker.restrain(w, verdicts)}

	d := decision{world: w, denied: denied, imported: map[Ref][]Imported{}, verdicts: map[Ref][]*verdict{}}
	for _, v := range verdicts {
		switch {
		case v.held == "":
			v.record.held = time.Time{}
		case v.record.held.IsZero():
			v.record.held = cmp.Or(next.breaker.frozen[v.ref], in.Now)
		}
		if !v.leftOver {
			next.records[v.ref] = v.record
		}
		d.verdicts[v.in.Ref] = append(d.verdicts[v.in.Ref], v)
		d.carryOut(v)
	}
	for _, v := range untouched {
		d.report(v, v.ready(), "")
	}
	d.finish(next)
	return d.plan, next
}

// leftOvers are what is ours and what no import claims. If its import is not
// valid that says nothing, and it is not touched. If its import is not there it
// is not even looked at.
func (w *world) leftOvers(granted map[Ref]claim) (unclaimed, untouched []*verdict) {
	owners := map[Ref]*Import{}
	for ref, ours := range w.slices {
		owners[ref] = w.owner(ours[0].Object)
	}
	for ref, s := range w.services {
		owners[ref] = w.owner(s.Object)
	}
	for _, ref := range slices.SortedFunc(maps.Keys(owners), Ref.compare) {
		in := owners[ref]
		if _, claimed := granted[ref]; claimed || in == nil {
			continue
		}
		if v := w.leftOver(ref, in); w.invalid[in.Ref] == "" {
			unclaimed = append(unclaimed, v)
		} else if v.existing != nil {
			untouched = append(untouched, v)
		}
	}
	return unclaimed, untouched
}

// decision is one run of Decide.
type decision struct {
	*world
	plan     Plan
	phases   [phases][]Op
	denied   map[Ref][]NotImported // by import
	imported map[Ref][]Imported    // by import
	verdicts map[Ref][]*verdict    // by import
}

// The phases of a plan: endpoints are there before the Service that leads to
// them, and new ones before others go.
const (
	adding = iota
	creating
	updating
	removing
	deleting
	phases
)

// carryOut turns a verdict into ops, and says what became of the Service.
func (d *decision) carryOut(v *verdict) {
	if v.held != "" {
		d.plan.Held = append(d.plan.Held, Held{
			Service: v.ref, Import: v.in.Ref, Endpoints: len(v.kept), Reason: v.reason, Message: v.held, Since: v.record.held,
		})
	}
	switch {
	case v.unknown != "":
		if v.existing == nil {
			d.deny(v, NotImported{v.origin.Name, ReasonSourceUnknown, v.unknown})
			return
		}
		d.plan.Held = append(d.plan.Held, Held{
			Service: v.ref, Import: v.in.Ref, Endpoints: v.endpoints(), Reason: ReasonSourceUnknown, Message: v.unknown, Since: v.record.unknown,
		})
		d.report(v, v.ready(), "Consul is unknown, all stays as it is: "+v.unknown)
	case v.leftOver && len(v.kept) > 0:
		d.report(v, v.ready(), v.held)
	case v.leftOver || v.gone(d.world):
		d.remove(v)
	default:
		d.bringAbout(v)
	}
}

// remove takes away what is left of a Service.
func (d *decision) remove(v *verdict) {
	reason := notNamed
	if !v.leftOver {
		reason = "Consul has had nothing of the service for " + DeleteAfter.String()
		d.deny(v, v.impossible())
	}
	if v.existing != nil && !v.in.Retain {
		d.op(deleting, Op{Verb: Delete, Service: v.existing, Reason: reason})
	} else if v.existing != nil {
		d.report(v, 0, "the ConsulImport does not name the service any more; the Service is retained")
	}
	for _, s := range v.slices {
		d.op(deleting, Op{Verb: Delete, Slice: &s, Reason: reason})
	}
}

// bringAbout writes what differs of a Service and its slices.
func (d *decision) bringAbout(v *verdict) {
	want, problem := v.service()
	if problem != nil {
		d.deny(v, *problem)
	} else if reasons := v.outdated(want); v.existing == nil {
		want.Mark = v.mark(false)
		d.op(creating, Op{Verb: Create, Service: &want, Reason: "Consul has the service"})
	} else if len(reasons) > 0 {
		want.Mark = v.mark(v.kept[at{}])
		d.op(updating, Op{Verb: Update, Service: &want, Reason: strings.Join(reasons, "; ")})
	}
	ready := 0
	for _, s := range v.shapes(d.world, problem == nil) {
		for _, e := range s.want.Endpoints {
			if e.State == Ready {
				ready++
			}
		}
		if op, needed := s.op(v); needed && s.adds() {
			d.op(adding, op)
		} else if needed {
			d.op(removing, op)
		}
	}
	if problem == nil {
		d.reportImported(v, ready)
	}
}

func (d *decision) op(phase int, op Op) { d.phases[phase] = append(d.phases[phase], op) }

// finish says what is to be asked, and when to look again.
func (d *decision) finish(next Memory) {
	for _, ops := range d.phases {
		d.plan.Ops = append(d.plan.Ops, ops...)
	}
	slices.SortFunc(d.plan.Held, func(a, b Held) int { return a.Service.compare(b.Service) })
	origins, wheres := map[Origin]bool{}, map[Where]bool{}
	again := map[Origin]time.Time{}
	for _, in := range d.sorted() {
		if len(in.Names) == 0 {
			wheres[in.Where] = true
		}
		for _, v := range d.verdicts[in.Ref] {
			if v.leftOver {
				continue
			}
			origins[v.origin] = true
			if v.unknown == "" && len(v.answer.Instances) == 0 && !v.record.confirmed(v.answer) && (v.existing != nil || len(v.slices) > 0) {
				again[v.origin] = v.record.absent.Add(ConfirmAfter)
			}
			if v.existing != nil && !v.in.Retain && !v.record.nothing.IsZero() {
				d.lookAt(v.record.nothing.Add(DeleteAfter))
			}
		}
		d.plan.Statuses = append(d.plan.Statuses, d.status(in))
	}
	if len(next.breaker.frozen) > 0 {
		d.lookAt(d.Now.Add(calmAfter))
	}
	d.plan.Answers = slices.SortedFunc(maps.Keys(origins), Origin.compare)
	d.plan.Listings = slices.SortedFunc(maps.Keys(wheres), Where.compare)
	for _, origin := range slices.SortedFunc(maps.Keys(again), Origin.compare) {
		d.plan.Again = append(d.plan.Again, Question{origin, again[origin]})
	}
}

// lookAt notes a moment in which something may be decided otherwise.
func (d *decision) lookAt(at time.Time) {
	if wait := at.Sub(d.Now); wait > 0 && (d.plan.Next == 0 || wait < d.plan.Next) {
		d.plan.Next = wait
	}
}
