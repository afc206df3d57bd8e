package diagnosis_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/service"
)

func nodeAgent(node string) diagnosis.NodeAgent {
	return diagnosis.NodeAgent{Node: node, AgentFacts: diagnosis.AgentFacts{
		Namespace: "fairway-system", Name: "fairway-agent-" + node, Ready: service.Condition{Status: service.ConditionTrue},
		View: &nodeview.View{
			Version: "v1.0.0", Node: node, Cluster: "east", Registry: "agent",
			Sources: []nodeview.Source{{Name: "podsapi", Synced: true}, {Name: "informer", Synced: true}},
		},
	}}
}

// sound is an installation with nothing wrong.
func sound() diagnosis.InstallationFacts {
	return diagnosis.InstallationFacts{
		Namespace: "fairway-system", Version: "v1.0.0", Now: now,
		DaemonSet: &diagnosis.DaemonSet{Desired: 2, Updated: 2, Ready: 2},
		Agents:    []diagnosis.NodeAgent{nodeAgent("n1"), nodeAgent("n2")},
		Policies:  []diagnosis.Policy{{Name: "fairway-inject", Gives: "adds the gate", Exists: true, Bound: true}},
		Consul:    diagnosis.ConsulFacts{Leader: "198.18.0.11:8300", Servers: 3},
	}
}

