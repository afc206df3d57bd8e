package registration_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

const (
	cluster = "c1"
	node    = "n1"
)

// livePod is a running pod with the given health that declares services by
// name, all of one shape.
func livePod(uid string, health service.Health, names ...string) registration.Claim {
	ref := service.PodRef{Namespace: "shop", Name: "pod-" + uid, UID: uid}
	pod := registration.Claim{Pod: ref, Health: health, Notes: "notes: " + string(health)}
	for _, name := range names {
		pod.Instances = append(pod.Instances, service.Instance{
			ID: service.InstanceID(name, ref), Name: name, Pod: ref,
			Address: netip.MustParseAddr("198.18.64.7"), Port: 80, Tags: []string{"a", "b"},
			Tagged:  map[string]netip.Addr{service.TaggedLANIPv4: netip.MustParseAddr("198.18.64.7")},
			Weights: service.Weights{Passing: 1, Warning: 1}, CheckTTL: time.Hour,
			Meta:   map[string]string{service.MetaCluster: cluster, service.MetaNode: node, service.MetaPodUID: uid, "team": "shop"},
			Health: health, Notes: pod.Notes,
		})
	}
	return pod
}

// entry is what the registry holds if name of the pod was registered as asked.
func entry(pod registration.Claim, name string, change ...func(*registration.Entry)) registration.Entry {
	full := livePod(pod.Pod.UID, pod.Health, name)
	e := registration.Entry{Instance: full.Instances[0], Cluster: cluster, Node: node, HasCheck: true}
	for _, c := range change {
		c(&e)
	}
	return e
}

func health(h service.Health) func(*registration.Entry) {
	return func(e *registration.Entry) { e.Instance.Health = h }
}

func owner(cluster, node string) func(*registration.Entry) {
	return func(e *registration.Entry) { e.Cluster, e.Node = cluster, node }
}

func noCheck(e *registration.Entry) { e.HasCheck, e.Instance.Health = false, "" }

// oldID is an ID under which nobody wants the entry.
func oldID(e *registration.Entry) { e.Instance.ID = "old_" + e.Instance.ID }

func otherPort(e *registration.Entry) { e.Instance.Port = 81 }

// lines shows a plan as text: what is done to which service of which pod, with
// the health it is to have, and why.
func lines(plan registration.Plan) []string {
	var out []string
	for _, op := range plan.Ops {
		out = append(out, strings.Join([]string{
			string(op.Kind), op.Instance.Name + "@" + op.Instance.Pod.UID, string(op.Instance.Health), op.Reason,
		}, " | "))
	}
	for _, h := range plan.Held {
		out = append(out, "held | "+h.Entry.Instance.Name+"@"+h.Entry.Instance.Pod.UID+" | "+h.Reason)
	}
	for _, h := range plan.Replaced {
		out = append(out, "replaced | "+h.Entry.Instance.ID+" | "+h.Reason)
	}
	return out
}

