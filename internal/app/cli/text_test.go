package cli

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/app/controller"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/service"
)

func TestPodName(t *testing.T) {
	for args, want := range map[string]string{
		"web-1": "web-1", "pod/web-1": "web-1", "pods/web-1": "web-1", "po/web-1": "web-1", "pod web-1": "web-1", "po web-1": "web-1",
		"pod/": "", "deploy/web": "", "shop/web-1": "", "svc web": "", "pod/web-1 web-2": "",
	} {
		got, err := podName(strings.Fields(args))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", args, got, err)
		}
	}
}

// The answer stands first, its causes below it, and what to do last and once.
func TestReportText(t *testing.T) {
	var out strings.Builder
	err := writeReport(&out, "pod shop/web-1 is not found by clients: no agent", []diagnosis.Section{
		{Title: "pod", Findings: []diagnosis.Finding{{State: diagnosis.OK, Text: "runs"}, {State: diagnosis.Note, Text: "is new"}}},
		{Title: "agent", Findings: []diagnosis.Finding{{State: diagnosis.Problem, Text: "no agent", Remedy: "start one"}}},
		{Title: "servers", Findings: []diagnosis.Finding{{State: diagnosis.Unknown, Text: "not known", Remedy: "let me ask"}}},
	}, "start one")
	want := `pod shop/web-1 is not found by clients: no agent

pod      ok       runs
         note     is new
agent    problem  no agent
servers  unknown  not known
                  > let me ask

next: start one
`
	if diff := cmp.Diff(want, out.String()); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

func TestPlanText(t *testing.T) {
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	entry := func(name string, health service.Health) nodeview.Entry {
		return nodeview.Entry{ID: "fairway_" + name, Service: "web", Pod: nodeview.PodRef{Namespace: "shop", Name: name}, Health: health}
	}
	plan := func(p nodeview.Plan) *nodeview.Plan {
		p.Decided = now.Add(-3 * time.Second)
		return &p
	}
	nodes := []nodePlan{
		{Node: "n1", Agent: "a1", Entries: 1, Plan: plan(nodeview.Plan{Foreign: 2})},
		{Node: "n2", Agent: "a2", Entries: 3, Plan: plan(nodeview.Plan{
			Writes: []nodeview.Write{
				{Kind: "set-health", Entry: entry("web-1", service.Critical), Reason: "pod is terminating", Underway: true},
				{Kind: "register", Entry: entry("web-2", service.Passing), Reason: "not registered yet", Failed: "denied", Tries: 3, Next: now.Add(2 * time.Second)},
			},
			Frozen:   []nodeview.Kept{{Entry: entry("web-6", service.Passing), Reason: "pod is gone; frozen"}},
			Held:     []nodeview.Kept{{Entry: entry("web-3", service.Passing), Reason: "nothing proves that it is gone"}},
			Replaced: []nodeview.Kept{{Entry: entry("web-4", ""), Reason: "kept until another is in service"}},
			Refused:  []nodeview.Refused{{ID: "fairway_web-2", Reason: "denied"}, {ID: "fairway_web-5", Reason: "taken"}},
		})},
		{Node: "n3", Agent: "a3", Problem: "connection refused"},
		{Node: "n4", Agent: "a4", Entries: 2, Blocked: "no usable answer from Consul", Plan: plan(nodeview.Plan{})},
		{Node: "n5", Agent: "a5", Blocked: "nothing has been looked at yet", Plan: &nodeview.Plan{}},
	}
	want := `n1  a1: nothing to do; its registry holds 1 entry, and 2 of others, which it leaves alone
n2  a2: its registry holds 3 entries
  set-health  web  shop/web-1  critical: pod is terminating
              under way
  register    web  shop/web-2  passing: not registered yet
              failed 3 times: denied; next try in 2s
  frozen      web  shop/web-6  passing: pod is gone; frozen
  held        web  shop/web-3  passing: nothing proves that it is gone
  replaced    web  shop/web-4  unchecked: kept until another is in service
  refused     fairway_web-5: taken
n3  a3: not known: connection refused
n4  a4: publishes nothing for now, and takes nothing away: no usable answer from Consul
  as of its last look, 3s ago, there was nothing to do
n5  a5: publishes nothing for now, and takes nothing away: nothing has been looked at yet
`
	if diff := cmp.Diff(want, planText(plans{Nodes: nodes}, now)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, c := range []struct {
		nodes       []nodePlan
		fine, known bool
	}{
		{nodes[:1], true, true}, {nodes[:2], false, true}, {nodes[2:3], true, false}, {nodes[3:4], true, false}, {nodes, false, true},
	} {
		if fine, known := planVerdict(plans{Nodes: c.nodes}); fine != c.fine || known != c.known {
			t.Errorf("fine %v, known %v of %+v", fine, known, c.nodes)
		}
	}
}

// The plan is that of the controller, too: what it would write is said in a line for
// each direction, which names the command that shows more.
func TestPlanOfTheController(t *testing.T) {
	all := []controllerPlan{
		{Of: "services", Services: 3}, {Of: "imports", Services: 1},
		{Of: "services", Services: 3, Writes: 2, Held: 1},
		{Of: "imports", Problem: "ask Consul for the services: denied"},
	}
	want := `services  the controller has nothing to do; 3 Services are published
imports   the controller has nothing to do; 1 Service is imported
services  the controller has 2 to write, and holds 1; 3 Services are published; fairway services shows what and why
imports   not known: ask Consul for the services: denied
`
	if diff := cmp.Diff(want, planText(plans{Controller: all}, time.Now())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, c := range []struct {
		of          []controllerPlan
		fine, known bool
	}{
		{nil, true, true}, {all[:2], true, true}, {all[:3], false, true}, {all[3:], true, false}, {all, false, true},
	} {
		if fine, known := planVerdict(plans{Controller: c.of}); fine != c.fine || known != c.known {
			t.Errorf("fine %v, known %v of %+v", fine, known, c.of)
		}
	}
	args := []string{"/usr/bin/fairway-controller", "--cluster-id=east", "--export", "--export-all=false", "--import-connections=5", "--listen=:9980"}
	if !controller.Exports(args) || controller.Imports(args) || controller.Exports(nil) || !controller.Imports([]string{"--import"}) {
		t.Error("what the controller was asked to do is not understood")
	}
}

func TestCatalogText(t *testing.T) {
	report := diagnosis.CatalogReport{Cluster: "east", Pods: 3, Instances: 3, Given: 1, Foreign: 1, OfServices: 2}
	text := func() string {
		var out strings.Builder
		if err := writeCatalog(&out, report); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	head := `cluster      east
pods         3
instances    3
given        1 to clients, just as declared
kept back    0, not ready
foreign      1 under the same names
of Services  2, at which fairway services looks
`
	if diff := cmp.Diff(head+"differences  0\n", text()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	report.Differences = []diagnosis.Difference{
		{Kind: diagnosis.GivenGone, Service: "web", Pod: "shop/web-0", Node: "n1", Detail: "there is no such pod"},
		{Kind: diagnosis.Missing, Service: "web", Pod: "shop/web-1", Node: "n1", Detail: "the servers have no entry"},
	}
	want := head + `differences  2

SERVICE  POD         NODE  WHAT       DETAIL
web      shop/web-0  n1    GivenGone  there is no such pod
web      shop/web-1  n1    Missing    the servers have no entry

next: fairway why -n shop web-1
`
	if diff := cmp.Diff(want, text()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What others have written cannot steer the terminal.
func TestTextIsPrintable(t *testing.T) {
	var out strings.Builder
	err := (&access{}).print(&out, nil, func(w io.Writer) error {
		_, err := io.WriteString(w, "id \x1b[2J\x07\u009b\u202e of\nörtlich\n")
		return err
	})
	if want := "id \ufffd[2J\ufffd\ufffd\ufffd of\nörtlich\n"; out.String() != want || err != nil {
		t.Errorf("%q, %v", out.String(), err)
	}
}
