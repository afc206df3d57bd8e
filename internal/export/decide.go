package export

import (
	"maps"
	"slices"
	"time"

	"fairway.dev/fairway/internal/registration"
)

// Input is everything Decide looks at.
type Input struct {
	Policy  Policy
	Cluster Cluster
	// Entries holds, by shard, all that the registry holds there, each ID once. They
	// must be complete answers. Of a shard that is not there nothing is known; the
	// Services of it are left alone.
	Entries map[int][]registration.Entry
	// Breaker is that of the last plan.
	Breaker  registration.Breaker
	Evidence Evidence
}

// Evidence is what is known of removals beside what made them; see
// registration.Evidence.
type Evidence struct {
	Now          time.Time
	MaxShare     float64
	AllowedUntil time.Time
	// Confirmed says when the API server was last asked for a Service and all its
	// EndpointSlices themselves, past every cache, and said the same as the cluster.
	Confirmed map[Object]time.Time
}

// Plan is what is to be written, and what was found out on the way.
type Plan struct {
	registration.Plan
	// Services are what was decided of each, by namespace and name. Those of shards
	// that were not read are not among them.
	Services []Result
	// Ask are objects that the API server is to be asked about by a read of its own:
	// until it is known whether they are there, something waits.
	Ask []Object
	// Confirm are Services of which removals are frozen until Evidence.Confirmed has
	// a second answer.
	Confirm []Object
	// Breaker is for the next plan.
	Breaker registration.Breaker
}

// Decide compares what the Services of a cluster ask for with what the registry
// holds. Equal input gives an equal plan, in whatever order it is listed.
func Decide(in Input) Plan {
	read := newReading(in.Cluster, in.Policy)
	d := decision{
		reading: read,
		objects: read.stated(),
		entries: map[Object][]registration.Entry{},
		results: map[Object]Result{},
		input:   registration.Input{Cluster: in.Policy.Cluster, Gone: map[string]string{}},
		held:    map[string]string{},
		ask:     map[Object]bool{},
	}
	misplaced := d.sort(in.Entries)
	for _, svc := range d.Services {
		if _, read := in.Entries[ShardOf(svc.Namespace, svc.Name)]; read && !svc.Missing {
			d.results[svc.Object()] = d.claim(svc)
		}
	}
	for object, entries := range d.entries {
		if _, decided := d.results[object]; !decided {
			d.without(object, entries)
		}
	}
	plan := registration.Decide(d.input)
	plan.Foreign += misplaced
	for i, held := range plan.Held {
		if why := d.held[held.Entry.Instance.Owner()]; why != "" {
			plan.Held[i].Reason = why
		}
	}
	return d.finish(in, plan)
}

// decision is one run of Decide.
type decision struct {
	reading
	objects map[Object]bool // what is stated
	entries map[Object][]registration.Entry
	results map[Object]Result
	input   registration.Input
	held    map[string]string // by owner, why nothing proves that it is gone
	ask     map[Object]bool
}

// stated are the objects that are there.
func (c Cluster) stated() map[Object]bool {
	stated := map[Object]bool{}
	for _, o := range c.Services {
		stated[o.Object()] = !o.Missing
	}
	for _, o := range c.Slices {
		stated[o.Object()] = !o.Missing
	}
	for _, o := range c.Ingresses {
		stated[o.Object()] = !o.Missing
	}
	for _, o := range c.Routes {
		stated[o.Object()] = !o.Missing
	}
	return stated
}

// sort puts our own entries to their Services, and all entries into the input. It
// returns how many stand under the wrong shard: whoever has put them there, they
// are not for us to touch (I5).
func (d *decision) sort(entries map[int][]registration.Entry) (misplaced int) {
	all := 0
	for _, held := range entries {
		all += len(held)
	}
	d.input.Entries = make([]registration.Entry, 0, all)
	d.input.Claims = make([]registration.Claim, 0, all)
	for shard, held := range entries {
		for _, entry := range held {
			ref, own := entry.Instance.Endpoint, entry.Cluster == d.policy.Cluster && entry.Node == ""
			if own && ref.Key != "" && ShardOf(ref.Namespace, ref.Service) != shard {
				misplaced++
				continue
			}
			d.input.Entries = append(d.input.Entries, entry)
			if own && ref.Key != "" {
				svc := Object{KindService, ref.Namespace, ref.Service}
				d.entries[svc] = append(d.entries[svc], entry)
			}
		}
	}
	return misplaced
}

// claim makes the claims of a Service that is there.
func (d *decision) claim(svc Service) Result {
	described := d.describe(svc)
	result := described.result()
	s := serviceClaims{
		described: described, decision: d, result: result,
		claims: map[string]registration.Claim{}, places: map[string]place{},
	}
	s.fromPlaces()
	s.askFor(described.unheard)
	for _, entry := range d.entries[svc.Object()] {
		s.fromEntry(entry)
	}
	d.input.Claims = append(d.input.Claims, slices.Collect(maps.Values(s.claims))...)
	return result
}

// without decides about the entries of a Service that is not there: they leave if
// it is proven gone, and are held otherwise.
func (d *decision) without(object Object, entries []registration.Entry) {
	proof := d.Gone[object]
	if proof == "" {
		d.ask[object] = true
	}
	for _, entry := range entries {
		owner := entry.Instance.Owner()
		if proof != "" {
			d.input.Gone[owner] = object.String() + " is gone: " + proof
		} else {
			d.held[owner] = object.String() + " is not on the list, and nothing proves that it is gone"
		}
	}
}

// finish lets the breaker take out what must wait, and puts the rest in order.
func (d *decision) finish(in Input, plan registration.Plan) Plan {
	out := Plan{}
	answers := map[string]registration.Answer{}
	for _, op := range plan.Ops {
		if op.Removal == "" {
			continue
		}
		ref := op.Instance.Endpoint
		svc := Object{KindService, ref.Namespace, ref.Service}
		// An answer that says what the cluster does says what the op follows from.
		answers[ref.String()] = registration.Answer{Asked: in.Evidence.Confirmed[svc], Gone: op.Removal == registration.PodGone}
	}
	out.Plan, out.Breaker = in.Breaker.Restrain(plan, d.input, registration.Evidence{
		Now: in.Evidence.Now, MaxShare: in.Evidence.MaxShare, AllowedUntil: in.Evidence.AllowedUntil, Answers: answers,
	})
	confirm := map[Object]bool{}
	for _, frozen := range out.Frozen {
		ref := frozen.Op.Instance.Endpoint
		confirm[Object{KindService, ref.Namespace, ref.Service}] = true
	}
	out.Ask, out.Confirm = inOrder(d.ask), inOrder(confirm)
	out.Services = slices.SortedFunc(maps.Values(d.results), func(a, b Result) int { return a.Service.compare(b.Service) })
	return out
}

func inOrder(objects map[Object]bool) []Object {
	return slices.SortedFunc(maps.Keys(objects), Object.compare)
}