func TestDecide(t *testing.T) {
	passing := livePod("1", service.Passing, "web")
	critical := livePod("1", service.Critical, "web")
	silent := livePod("1", service.Passing) // declares nothing
	with := func(p registration.Claim, change func(*registration.Claim)) registration.Claim {
		change(&p)
		return p
	}
	terminating := with(critical, func(p *registration.Claim) {
		p.Terminating, p.Notes = true, "pod is terminating"
		p.Instances = slices.Clone(p.Instances)
		p.Instances[0].Notes = p.Notes
	})
	ended := with(critical, func(p *registration.Claim) { p.Ended, p.Notes = true, "pod has ended: phase Failed" })
	incomplete := with(livePod("1", service.Critical), func(p *registration.Claim) { p.Incomplete = true })
	fixedAt := func(h service.Health) registration.Claim {
		return with(incomplete, func(p *registration.Claim) { p.Fixed = annotation.Fixed{"": h} })
	}

	type pods = []registration.Claim
	type entries = []registration.Entry
	tests := []struct {
		name    string
		pods    pods
		entries entries
		gone    map[string]string
		want    []string
	}{
		{"nothing", nil, nil, nil, nil},
		{"at rest", pods{passing}, entries{entry(passing, "web")}, nil, nil},
		{"new", pods{passing}, nil, nil, []string{"register | web@1 | passing | not registered yet"}},
		{"new, not ready yet", pods{critical}, nil, nil, []string{"register | web@1 | critical | not registered yet"}},
		{"becomes ready", pods{passing}, entries{entry(passing, "web", health(service.Critical))}, nil,
			[]string{"set-health | web@1 | passing | notes: passing"}},
		{"notes are not compared", pods{with(passing, func(p *registration.Claim) { p.Notes = "other" })},
			entries{entry(passing, "web")}, nil, nil},

		{"each field", pods{passing}, entries{entry(passing, "web", func(e *registration.Entry) {
			e.Instance.Name = "www"
			e.Instance.Address = netip.MustParseAddr("198.18.64.8")
			e.Instance.Port = 81
			e.Instance.Tags = []string{"b", "a"}
			e.Instance.Meta = map[string]string{service.MetaCluster: cluster, service.MetaNode: node, service.MetaPodUID: "1", "team": "x", "extra": ""}
			e.Instance.Tagged = map[string]netip.Addr{service.TaggedLANIPv4: {}, service.TaggedLANIPv6: netip.MustParseAddr("fd00::7")}
			e.Instance.Weights.Warning = 0
			e.Instance.CheckTTL = time.Minute
		})}, nil, []string{`register | web@1 | passing | name differs: is "www", should be "web"; ` +
			`address differs: is 198.18.64.8, should be 198.18.64.7; port differs: is 81, should be 80; ` +
			`tagged addresses differ: lan_ipv4, lan_ipv6; tags differ; meta differs: extra, team; ` +
			`weights differ: are 1 and 0, should be 1 and 1; check TTL differs: is 1m0s, should be 1h0m0s`}},
		{"fields and health, entering: registered first", pods{passing},
			entries{entry(passing, "web", otherPort, health(service.Critical))}, nil, []string{
				"register | web@1 | passing | port differs: is 81, should be 80",
				"set-health | web@1 | passing | notes: passing",
			}},
		{"fields and health, leaving: critical first", pods{critical},
			entries{entry(critical, "web", otherPort, health(service.Passing))}, nil, []string{
				"set-health | web@1 | critical | notes: critical",
				"register | web@1 | critical | port differs: is 81, should be 80",
			}},
		{"the check was lost", pods{passing}, entries{entry(passing, "web", noCheck)}, nil,
			[]string{"register | web@1 | passing | the entry has no health check"}},

		{"terminating", pods{terminating}, entries{entry(passing, "web")}, nil,
			[]string{"set-health | web@1 | critical | pod is terminating"}},
		{"terminating and critical: stays until the pod is gone", pods{terminating}, entries{entry(critical, "web")}, nil, nil},
		{"terminating is not registered anew", pods{terminating}, nil, nil, nil},
		{"gone, step 1", nil, entries{entry(passing, "web")}, map[string]string{"1": "deletion seen"},
			[]string{"set-health | web@1 | critical | pod is gone: deletion seen"}},
		{"gone, step 2", nil, entries{entry(critical, "web")}, map[string]string{"1": "deletion seen"},
			[]string{"deregister | web@1 | critical | pod is gone: deletion seen"}},
		{"gone wins over a stale list", pods{passing}, entries{entry(critical, "web")}, map[string]string{"1": "deletion seen"},
			[]string{"deregister | web@1 | critical | pod is gone: deletion seen"}},
		{"gone is not registered anew", pods{passing}, nil, map[string]string{"1": "deletion seen"}, nil},
		{"gone without a check", nil, entries{entry(passing, "web", noCheck)}, map[string]string{"1": "deletion seen"},
			[]string{"register | web@1 | critical | pod is gone: deletion seen; the entry has no health check"}},
		{"ended, step 1", pods{ended}, entries{entry(passing, "web")}, nil,
			[]string{"set-health | web@1 | critical | pod has ended: phase Failed"}},
		{"ended, step 2", pods{ended}, entries{entry(critical, "web")}, nil,
			[]string{"deregister | web@1 | critical | pod has ended: phase Failed"}},
		{"ended is not registered", pods{ended}, nil, nil, nil},
		{"not declared any more, step 1", pods{silent}, entries{entry(passing, "web")}, nil,
			[]string{`set-health | web@1 | critical | the pod does not declare service "web" any more`}},
		{"not declared any more, step 2", pods{silent}, entries{entry(critical, "web")}, nil,
			[]string{`deregister | web@1 | critical | the pod does not declare service "web" any more`}},

		{"unknown pod", nil, entries{entry(passing, "web")}, nil,
			[]string{"held | web@1 | pod shop/pod-1 (UID 1) is not on the list, and nothing proves that it is gone"}},
		{"an entry that names no pod", pods{passing}, entries{entry(passing, "web"), entry(livePod("", service.Passing), "web")}, nil,
			[]string{"held | web@ | the entry names no pod UID, so nothing can prove that its pod is gone"}},
		{"not understood: follows health", pods{incomplete}, entries{entry(passing, "web", otherPort)}, nil,
			[]string{"set-health | web@1 | critical | notes: critical"}},
		{"not understood: stays", pods{incomplete}, entries{entry(critical, "web", otherPort)}, nil, nil},
		{"not understood: gets a check", pods{incomplete}, entries{entry(critical, "web", noCheck)}, nil,
			[]string{"register | web@1 | critical | the entry has no health check"}},

		{"not understood, but its health is fixed", pods{fixedAt(service.Warning)}, entries{entry(passing, "web")}, nil,
			[]string{"set-health | web@1 | warning | fixed by the annotation service-health"}},
		{"its fixed health is not understood", pods{fixedAt("")}, entries{entry(passing, "web")}, nil, nil},
		{"its fixed health is not understood, and there is none yet", pods{fixedAt("")}, entries{entry(passing, "web", noCheck)}, nil,
			[]string{"register | web@1 | critical | the entry has no health check"}},

		{"replaced: kept", pods{passing}, entries{entry(passing, "web", oldID)}, nil, []string{
			"register | web@1 | passing | not registered yet",
			"replaced | old_fairway_web_shop_pod-1_1 | kept until fairway_web_shop_pod-1_1 is in service, which the pod wants instead",
		}},
		{"replaced: kept until the other passes", pods{passing}, entries{entry(passing, "web", oldID), entry(passing, "web", health(service.Critical))}, nil, []string{
			"set-health | web@1 | passing | notes: passing",
			"replaced | old_fairway_web_shop_pod-1_1 | kept until fairway_web_shop_pod-1_1 is in service, which the pod wants instead",
		}},
		{"replaced: kept until the other is where the pod is", pods{passing}, entries{entry(passing, "web", oldID), entry(passing, "web", otherPort)}, nil, []string{
			"register | web@1 | passing | port differs: is 81, should be 80",
			"replaced | old_fairway_web_shop_pod-1_1 | kept until fairway_web_shop_pod-1_1 is in service, which the pod wants instead",
		}},
		{"replaced: kept while another cluster has the ID", pods{passing}, entries{entry(passing, "web", oldID), entry(passing, "web", owner("c2", node))}, nil, []string{
			"replaced | old_fairway_web_shop_pod-1_1 | kept until fairway_web_shop_pod-1_1 is in service, which the pod wants instead",
		}},
		{"replaced: leaves", pods{passing}, entries{entry(passing, "web", oldID), entry(passing, "web")}, nil,
			[]string{`set-health | web@1 | critical | the pod wants service "web" under another ID now`}},
		{"replaced: not kept if it serves nobody", pods{passing}, entries{entry(passing, "web", oldID, health(service.Critical))}, nil, []string{
			"register | web@1 | passing | not registered yet",
			`deregister | web@1 | critical | the pod wants service "web" under another ID now`,
		}},
		{"replaced: not kept if the pod is not ready", pods{critical}, entries{entry(passing, "web", oldID)}, nil, []string{
			`set-health | web@1 | critical | the pod wants service "web" under another ID now`,
			"register | web@1 | critical | not registered yet",
		}},

		{"foreign", pods{passing}, entries{entry(passing, "web"),
			entry(livePod("2", service.Passing), "web", owner("c2", node)),
			entry(livePod("3", service.Passing), "web", owner(cluster, "n2")),
			entry(livePod("4", service.Passing), "web", owner("", "")),
		}, map[string]string{"2": "x", "3": "x", "4": "x"}, nil},

		{"order: leaving, registering, entering, removing", pods{
			livePod("a", service.Passing, "web"), livePod("b", service.Passing, "new1", "new0"), livePod("d", service.Critical, "web"),
		}, entries{
			entry(livePod("a", service.Critical), "web"), entry(livePod("c", service.Critical), "web"),
			entry(livePod("d", service.Passing), "web"), entry(livePod("c", service.Critical), "api"),
		}, map[string]string{"c": "x"}, []string{
			"set-health | web@d | critical | notes: critical",
			"register | new0@b | passing | not registered yet",
			"register | new1@b | passing | not registered yet",
			"set-health | web@a | passing | notes: passing",
			"deregister | api@c | critical | pod is gone: x",
			"deregister | web@c | critical | pod is gone: x",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan := registration.Decide(registration.Input{
				Cluster: cluster, Node: node, Claims: tt.pods, Entries: tt.entries, Gone: tt.gone,
			})
			if diff := cmp.Diff(tt.want, lines(plan)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			foreign := 0
			for _, e := range tt.entries {
				if e.Cluster != cluster || e.Node != node {
					foreign++
				}
			}
			if plan.Foreign != foreign {
				t.Errorf("%d foreign entries counted, want %d", plan.Foreign, foreign)
			}
		})
	}
}

// An ID that a foreign entry holds is refused, and says so.
func TestI5TakenID(t *testing.T) {
	pod := livePod("1", service.Passing, "web", "api")
	taken := entry(pod, "web", owner("c2", "n9"))
	plan := registration.Decide(registration.Input{
		Cluster: cluster, Node: node, Claims: []registration.Claim{pod}, Entries: []registration.Entry{taken},
	})
	want := registration.Plan{
		Ops:     []registration.Op{{Kind: registration.Register, Instance: pod.Instances[1], Reason: "not registered yet"}},
		Foreign: 1,
		Refused: map[string]string{taken.Instance.ID: `the registry holds an entry of this ID that belongs to ` +
			`cluster "c2", node "n9"; this is cluster "c1", node "n1"`},
	}
	if diff := cmp.Diff(want, plan, cmp.Comparer(sameAddr)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }

func TestWant(t *testing.T) {
	pod := service.Pod{
		Ref:             service.PodRef{Namespace: "shop", Name: "web-0", UID: "1"},
		Annotations:     map[string]string{"fairway.dev/service-names": "web", "fairway.dev/service-port": "80"},
		Addresses:       []netip.Addr{netip.MustParseAddr("198.18.64.7")},
		Phase:           service.PhaseRunning,
		ContainersReady: true,
	}
	change := func(f func(*service.Pod)) service.Pod {
		p := pod
		p.Annotations = maps.Clone(pod.Annotations)
		f(&p)
		return p
	}
	tests := []struct {
		name string
		pod  service.Pod
		want registration.Claim // without instances
		n    int                // how many of those
	}{
		{"ready", pod, registration.Claim{Health: service.Passing, Notes: "containers are ready"}, 1},
		{"terminating", change(func(p *service.Pod) { p.Terminating = true }),
			registration.Claim{Health: service.Critical, Notes: "pod is terminating", Terminating: true}, 1},
		{"ended", change(func(p *service.Pod) { p.Phase = service.PhaseSucceeded }),
			registration.Claim{Health: service.Critical, Notes: "pod has ended: phase Succeeded", Ended: true}, 1},
		{"no address", change(func(p *service.Pod) { p.Addresses = nil }),
			registration.Claim{Health: service.Passing, Notes: "containers are ready", Incomplete: true}, 0},
		{"one bad service", change(func(p *service.Pod) { p.Annotations["fairway.dev/service-names"] = "web,_" }),
			registration.Claim{Health: service.Passing, Notes: "containers are ready", Incomplete: true}, 1},
		{"misspelled opt-in", change(func(p *service.Pod) { p.Annotations = map[string]string{"fairway.dev/service-name": "web"} }),
			registration.Claim{Health: service.Passing, Notes: "containers are ready", Incomplete: true}, 0},
		{"not ready but for a container that does not count", change(func(p *service.Pod) {
			p.ContainersReady, p.Containers = false, []service.Container{{Name: "app", Ready: true}, {Name: "gate"}}
			p.Annotations["fairway.dev/sidecar"] = "gate"
		}), registration.Claim{Health: service.Passing, Notes: "containers are ready (not counting gate)"}, 1},
		{"declares nothing", change(func(p *service.Pod) { p.Annotations = nil }),
			registration.Claim{Health: service.Passing, Notes: "containers are ready"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := registration.Want(tt.pod, annotation.Parse(tt.pod), cluster, node, time.Hour)
			tt.want.Pod = pod.Ref
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(registration.Claim{}, "Instances")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if len(got.Instances) != tt.n {
				t.Fatalf("%d instances, want %d", len(got.Instances), tt.n)
			}
			for _, i := range got.Instances {
				if i.Health != got.Health || i.Notes != got.Notes {
					t.Errorf("instance has health %s (%s), the pod %s (%s)", i.Health, i.Notes, got.Health, got.Notes)
				}
				if i.Meta[service.MetaCluster] != cluster || i.Meta[service.MetaNode] != node || len(i.Meta) != service.MetaOwned {
					t.Errorf("meta %v, want the %d keys of Fairway, with cluster and node", i.Meta, service.MetaOwned)
				}
			}
		})
	}
}

// A fixed health counts while the pod runs, and no longer (I4).
func TestWantFixedHealth(t *testing.T) {
	pod := service.Pod{
		Ref: service.PodRef{Namespace: "shop", Name: "web-0", UID: "1"},
		Annotations: map[string]string{
			"fairway.dev/service-names": "web,api,db", "fairway.dev/service-port": "80",
			"fairway.dev/service-health": "passing", "fairway.dev/service-health-api": "warning", "fairway.dev/service-health-db": "ill",
		},
		Addresses: []netip.Addr{netip.MustParseAddr("198.18.64.7")},
		Phase:     service.PhaseRunning,
	}
	tests := []struct {
		name   string
		change func(*service.Pod)
		want   []service.Health // of web and api; db is not understood
	}{
		{"not ready", func(*service.Pod) {}, []service.Health{service.Passing, service.Warning}},
		{"terminating", func(p *service.Pod) { p.Terminating = true }, []service.Health{service.Critical, service.Critical}},
		{"ended", func(p *service.Pod) { p.Phase = service.PhaseFailed }, []service.Health{service.Critical, service.Critical}},
		{"not started", func(p *service.Pod) { p.Phase = service.PhasePending }, []service.Health{service.Critical, service.Critical}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := pod
			tt.change(&p)
			state := registration.Want(p, annotation.Parse(p), cluster, node, time.Hour)
			var got []service.Health
			for _, in := range state.Instances {
				got = append(got, in.Health)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if _, fixed := state.Fixed.For("db"); fixed != p.Running() {
				t.Errorf("the health of db is kept: %v; want that while the pod runs", fixed)
			}
		})
	}
}

// A pod's own dead-man goes before the agent's, and where the registry has none
// there is none.
func TestWantCheckTTL(t *testing.T) {
	pod := service.Pod{
		Annotations: map[string]string{"fairway.dev/service-names": "web", "fairway.dev/service-port": "80"},
		Addresses:   []netip.Addr{netip.MustParseAddr("198.18.64.7")},
	}
	ttl := func(agents time.Duration) time.Duration {
		return registration.Want(pod, annotation.Parse(pod), cluster, node, agents).Instances[0].CheckTTL
	}
	if got := ttl(time.Hour); got != time.Hour {
		t.Errorf("without annotation: %s, want the agent's 1h", got)
	}
	pod.Annotations["fairway.dev/service-check-ttl"] = "30s"
	if got := ttl(time.Hour); got != 30*time.Second {
		t.Errorf("with annotation: %s, want its 30s", got)
	}
	if got := ttl(0); got != 0 {
		t.Errorf("in a registry without dead-men: %s, want none", got)
	}
}
