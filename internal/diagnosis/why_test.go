package diagnosis_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

var now = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return now.Add(-d) }

// webPod is ready, gated and open, and declares web.
func webPod(n int) service.Pod {
	return service.Pod{
		Ref:                  service.PodRef{Namespace: "shop", Name: fmt.Sprintf("web-%d", n), UID: fmt.Sprintf("uid-%d", n)},
		Annotations:          map[string]string{"fairway.dev/service-names": "web", "fairway.dev/service-port": "8080"},
		Addresses:            []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 64, byte(n)})},
		Phase:                service.PhaseRunning,
		ContainersReady:      true,
		ContainersReadySince: before(time.Minute),
		Gates:                []service.Gate{{Type: service.GateReachable, Open: true}},
		Conditions: map[string]service.Condition{service.GateReachable: {
			Status: service.ConditionTrue, Reason: gate.Reachable, Message: "passing at the servers: web (index 41)", Since: before(time.Minute),
		}},
	}
}

// listed is the entry of a pod as its agent would have made it, given to clients.
func listed(pod service.Pod, node string) diagnosis.Listed {
	state := registration.Want(pod, annotation.Parse(pod), "east", node, 0)
	in := state.Instances[0]
	in.Health = service.Passing
	return diagnosis.Listed{
		Entry:      registration.Entry{Instance: in, Cluster: "east", Node: node, HasCheck: true},
		ConsulNode: node, Given: true,
	}
}

// hide makes the servers keep an entry from clients.
func hide(entry diagnosis.Listed, why string) diagnosis.Listed {
	entry.Given, entry.Why = false, why
	return entry
}

// foreign is an entry of somebody else at an address.
func foreign(id, address string) diagnosis.Listed {
	in := service.Instance{ID: id, Name: "web", Address: netip.MustParseAddr(address), Port: 8080}
	return diagnosis.Listed{Entry: registration.Entry{Instance: in}, ConsulNode: "vm-1", Given: true}
}

func held(pod service.Pod, health service.Health) nodeview.Entry {
	return nodeview.Entry{
		ID: service.InstanceID("web", pod.Ref), Service: "web", Pod: nodeview.Ref(pod.Ref), Address: "198.18.64.1", Port: 8080, Health: health,
	}
}

// healthy is a pod with which all is well.
func healthy() diagnosis.PodFacts {
	pod := webPod(1)
	return diagnosis.PodFacts{
		Pod: pod, Declared: annotation.Parse(pod), Node: "n1", Cluster: "east", Created: before(2 * time.Minute),
		Agent: diagnosis.AgentFacts{
			Namespace: "fairway-system", Name: "fairway-agent-1", Ready: service.Condition{Status: service.ConditionTrue},
			View: &nodeview.View{
				Version: "v1.0.0", Node: "n1", Cluster: "east",
				Sources: []nodeview.Source{{Name: "podsapi", Synced: true}},
				Pods:    []nodeview.Pod{{Pod: nodeview.Ref(pod.Ref), Health: service.Passing}},
				Entries: []nodeview.Entry{held(pod, service.Passing)},
				Servers: nodeview.Servers{At: before(5 * time.Second), Health: map[string]service.Health{service.InstanceID("web", pod.Ref): service.Passing}},
			},
		},
		Listings: []diagnosis.Listing{{Service: "web", Index: 42, Entries: []diagnosis.Listed{listed(pod, "n1"), listed(webPod(2), "n2")}}},
		Now:      now,
	}
}

// change edits the pod of the facts, and reads its annotations anew.
func change(f *diagnosis.PodFacts, edit func(*service.Pod)) {
	f.Pod.Annotations = maps.Clone(f.Pod.Annotations)
	f.Pod.Conditions = maps.Clone(f.Pod.Conditions)
	edit(&f.Pod)
	f.Declared = annotation.Parse(f.Pod)
}

// shut closes the gate, for a reason.
func shut(reason string) func(*service.Pod) {
	return func(p *service.Pod) {
		p.Gates = []service.Gate{{Type: service.GateReachable}}
		p.Conditions[service.GateReachable] = service.Condition{Status: service.ConditionFalse, Reason: reason, Message: "the gate's words", Since: before(30 * time.Second)}
	}
}

