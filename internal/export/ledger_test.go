package export_test

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
)

// A Ledger that was told of changes one after the other plans what is planned by
// one that is told everything at once.
func TestALedgerPlansTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, was := drawPolicy(t), drawCluster(t)
		r := settled(was, p)
		l := export.NewLedger(p)
		var view export.Cluster
		read := map[int]bool{}
		breaker := registration.Breaker{}
		t.Repeat(map[string]func(*rapid.T){
			"a part of the shards is read": func(t *rapid.T) {
				for shard, entries := range r.entries() {
					if rapid.Bool().Draw(t, "read") {
						l.Read(shard, entries)
						read[shard] = true
					}
				}
			},
			"all changes": func(t *rapid.T) {
				view = drawView(t, was, drawLater(t, was))
				l.See(view)
			},
			"a Service and its slices change": func(t *rapid.T) {
				name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "Service")
				view = withService(view, drawView(t, was, drawLater(t, was)), name)
				l.SeeChanges(view, []export.Object{{Kind: export.KindService, Namespace: "shop", Name: name}})
			},
			"somebody else writes": func(t *rapid.T) {
				drift(t, r)
				for shard := range read {
					l.Read(shard, r.entries()[shard])
				}
			},
			"": func(t *rapid.T) {
				evidence := export.Evidence{Now: epoch, MaxShare: rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(t, "share")}
				in := export.Input{Policy: p, Cluster: view, Evidence: evidence, Breaker: breaker, Entries: map[int][]registration.Entry{}}
				for shard, entries := range r.entries() {
					if read[shard] {
						in.Entries[shard] = entries
					}
				}
				want, got := export.Decide(in), l.Plan(evidence)
				breaker = got.Breaker
				for _, result := range got.Services {
					if !slices.ContainsFunc(want.Services, func(w export.Result) bool { return reflect.DeepEqual(w, result) }) {
						t.Fatalf("decided %+v", result)
					}
				}
				got.Services, want.Services = nil, nil
				if diff := cmp.Diff(want, got, cmp.Comparer(sameAddr), cmp.AllowUnexported(registration.Breaker{}),
					cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
					t.Fatalf("-whole +ledger:\n%s", diff)
				}
				for _, op := range got.Ops {
					if rapid.Bool().Draw(t, "is carried out") {
						before, existed := r[op.Instance.ID]
						if after, exists := op.After(before, existed); exists {
							r[op.Instance.ID] = after
						} else {
							delete(r, op.Instance.ID)
						}
						l.Wrote(op)
					}
				}
			},
		})
	})
}

// withService is a cluster in which a Service, its slices and what is known of their
// end are those of another.
func withService(c, of export.Cluster, name string) export.Cluster {
	next := c
	next.Services = slices.DeleteFunc(slices.Clone(c.Services), func(s export.Service) bool { return s.Name == name })
	next.Slices = slices.DeleteFunc(slices.Clone(c.Slices), func(s export.EndpointSlice) bool { return s.Service == name })
	next.Gone = map[export.Object]string{}
	theirs := map[export.Object]bool{}
	note := func(objects ...export.Object) {
		for _, o := range objects {
			theirs[o] = true
		}
	}
	for _, svc := range of.Services {
		if svc.Name == name {
			next.Services = append(next.Services, svc)
		}
	}
	for _, slice := range of.Slices {
		if slice.Service == name {
			next.Slices = append(next.Slices, slice)
		}
	}
	note(export.Object{Kind: export.KindService, Namespace: "shop", Name: name})
	for n := range 3 {
		note(export.Object{Kind: export.KindEndpointSlice, Namespace: "shop", Name: name + "-" + string(rune('0'+n))})
	}
	for o, why := range c.Gone {
		if !theirs[o] {
			next.Gone[o] = why
		}
	}
	for o, why := range of.Gone {
		if theirs[o] {
			next.Gone[o] = why
		}
	}
	return next
}

// The breaker's shares are of all that is in service, however little is decided
// anew.
func TestSharesAreOfTheWhole(t *testing.T) {
	in := input(crowd(3), policy())
	in.Evidence.MaxShare = 0.5
	l := export.NewLedger(in.Policy)
	l.See(in.Cluster)
	for shard, entries := range settled(in.Cluster, in.Policy).entries() {
		l.Read(shard, entries)
	}
	l.Plan(in.Evidence)
	var changed []export.Object
	for i, slice := range in.Cluster.Slices { // one of five endpoints of each Service
		in.Cluster.Slices[i].Endpoints = slice.Endpoints[1:]
		changed = append(changed, in.Cluster.Services[i].Object())
	}
	l.SeeChanges(in.Cluster, changed)
	if plan := l.Plan(in.Evidence); len(plan.Ops) != 3 || len(plan.Frozen) > 0 {
		t.Errorf("%v", ops(plan))
	}
}

// What is counted, and what is named: all whose end would prove that an entry may go,
// and nothing else.
func TestCountAndNamed(t *testing.T) {
	p := policy()
	c := cluster(web(), slice("web-a", pod(1), pod(2)), slice("web-b", pod(3)))
	c.Services = append(c.Services,
		web(func(svc *export.Service) { svc.Name, svc.Namespace = "dns", "kube-system" }),
		web(func(svc *export.Service) { svc.Name = "typo" }, annotated("fairway.dev/service-port", "htpt")))
	r := settled(cluster(web(), slice("web-a", pod(1), pod(2)), slice("web-b", pod(3))), p)
	lost := settled(cluster(web(func(svc *export.Service) { svc.Name, svc.Type = "lost", export.TypeNodePort }),
		func() export.EndpointSlice { s := slice("lost-a", pod(1)); s.Service = "lost"; return s }()), p)
	stray := registration.Entry{Cluster: "c1", HasCheck: true}
	stray.Instance.ID = "by-hand"
	maps.Copy(r, lost)
	entries := r.entries()
	entries[3] = append(entries[3], stray)
	l := export.NewLedger(p)
	l.See(c)
	for shard, held := range entries {
		l.Read(shard, held)
	}
	plan := l.Plan(input(c, p).Evidence)
	count := export.Count{
		Services: map[export.Verdict]int{export.Published: 1, export.Unpublished: 1, export.Undecided: 1},
		Invalid:  1, Instances: 3, Entries: 5,
	}
	if diff := cmp.Diff(count, l.Count()); diff != "" || len(plan.Ops) > 0 || len(plan.Held) != 2 {
		t.Errorf("%v; -want +got:\n%s", ops(plan), diff)
	}
	named := map[export.Object]bool{}
	for _, o := range []export.Object{
		web().Object(), slice("web-a").Object(), slice("web-b").Object(),
		{Kind: export.KindService, Namespace: "shop", Name: "lost"}, slice("lost-a").Object(), {Kind: export.KindNode, Name: "n1"}, {Kind: export.KindNode, Name: "n2"},
	} {
		named[o] = true
	}
	if diff := cmp.Diff(named, l.Named()); diff != "" {
		t.Errorf("named, -want +got:\n%s", diff)
	}
}
