package export

import (
	"maps"
	"slices"
	"strings"
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
	// that were not read are not among them. The plan of a Ledger has those that
	// were decided anew.
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
	ledger := NewLedger(in.Policy)
	ledger.breaker = in.Breaker
	ledger.See(in.Cluster)
	for shard, entries := range in.Entries {
		ledger.Read(shard, entries)
	}
	return ledger.Plan(in.Evidence)
}

// decision is what is decided of one Service. No other Service's matters to it: no
// two have an owner or an ID in common.
type decision struct {
	*reading
	input registration.Input
	held  map[string]string // by owner, why nothing proves that it is gone
	ask   map[Object]bool
}

// decide decides about one Service, of which the registry holds the entries. It is
// not ok if the Service is not there.
func (r *reading) decide(object Object, entries []registration.Entry) (plan registration.Plan, ask []Object, result Result, ok bool) {
	d := decision{
		reading: r, ask: map[Object]bool{}, held: map[string]string{},
		input: registration.Input{Cluster: r.policy.Cluster, Entries: entries, Gone: map[string]string{}},
	}
	var own []registration.Entry
	for _, entry := range entries {
		ref := entry.Instance.Endpoint
		if r.owns(entry) && ref.Key != "" && object == (Object{KindService, ref.Namespace, ref.Service}) {
			own = append(own, entry)
		}
	}
	if svc, listed := r.services[object]; listed && !svc.Missing {
		result, ok = d.claim(*svc, own), true
	} else {
		d.without(object, own)
	}
	plan = registration.Decide(d.input)
	for i, held := range plan.Held {
		if why := d.held[held.Entry.Instance.Owner()]; why != "" {
			plan.Held[i].Reason = why
		}
	}
	return plan, inOrder(d.ask), result, ok
}

// owns tells whether an entry is this cluster's, and of no node.
func (r *reading) owns(entry registration.Entry) bool {
	return entry.Cluster == r.policy.Cluster && entry.Node == ""
}

// serviceOf is the Service to which an entry of a shard belongs, whoever wrote it:
// by its ID, which holds all that tells whose it is, or else by its meta. It is
// misplaced if that Service's entries do not stand there: whoever has put it there,
// it is not for us to touch (I5). The zero Object is no Service.
func (r *reading) serviceOf(shard int, entry registration.Entry) (svc Object, misplaced bool) {
	ref := entry.Instance.Endpoint
	svc, ok := ServiceOfID(entry.Instance.ID)
	if !ok && (!r.owns(entry) || ref.Key == "") {
		return Object{}, false
	}
	if !ok {
		svc = Object{KindService, ref.Namespace, ref.Service}
	}
	return svc, ShardOf(svc.Namespace, svc.Name) != shard
}

// ServiceOfID is the Service whose instance has the ID, as service.EndpointRef makes
// it. It is not ok if it is no such ID.
func ServiceOfID(id string) (svc Object, ok bool) {
	const parts = 6
	part := strings.SplitN(id, "_", parts)
	if len(part) != parts || part[0] != "fairway" || part[4] != "svc" {
		return Object{}, false
	}
	return Object{KindService, part[1], part[2]}, true
}

// claim makes the claims of a Service that is there.
func (d *decision) claim(svc Service, own []registration.Entry) Result {
	described := d.describe(svc)
	result := described.result()
	s := serviceClaims{
		described: described, decision: d, result: result,
		claims: map[string]registration.Claim{}, places: map[string]place{},
	}
	s.fromPlaces()
	s.askFor(described.unheard)
	for _, entry := range own {
		s.fromEntry(entry)
	}
	d.input.Claims = slices.Collect(maps.Values(s.claims))
	return result
}

// without decides about the entries of a Service that is not there: they leave if
// it is proven gone, and are held otherwise.
func (d *decision) without(object Object, own []registration.Entry) {
	proof := d.Gone[object]
	if proof == "" && len(own) > 0 {
		d.ask[object] = true
	}
	for _, entry := range own {
		owner := entry.Instance.Owner()
		if proof != "" {
			d.input.Gone[owner] = object.String() + " is gone: " + proof
		} else {
			d.held[owner] = object.String() + " is not on the list, and nothing proves that it is gone"
		}
	}
}

func inOrder(objects map[Object]bool) []Object {
	return slices.SortedFunc(maps.Keys(objects), Object.compare)
}