// away makes the servers unreachable from here.
func away(f *diagnosis.PodFacts) {
	f.Listings = []diagnosis.Listing{{Service: "web", Problem: "connection refused"}}
}

// all is a report as one text.
func all(r diagnosis.PodReport) string {
	var text strings.Builder
	fmt.Fprintln(&text, r.Headline)
	for _, s := range r.Sections {
		for _, f := range s.Findings {
			fmt.Fprintf(&text, "%s %s %s: %s > %s\n", s.Title, f.State, f.Reason, f.Text, f.Remedy)
		}
	}
	fmt.Fprintln(&text, "next:", r.Next)
	return text.String()
}

func TestWhy(t *testing.T) {
	const (
		fine, bad, unknown = "fine", "bad", "unknown"
		nothing            = "next: nothing to do"
	)
	for name, c := range map[string]struct {
		edit    func(*diagnosis.PodFacts)
		verdict diagnosis.Verdict
		end     string
		words   []string
	}{
		"all is well": {func(*diagnosis.PodFacts) {}, diagnosis.Found, fine, []string{
			"pod shop/web-1 is found by clients\n", "web at 198.18.64.1, port 8080", "containers are ready, for 1m0s",
			"fairway-agent-1 is ready, version v1.0.0", "web is registered as passing",
			"web: given to clients; 1 other is passing (index 42)", "open for 1m0s: Reachable: passing at the servers", nothing}},
		"a bad annotation": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) {
				p.Annotations["fairway.dev/service-port"] = "htp"
				shut(gate.InvalidAnnotation)(p)
			})
			f.Listings[0].Entries = f.Listings[0].Entries[1:]
		}, diagnosis.NotFound, bad, []string{`is not found by clients: fairway.dev/service-port: "htp" is neither`,
			"next: correct the annotation fairway.dev/service-port", "web, of which not everything is known yet"}},
		"a bad annotation of a pod that is registered": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) { p.Annotations["fairway.dev/service-port"] = "htp" })
		}, diagnosis.Found, bad, []string{"is found by clients, but not all is well: fairway.dev/service-port:", "given to clients as it was registered last"}},
		"nothing declared": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) { p.Annotations, p.Gates = nil, nil })
			f.Listings = nil
		}, diagnosis.Silent, bad, []string{"publishes nothing: it has no annotation fairway.dev/service-names", "next: to publish it, add"}},
		"a gate and nothing declared": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) { p.Annotations = nil; shut(gate.NothingDeclared)(p) })
			f.Listings = nil
		}, diagnosis.NotFound, bad, []string{"or take the readiness gate out of the pod's template"}},
		"kept critical by an annotation": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) { p.Annotations["fairway.dev/service-health"] = "critical" })
			f.Listings[0].Entries[0] = hide(f.Listings[0].Entries[0], "its own check is critical")
		}, diagnosis.NotFound, bad, []string{"kept at critical by the annotation service-health", "not given to clients, as it should be"}},
		"no node": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) {
				p.Addresses, p.Phase = nil, service.PhasePending
				shut(gate.WaitingForAddress)(p)
			})
			f.Node, f.Unscheduled, f.Agent, f.Listings = "", "0/2 nodes are available", diagnosis.AgentFacts{}, nil
		}, diagnosis.NotFound, bad, []string{"no node yet, created 2m0s ago (0/2 nodes are available)", "next: see why no node takes it: kubectl -n shop describe pod web-1"}},
		"no address": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) { p.Addresses = nil; shut(gate.WaitingForAddress)(p) })
			f.Listings[0].Entries = nil
		}, diagnosis.NotFound, bad, []string{"has no address yet on node n1"}},
		"containers are not ready": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) {
				p.ContainersReady, p.NotReadyMessage = false, "containers with unready status: [app]"
				shut(gate.WaitingForContainers)(p)
			})
			f.Listings[0].Entries[0] = hide(f.Listings[0].Entries[0], "its own check is critical")
		}, diagnosis.NotFound, bad, []string{"is not found by clients: containers are not ready: containers with unready status: [app], for 1m0s",
			"servers ok NotGiven: web: not given to clients, as it should be", "1 other is passing", "next: as without Fairway: kubectl -n shop describe pod web-1"}},
		"another gate": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) {
				shut(gate.WaitingForOtherGates)(p)
				p.Gates = append(p.Gates, service.Gate{Type: "example.com/lb"})
			})
			f.Listings[0].Entries[0] = hide(f.Listings[0].Entries[0], "its own check is critical")
		}, diagnosis.NotFound, bad, []string{"next: ask the owner of the readiness gate example.com/lb"}},
		"katalog-sync's gate": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) {
				shut(gate.WaitingForOtherGates)(p)
				p.Gates = append(p.Gates, service.Gate{Type: service.GateKatalog})
			})
			f.Listings[0].Entries[0] = hide(f.Listings[0].Entries[0], "its own check is critical")
		}, diagnosis.NotFound, bad, []string{"next: see why katalog-sync does not open it"}},
		"not ready and still given": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) { p.ContainersReady = false })
		}, diagnosis.Found, bad, []string{"still given to clients, and should not be: containers are not ready"}},
		"no agent, and all is registered": {func(f *diagnosis.PodFacts) {
			f.Agent = diagnosis.AgentFacts{Namespace: "fairway-system"}
		}, diagnosis.Found, fine, []string{"agent warning NoAgent: no agent on node n1", "kubectl -n fairway-system get pods -o wide"}},
		"no agent, and the gate waits": {func(f *diagnosis.PodFacts) {
			f.Agent = diagnosis.AgentFacts{Namespace: "fairway-system"}
			change(f, func(p *service.Pod) { shut("")(p); delete(p.Conditions, service.GateReachable) })
			f.Listings[0].Entries = f.Listings[0].Entries[1:]
		}, diagnosis.NotFound, bad, []string{"is not found by clients: no agent on node n1", "no agent has written why yet"}},
		"the agent is not ready": {func(f *diagnosis.PodFacts) {
			f.Agent.Ready = service.Condition{Status: service.ConditionFalse, Since: before(time.Hour)}
			f.Agent.View, f.Agent.ViewProblem = nil, "connection refused"
		}, diagnosis.Found, fine, []string{"fairway-agent-1 on node n1 is not ready, for 1h0m", "could not be asked: connection refused", "not all could be found out"}},
		"the agents may not be listed": {func(f *diagnosis.PodFacts) {
			f.Agent = diagnosis.AgentFacts{Problem: "forbidden"}
		}, diagnosis.Found, fine, []string{"agent unknown AgentUnknown", "docs/cli.md"}},
		"the agent publishes nothing": {func(f *diagnosis.PodFacts) {
			change(f, shut(gate.WaitingForServers))
			f.Agent.View.Blocked, f.Agent.View.Entries = "no usable answer from Consul", nil
			f.Listings[0].Entries = f.Listings[0].Entries[1:]
		}, diagnosis.NotFound, bad, []string{"is not found by clients: its agent publishes nothing for now, and takes nothing away: no usable answer",
			"next: see whether Consul answers", "web is not registered"}},
		"the agent has not seen it": {func(f *diagnosis.PodFacts) {
			change(f, shut(gate.WaitingForServers))
			f.Agent.View.Pods, f.Agent.View.Entries = nil, nil
			f.Agent.View.Sources[0].Problem = "no such socket"
			f.Listings[0].Entries = nil
		}, diagnosis.NotFound, bad, []string{"its agent has not seen this pod yet", `source of pods "podsapi" does not answer: no such socket`, "next: read its log: kubectl -n fairway-system logs fairway-agent-1"}},
		"the registry refuses": {func(f *diagnosis.PodFacts) {
			change(f, shut(gate.RegistryRefused))
			f.Agent.View.Entries = nil
			f.Agent.View.Plan = nodeview.Plan{
				Writes:  []nodeview.Write{{Kind: "register", Entry: held(f.Pod, service.Passing), Reason: "not registered yet", Failed: "denied by Consul's ACLs", Tries: 3, Next: now.Add(2 * time.Second)}},
				Refused: []nodeview.Refused{{ID: service.InstanceID("web", f.Pod.Ref), Reason: "denied by Consul's ACLs"}},
			}
			f.Listings[0].Entries = nil
		}, diagnosis.NotFound, bad, []string{"about to register (passing) web: not registered yet; failed 3 times: denied by Consul's ACLs; tried again in 2s",
			"next: give the agents' Consul token the rights"}},
		"the registry refuses what has no write": {func(f *diagnosis.PodFacts) {
			f.Agent.View.Plan.Refused = []nodeview.Refused{{ID: service.InstanceID("web", f.Pod.Ref), Reason: `it belongs to cluster "west"`}}
		}, diagnosis.Found, bad, []string{"the registry does not take web", "see clusterID"}},
		"hidden by its node": {func(f *diagnosis.PodFacts) {
			change(f, shut(gate.NotPassingAtServers))
			f.Listings[0].Entries[0] = hide(f.Listings[0].Entries[0], "the node's serfHealth is critical")
		}, diagnosis.NotFound, bad, []string{"keep it from clients: the node's serfHealth is critical", "next: the servers do not hear the node's Consul agent"}},
		"not in the catalog": {func(f *diagnosis.PodFacts) {
			change(f, shut(gate.NotPassingAtServers))
			f.Listings[0].Entries = f.Listings[0].Entries[1:]
		}, diagnosis.NotFound, bad, []string{"web: the servers do not have it; 1 other is passing", "next: wait a moment; if it lasts: read its log"}},
		"given, and the gate not open": {func(f *diagnosis.PodFacts) {
			change(f, shut(gate.WaitingForServers))
		}, diagnosis.NotReady, bad, []string{"is found by clients, but is not Ready: not open for 30s: WaitingForServers: the gate's words"}},
		"given with another port": {func(f *diagnosis.PodFacts) {
			f.Listings[0].Entries[0].Instance.Port = 9090
		}, diagnosis.Found, bad, []string{"not as the pod asks for: port differs: is 9090, should be 8080"}},
		"the cluster is not known": {func(f *diagnosis.PodFacts) { f.Cluster = "" }, diagnosis.Found, fine, []string{nothing}},
		"not gated":                {func(f *diagnosis.PodFacts) { change(f, func(p *service.Pod) { p.Gates = nil }) }, diagnosis.Found, fine, []string{"gate note NotGated"}},
		"under two Consul nodes": {func(f *diagnosis.PodFacts) {
			twin := f.Listings[0].Entries[0]
			twin.ConsulNode = "fairway-east-n1"
			f.Listings[0].Entries = append(f.Listings[0].Entries, twin)
		}, diagnosis.Found, fine, []string{"the same entry stands under Consul nodes n1, fairway-east-n1"}},
		"no longer declared": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) { p.Annotations["fairway.dev/service-names"] = "api" })
			f.Listings = append(f.Listings, diagnosis.Listing{Service: "api"})
		}, diagnosis.NotFound, bad, []string{"web: given to clients, and not declared any more", "api: the servers do not have it; no other is passing"}},
		"the servers cannot be asked": {away, diagnosis.Uncertain, unknown, []string{
			"is passing at the servers, as its node's agent hears; this shell could not ask them", "web: not known: connection refused; as the node's agent has it from them, it was passing 5s ago", "next: let this shell reach Consul"}},
		"nor by the agent": {func(f *diagnosis.PodFacts) {
			away(f)
			f.Agent.View.Servers.Problem = "no usable answer from Consul"
			change(f, shut(gate.WaitingForServers))
		}, diagnosis.Uncertain, bad, []string{"is not Ready, and nobody could ask the servers whether clients find it", "it hears nothing since: no usable answer from Consul", "not open for 30s"}},
		"the agent cannot ask the servers, and the gate waits": {func(f *diagnosis.PodFacts) {
			away(f)
			f.Agent.View.Servers.Problem = "no usable answer from Consul"
			change(f, shut(gate.WaitingForServers))
		}, diagnosis.Uncertain, bad, []string{"whether clients find it: its agent cannot ask the Consul servers: no usable answer", "next: see whether the Consul servers run"}},
		"the agent cannot ask the servers, and the gate is open": {func(f *diagnosis.PodFacts) {
			f.Agent.View.Servers.Problem = "no usable answer from Consul"
		}, diagnosis.Found, fine, []string{"agent warning ServersAway"}},
		"nothing is registered of a pod with a bad annotation": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) { p.Annotations["fairway.dev/service-port"] = "htp" })
			f.Listings[0].Entries = f.Listings[0].Entries[1:]
		}, diagnosis.NotFound, bad, []string{"servers note NotGiven: web: the servers have nothing of this pod; 1 other is passing"}},
		"its node is not heard": {func(f *diagnosis.PodFacts) {
			f.Ready = service.Condition{Status: service.ConditionFalse, Since: before(time.Minute)}
		}, diagnosis.Found, fine, []string{"gate warning NotReadyAllTheSame: the pod is not Ready all the same, for 1m0s > see whether the node is Ready: kubectl get node n1"}},
		"ended": {func(f *diagnosis.PodFacts) {
			change(f, func(p *service.Pod) { p.Phase, p.ContainersReady = service.PhaseSucceeded, false })
			f.Listings[0].Entries = nil
		}, diagnosis.Left, fine, []string{"has ended, and is given to clients no longer\n", "all containers have stopped: phase Succeeded"}},
		"events": {func(f *diagnosis.PodFacts) {
			f.Events = []diagnosis.Event{{Warning: true, Reason: "InvalidAnnotation", Message: "the words", Last: before(time.Hour), Count: 3}}
		}, diagnosis.Found, fine, []string{"events warning InvalidAnnotation: 1h0m ago (3 times): InvalidAnnotation: the words"}},
		"events cannot be read": {func(f *diagnosis.PodFacts) { f.EventsProblem = "forbidden" }, diagnosis.Found, fine,
			[]string{"events unknown EventsUnknown: could not be read: forbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			c.edit(&f)
			r := diagnosis.Why(f)
			text := all(r)
			if r.Verdict != c.verdict {
				t.Errorf("verdict %s, want %s:\n%s", r.Verdict, c.verdict, text)
			}
			isFine, known := r.Fine()
			if end := map[[2]bool]string{{true, true}: fine, {false, true}: bad, {true, false}: unknown}[[2]bool{isFine, known}]; end != c.end {
				t.Errorf("ends %s, want %s:\n%s", end, c.end, text)
			}
			for _, word := range c.words {
				if !strings.Contains(text, word) {
					t.Errorf("does not say %q:\n%s", word, text)
				}
			}
		})
	}
}

