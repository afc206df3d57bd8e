package export

import (
	"maps"
	"slices"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// Ledger keeps what was decided of each Service, so that a change makes no more be
// decided anew than what it is about. At every step its plan is that of Decide,
// given all that the Ledger was told. It is not safe for use by several goroutines.
type Ledger struct {
	policy  Policy
	reading *reading
	shards  [Shards]shard
	entries map[Object]map[string]registration.Entry // by Service and ID; the zero Object has those of none
	parts   map[Object]part                          // by Service
	stale   map[Object]bool                          // Services to decide anew
	breaker registration.Breaker
}

// shard is what is known of a shard's answers.
type shard struct {
	read      bool
	misplaced int // entries that should stand under another
}

// part is what was decided of one Service.
type part struct {
	plan    registration.Plan
	ask     []Object
	verdict Verdict // empty if the Service is not there
	invalid bool
	wants   int // instances
}

// NewLedger makes a Ledger that knows nothing.
func NewLedger(policy Policy) *Ledger {
	return &Ledger{
		policy: policy, reading: newReading(Cluster{}, policy),
		entries: map[Object]map[string]registration.Entry{}, parts: map[Object]part{}, stale: map[Object]bool{},
	}
}

// See takes in the cluster as it is now, of which anything may have changed.
func (l *Ledger) See(cluster Cluster) {
	l.reading = newReading(cluster, l.policy)
	for object := range l.reading.services {
		l.stale[object] = true
	}
	for object := range l.entries {
		l.stale[object] = true
	}
	for object := range l.parts {
		l.stale[object] = true
	}
}

// SeeChanges takes in the cluster as it is now, of which only these Services and
// EndpointSlices of them may have changed, and what proves that objects are no more.
func (l *Ledger) SeeChanges(cluster Cluster, changed []Object) {
	l.reading = newReading(cluster, l.policy)
	for _, object := range changed {
		l.stale[object] = true
	}
	for object, part := range l.parts { // what was asked about may have been answered
		if slices.ContainsFunc(part.ask, func(o Object) bool { return l.reading.stated[o] || cluster.Gone[o] != "" }) {
			l.stale[object] = true
		}
	}
}

// Read takes in all that the registry holds in a shard.
func (l *Ledger) Read(number int, entries []registration.Entry) {
	s := shard{read: true}
	now := map[Object]map[string]registration.Entry{}
	for _, entry := range entries {
		svc, misplaced := l.reading.serviceOf(number, entry)
		if misplaced {
			s.misplaced++
			continue
		}
		if svc == (Object{}) {
			svc = strays(number)
		}
		if now[svc] == nil {
			now[svc] = map[string]registration.Entry{}
		}
		now[svc][entry.Instance.ID] = entry
	}
	for svc := range l.entries {
		if shardOf(svc) == number && now[svc] == nil {
			delete(l.entries, svc)
			l.stale[svc] = true
		}
	}
	for svc, held := range now {
		if !maps.EqualFunc(held, l.entries[svc], registration.Entry.Same) {
			l.entries[svc] = held
			l.stale[svc] = true
		}
	}
	if !l.shards[number].read {
		for svc := range l.reading.services {
			if shardOf(svc) == number {
				l.stale[svc] = true
			}
		}
	}
	l.shards[number] = s
}

// kindStrays is the kind of what stands for the entries of a shard that are of no
// Service.
const kindStrays = "shard"

func strays(shard int) Object { return Object{kindStrays, "", ShardName(shard)} }

// shardOf is the shard of a Service, or of what stands for those of none.
func shardOf(object Object) int {
	if object.Kind == kindStrays {
		for n := range Shards {
			if ShardName(n) == object.Name {
				return n
			}
		}
	}
	return ShardOf(object.Namespace, object.Name)
}

// Wrote takes in that the registry has carried out an op.
func (l *Ledger) Wrote(op registration.Op) {
	ref := op.Instance.Endpoint
	svc := Object{KindService, ref.Namespace, ref.Service}
	before, existed := l.entries[svc][op.Instance.ID]
	after, exists := op.After(before, existed)
	switch {
	case !exists:
		delete(l.entries[svc], op.Instance.ID)
	case l.entries[svc] == nil:
		l.entries[svc] = map[string]registration.Entry{op.Instance.ID: after}
	default:
		l.entries[svc][op.Instance.ID] = after
	}
	if len(l.entries[svc]) == 0 {
		delete(l.entries, svc)
	}
	l.stale[svc] = true
}

// Plan decides what is stale, and joins it with what was decided before.
func (l *Ledger) Plan(evidence Evidence) Plan {
	var out Plan
	for svc := range l.stale {
		if result, ok := l.decide(svc); ok {
			out.Services = append(out.Services, result)
		}
	}
	clear(l.stale)
	slices.SortFunc(out.Services, func(a, b Result) int { return a.Service.compare(b.Service) })

	plans, ask := make([]registration.Plan, 0, len(l.parts)), map[Object]bool{}
	for _, part := range l.parts {
		plans = append(plans, part.plan)
		for _, object := range part.ask {
			ask[object] = true
		}
	}
	plan := registration.Join(plans)
	for _, shard := range l.shards {
		plan.Foreign += shard.misplaced
	}
	out.Plan, l.breaker = l.restrain(plan, evidence)
	out.Breaker = l.breaker
	confirm := map[Object]bool{}
	for _, frozen := range out.Frozen {
		ref := frozen.Op.Instance.Endpoint
		confirm[Object{KindService, ref.Namespace, ref.Service}] = true
	}
	out.Ask, out.Confirm = inOrder(ask), inOrder(confirm)
	return out
}

// decide decides about one Service anew. It is not ok if that is not there, or its
// shard was not read.
func (l *Ledger) decide(svc Object) (Result, bool) {
	entries := slices.Collect(maps.Values(l.entries[svc]))
	listed := l.reading.services[svc] != nil
	if !l.shards[shardOf(svc)].read || !listed && len(entries) == 0 {
		delete(l.parts, svc)
		return Result{}, false
	}
	plan, ask, result, ok := l.reading.decide(svc, entries)
	l.parts[svc] = part{
		plan: plan, ask: ask, verdict: result.Verdict, invalid: len(result.Errors) > 0, wants: len(result.Instances),
	}
	return result, ok
}

// restrain lets the breaker take out of a plan what must wait. Its shares are of
// all that is in service, of which it must be told only if something is removed.
func (l *Ledger) restrain(plan registration.Plan, evidence Evidence) (registration.Plan, registration.Breaker) {
	in := registration.Input{Cluster: l.policy.Cluster}
	answers := map[string]registration.Answer{}
	for _, op := range plan.Ops {
		if op.Removal == "" {
			continue
		}
		ref := op.Instance.Endpoint
		svc := Object{KindService, ref.Namespace, ref.Service}
		// An answer that says what the cluster does says what the op follows from.
		answers[ref.String()] = registration.Answer{Asked: evidence.Confirmed[svc], Gone: op.Removal == registration.PodGone}
	}
	if len(answers) > 0 {
		for _, held := range l.entries {
			in.Entries = slices.AppendSeq(in.Entries, maps.Values(held))
		}
	}
	return l.breaker.Restrain(plan, in, registration.Evidence{
		Now: evidence.Now, MaxShare: evidence.MaxShare, AllowedUntil: evidence.AllowedUntil, Answers: answers,
	})
}

// Count is how much there is of what.
type Count struct {
	Services  map[Verdict]int // that are there
	Invalid   int             // Services with annotations that are not understood
	Instances int             // that are asked for
	Entries   int             // in the registry, as far as it was read, foreign ones too
}

// Count counts what was decided last.
func (l *Ledger) Count() Count {
	count := Count{Services: map[Verdict]int{}}
	for _, part := range l.parts {
		if part.verdict != "" {
			count.Services[part.verdict]++
		}
		if part.invalid {
			count.Invalid++
		}
		count.Instances += part.wants
	}
	for _, held := range l.entries {
		count.Entries += len(held)
	}
	for _, shard := range l.shards {
		count.Entries += shard.misplaced
	}
	return count
}

// Named are the objects whose end matters: Services that have entries, what has
// stated those, and what is asked about.
func (l *Ledger) Named() map[Object]bool {
	named := map[Object]bool{}
	for svc, held := range l.entries {
		if svc.Kind == kindStrays {
			continue
		}
		named[svc] = true
		for _, entry := range held {
			staters, _ := parseObjects(entry.Instance.Meta[service.MetaStatedBy])
			for _, object := range staters {
				named[object] = true
			}
			if node := entry.Instance.Meta[service.MetaEndpointNode]; node != "" {
				named[Object{KindNode, "", node}] = true
			}
		}
	}
	for _, part := range l.parts {
		for _, object := range part.ask {
			named[object] = true
		}
	}
	return named
}