func TestDoctor(t *testing.T) {
	for name, c := range map[string]struct {
		edit  func(*diagnosis.InstallationFacts)
		state diagnosis.State // of the finding, which is that with the words
		words string
	}{
		"agents":     {func(*diagnosis.InstallationFacts) {}, diagnosis.OK, "all 2 agents are ready"},
		"publishing": {func(*diagnosis.InstallationFacts) {}, diagnosis.OK, "2 agents publish without complaint"},
		"sources":    {func(*diagnosis.InstallationFacts) {}, diagnosis.OK, "all 2 nodes: podsapi and informer"},
		"consul":     {func(*diagnosis.InstallationFacts) {}, diagnosis.OK, "198.18.0.11:8300 leads, 3 servers in all"},
		"versions":   {func(*diagnosis.InstallationFacts) {}, diagnosis.OK, "agents: v1.0.0 on all 2 nodes, as this program"},
		"policies":   {func(*diagnosis.InstallationFacts) {}, diagnosis.OK, "fairway-inject adds the gate"},
		"no gate":    {func(*diagnosis.InstallationFacts) {}, diagnosis.OK, "no pod waits for Fairway's gate"},

		"not installed": {func(f *diagnosis.InstallationFacts) { f.DaemonSet = nil }, diagnosis.Problem, "there is no DaemonSet fairway-agent in namespace fairway-system"},
		"no nodes":      {func(f *diagnosis.InstallationFacts) { f.DaemonSet.Desired = 0 }, diagnosis.Problem, "fits no node"},
		"agents missing": {func(f *diagnosis.InstallationFacts) { f.DaemonSet.Ready = 1 }, diagnosis.Problem,
			"1 of 2 agents are ready > kubectl -n fairway-system get pods -o wide"},
		"rolling out": {func(f *diagnosis.InstallationFacts) { f.DaemonSet.Updated = 1 }, diagnosis.Note, "1 of 2 agents have the version"},
		"agent not ready": {func(f *diagnosis.InstallationFacts) {
			f.Agents[0].Ready = service.Condition{Since: before(time.Minute), Message: "not all containers are ready"}
		}, diagnosis.Problem, "n1: fairway-agent-n1 is not ready, for 1m0s (not all containers are ready) > read its log: kubectl -n fairway-system logs fairway-agent-n1"},
		"agent does not answer": {func(f *diagnosis.InstallationFacts) {
			f.Agents[0].View, f.Agents[0].ViewProblem = nil, "forbidden"
		}, diagnosis.Unknown, "n1: fairway-agent-n1 could not be asked: forbidden"},
		"one agent has a note": {func(f *diagnosis.InstallationFacts) { f.Agents[0].View.Plan.Foreign = 2 }, diagnosis.OK, "1 agent publishes without complaint"},
		"blocked":              {func(f *diagnosis.InstallationFacts) { f.Agents[0].View.Blocked = "denied by Consul's ACLs" }, diagnosis.Problem, "n1: publishes nothing for now, and takes nothing away: denied by Consul's ACLs > give the agents' Consul token the rights"},
		"servers away": {func(f *diagnosis.InstallationFacts) {
			f.Agents[0].View.Servers = nodeview.Servers{At: before(time.Minute), Problem: "no usable answer from Consul"}
		}, diagnosis.Problem, "n1: cannot ask the Consul servers: no usable answer from Consul"},
		"refused": {func(f *diagnosis.InstallationFacts) {
			f.Agents[1].View.Plan.Refused = []nodeview.Refused{{ID: "id-1", Reason: "denied by Consul's ACLs"}}
		}, diagnosis.Problem, "n2: the registry does not take id-1: denied"},
		"frozen": {func(f *diagnosis.InstallationFacts) { f.Agents[1].View.Plan.Frozen = make([]nodeview.Kept, 3) }, diagnosis.Problem,
			"n2: 3 removals are frozen, because too many came at once"},
		"held": {func(f *diagnosis.InstallationFacts) { f.Agents[1].View.Plan.Held = make([]nodeview.Kept, 2) }, diagnosis.Warning,
			"n2: 2 entries of pods that are neither there nor proven gone > fairway plan says which"},
		"foreign": {func(f *diagnosis.InstallationFacts) { f.Agents[1].View.Plan.Foreign = 1 }, diagnosis.Note, "n2: 1 entry of another cluster or node"},
		"a source is silent": {func(f *diagnosis.InstallationFacts) { f.Agents[0].View.Sources[0].Problem = "no such socket" }, diagnosis.Note,
			"n1: podsapi does not answer: no such socket > docs/pod-sources.md"},
		"the others are told by node": {func(f *diagnosis.InstallationFacts) { f.Agents[0].View.Sources[0].Problem = "no such socket" }, diagnosis.OK, "n1: informer"},
		"all sources are silent": {func(f *diagnosis.InstallationFacts) {
			f.Agents[0].View.Sources[0].Problem, f.Agents[0].View.Sources[1].Problem = "no such socket", "refused"
		}, diagnosis.Problem, "n1: no source of pods answers"},
		"the same on several nodes": {func(f *diagnosis.InstallationFacts) {
			f.Agents[0].View.Blocked, f.Agents[1].View.Blocked = "denied by Consul's ACLs", "denied by Consul's ACLs"
		}, diagnosis.Problem, "all 2 nodes: publishes nothing for now"},
		"a source is incomplete": {func(f *diagnosis.InstallationFacts) { f.Agents[0].View.Sources[0].Synced = false }, diagnosis.Warning, "n1: podsapi has given no complete list yet"},
		"no leader":              {func(f *diagnosis.InstallationFacts) { f.Consul.Leader = "" }, diagnosis.Problem, "the servers have no leader > start the servers"},
		"consul not reached":     {func(f *diagnosis.InstallationFacts) { f.Consul.Problem = "connection refused" }, diagnosis.Unknown, "could not be asked from here: connection refused > let this shell reach Consul"},
		"consul is not reached by the agents either": {func(f *diagnosis.InstallationFacts) {
			f.Consul.Problem, f.Agents[0].View.Servers.Problem = "connection refused", "no usable answer from Consul"
		}, diagnosis.Problem, "n1: cannot ask the Consul servers: no usable answer from Consul > see whether the Consul servers run"},
		"lease expired": {func(f *diagnosis.InstallationFacts) { f.Consul.Expired = map[string]string{"n2": "node is gone"} }, diagnosis.Problem,
			"node n2 is taken for dead, so that clients get none of its pods: node is gone"},
		"leases not read": {func(f *diagnosis.InstallationFacts) { f.Consul.LeasesProblem = "filtered" }, diagnosis.Unknown, "leases of the virtual nodes could not be read: filtered"},
		"no policy":       {func(f *diagnosis.InstallationFacts) { f.Policies[0].Exists = false }, diagnosis.Warning, "fairway-inject is not installed, which adds the gate"},
		"not bound":       {func(f *diagnosis.InstallationFacts) { f.Policies[0].Bound = false }, diagnosis.Problem, "fairway-inject has no binding"},
		"waiting":         {func(f *diagnosis.InstallationFacts) { f.Waiting = []diagnosis.Placed{{Pod: webPod(1), Node: "n1"}} }, diagnosis.Note, "1 pod waits for Fairway's gate > fairway why"},
		"waiting without agent": {func(f *diagnosis.InstallationFacts) { f.Waiting = []diagnosis.Placed{{Pod: webPod(1), Node: "n9"}} }, diagnosis.Problem,
			"1 pod waits for a gate that no agent can open: shop/web-1 on n9"},
		"waiting, and agents are not known": {func(f *diagnosis.InstallationFacts) {
			f.Waiting, f.Agents, f.AgentsProblem = []diagnosis.Placed{{Pod: webPod(1), Node: "n9"}}, nil, "forbidden"
		}, diagnosis.Note, "1 pod waits for Fairway's gate"},
		"katalog-sync": {func(f *diagnosis.InstallationFacts) { f.Katalog = []string{"kube-system/katalog-sync"} }, diagnosis.Warning,
			"the DaemonSet kube-system/katalog-sync runs katalog-sync"},
		"agents differ": {func(f *diagnosis.InstallationFacts) { f.Agents[1].View.Version = "v0.9.0" }, diagnosis.Warning, "agents: v0.9.0 on n2 > finish the rollout"},
		"program differs": {func(f *diagnosis.InstallationFacts) { f.Version = "v2.0.0" }, diagnosis.Warning,
			"agents: v1.0.0 on all 2 nodes; this program is v2.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := sound()
			c.edit(&f)
			r := diagnosis.Doctor(f)
			var told strings.Builder
			found := false
			for _, s := range r.Sections {
				for _, finding := range s.Findings {
					line := finding.Text + " > " + finding.Remedy
					fmt.Fprintf(&told, "%s %s %s\n", s.Title, finding.State, line)
					found = found || finding.State == c.state && strings.Contains(line, c.words)
				}
			}
			if !found {
				t.Errorf("no finding that is %s and says %q:\n%s", c.state, c.words, told.String())
			}
			if fine, known := r.Fine(); fine != (c.state != diagnosis.Problem) || known != (c.state != diagnosis.Unknown) && f.AgentsProblem == "" {
				t.Errorf("fine %v, known %v:\n%s", fine, known, told.String())
			}
		})
	}
}

// A long list of names is cut, and says by how much.
func TestDoctorIsShort(t *testing.T) {
	f := sound()
	for n := range 8 {
		f.Waiting = append(f.Waiting, diagnosis.Placed{Pod: webPod(n), Node: "n9"})
	}
	for _, s := range diagnosis.Doctor(f).Sections {
		for _, finding := range s.Findings {
			if strings.Contains(finding.Text, "8 pods wait") && strings.HasSuffix(finding.Text, "and 3 more") {
				return
			}
		}
	}
	t.Errorf("%+v", diagnosis.Doctor(f))
}