// A pod that ends says how far that is confirmed.
func TestWhyOfLeavingPod(t *testing.T) {
	leaving := func(edit func(*diagnosis.PodFacts)) diagnosis.PodReport {
		f := healthy()
		change(&f, func(p *service.Pod) {
			p.Terminating = true
			p.Containers = []service.Container{{Name: "app"}, {Name: "fairway-gate"}}
		})
		f.Deleted, f.Killed = before(12*time.Second), now.Add(18*time.Second)
		f.Listings[0].Entries[0] = hide(f.Listings[0].Entries[0], "its own check is critical")
		f.Agent.View.Drains = []nodeview.Drain{{
			Pod: nodeview.Ref(f.Pod.Ref), Asked: before(12 * time.Second), Reason: "WaitingForRegistry", Message: "the words",
			Since: before(10 * time.Second), Until: now.Add(8 * time.Second),
		}}
		edit(&f)
		return diagnosis.Why(f)
	}
	drain := func(edit func(*nodeview.Drain)) func(*diagnosis.PodFacts) {
		return func(f *diagnosis.PodFacts) { edit(&f.Agent.View.Drains[0]) }
	}
	for name, c := range map[string]struct {
		edit    func(*diagnosis.PodFacts)
		verdict diagnosis.Verdict
		words   string
	}{
		"waiting": {func(*diagnosis.PodFacts) {}, diagnosis.Left,
			"it asked to be taken out 12s ago, waits for 10s, and 8s more at most: WaitingForRegistry: the words"},
		"in time":       {func(*diagnosis.PodFacts) {}, diagnosis.Left, "it is ended in 18s at the latest"},
		"out":           {drain(func(d *nodeview.Drain) { d.Out, d.Ended = true, "out" }), diagnosis.Left, "is proven out for 10s: the words"},
		"not confirmed": {drain(func(d *nodeview.Drain) { d.Ended = "not-confirmed" }), diagnosis.Left, "was not confirmed in time; it waited for WaitingForRegistry"},
		"hung up":       {drain(func(d *nodeview.Drain) { d.Ended = "broken-off" }), diagnosis.Left, "and hung up"},
		"not asked":     {func(f *diagnosis.PodFacts) { f.Agent.View.Drains = nil }, diagnosis.Left, "its sidecar fairway-gate has not asked"},
		"no sidecar": {func(f *diagnosis.PodFacts) { f.Agent.View.Drains, f.Pod.Containers = nil, nil }, diagnosis.Left,
			"nothing holds its end until clients have left"},
		"no view": {func(f *diagnosis.PodFacts) { f.Agent.View = nil }, diagnosis.Left, "whether it waits for clients to leave is not known"},
		"overdue": {func(f *diagnosis.PodFacts) { f.Killed = before(time.Minute) }, diagnosis.Left, "should have ended 1m0s ago"},
		"still given": {func(f *diagnosis.PodFacts) { f.Listings[0].Entries[0].Given = true }, diagnosis.Leaving,
			"ends, and is still given to clients: web: still given to clients, and should not be: pod is terminating"},
		"still given under an old name": {func(f *diagnosis.PodFacts) {
			old := listed(f.Pod, "n1")
			old.Instance.ID, old.Instance.Name = "old", "old"
			f.Listings = append(f.Listings, diagnosis.Listing{Service: "old", Entries: []diagnosis.Listed{old}})
		}, diagnosis.Leaving, "old: still given to clients, though the pod ends"},
		"unknown": {away, diagnosis.Uncertain, "may still be given to clients"},
	} {
		t.Run(name, func(t *testing.T) {
			r := leaving(c.edit)
			if text := all(r); r.Verdict != c.verdict || !strings.Contains(text, c.words) {
				t.Errorf("verdict %s, want %s and %q:\n%s", r.Verdict, c.verdict, c.words, text)
			}
		})
	}
}

// TestI1UnknownIsSaid: whatever cannot be found out is said to be unknown, and
// nothing is claimed to be missing for it.
func TestI1UnknownIsSaid(t *testing.T) {
	f := healthy()
	f.Agent = diagnosis.AgentFacts{Problem: "forbidden"}
	f.EventsProblem = "forbidden"
	away(&f)
	r := diagnosis.Why(f)
	states := map[string]diagnosis.State{}
	for _, s := range r.Sections {
		for _, finding := range s.Findings {
			states[s.Title] = finding.State
			if finding.State == diagnosis.Problem {
				t.Errorf("%s: a problem: %s", s.Title, finding.Text)
			}
		}
	}
	for _, title := range []string{"agent", "servers", "events"} {
		if states[title] != diagnosis.Unknown {
			t.Errorf("%s is %s, want unknown:\n%s", title, states[title], all(r))
		}
	}
	if fine, known := r.Fine(); !fine || known {
		t.Errorf("fine %v, known %v: want not known", fine, known)
	}

	report := diagnosis.Verify(diagnosis.CatalogFacts{
		Cluster: "east", Pods: []diagnosis.Placed{{Pod: webPod(1), Node: "n1"}}, Listings: f.Listings,
	})
	if len(report.Differences) != 0 || len(report.Unknown) != 1 || report.Given != 0 {
		t.Errorf("verify without servers: %+v", report)
	}

	doctor := diagnosis.Doctor(diagnosis.InstallationFacts{
		DaemonSetProblem: "forbidden", AgentsProblem: "forbidden", PodsProblem: "forbidden", KatalogProblem: "forbidden",
		Policies: []diagnosis.Policy{{Name: "p", Problem: "forbidden"}}, Consul: diagnosis.ConsulFacts{Problem: "refused"},
	})
	for _, s := range doctor.Sections {
		if i := slices.IndexFunc(s.Findings, func(f diagnosis.Finding) bool { return f.State != diagnosis.Unknown }); i >= 0 {
			t.Errorf("%s: %+v", s.Title, s.Findings[i])
		}
	}
	if fine, known := doctor.Fine(); !fine || known || len(doctor.Sections) != 6 {
		t.Errorf("fine %v, known %v, %d sections", fine, known, len(doctor.Sections))
	}
}
