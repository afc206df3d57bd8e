package diagnosis

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/service"
)

// InstallationFacts is all that Doctor looks at.
type InstallationFacts struct {
	Namespace string // that Fairway is installed in
	Version   string // of the program that asks
	// DaemonSet is nil if there is none, or if it could not be read, for
	// DaemonSetProblem.
	DaemonSet        *DaemonSet
	DaemonSetProblem string
	Agents           []NodeAgent
	AgentsProblem    string
	Controllers      Controllers
	Policies         []Policy
	Consul           ConsulFacts
	// Waiting are pods with Fairway's gate, closed, by node; those that no node
	// has yet are left out.
	Waiting     []Placed
	PodsProblem string
	// Katalog are the DaemonSets that run katalog-sync.
	Katalog        []string
	KatalogProblem string
	Now            time.Time
}

// DaemonSet is how the agents' DaemonSet stands.
type DaemonSet struct {
	Desired, Updated, Ready int
}

// NodeAgent is the agent of a node.
type NodeAgent struct {
	Node string
	AgentFacts
}

// Policy is an admission policy of the chart.
type Policy struct {
	Name   string
	Gives  string // what it is for
	Exists bool
	Bound  bool
	// Problem is why it could not be read.
	Problem string
}

// ConsulFacts is how Consul looks from where the question is asked.
type ConsulFacts struct {
	Problem string
	Leader  string // address of the leading server; empty if there is none
	Servers int
	// Expired says, by Kubernetes node, why the servers take it for dead;
	// LeasesProblem is why that is not known. Only with the registry catalog.
	Expired       map[string]string
	LeasesProblem string
}

// InstallationReport is the answer of Doctor.
type InstallationReport struct {
	Sections []Section `json:"sections"`
}

// Fine tells whether there is no problem, and whether all could be found out.
func (r InstallationReport) Fine() (fine, known bool) {
	_, problem := first(r.Sections, Problem)
	_, unknown := first(r.Sections, Unknown)
	return !problem, problem || !unknown
}

// Doctor says how an installation is.
func Doctor(in InstallationFacts) InstallationReport {
	d := doctor{in}
	return InstallationReport{Sections: slices.DeleteFunc([]Section{
		d.daemonSet(), d.agents(), d.sources(), d.controllers(), d.consul(), d.policies(), d.waiting(), d.katalog(), d.versions(),
	}, func(s Section) bool { return len(s.Findings) == 0 })}
}

// doctor is one run of Doctor.
type doctor struct{ InstallationFacts }

func (d doctor) kubectl(what string) string { return "kubectl -n " + d.Namespace + " " + what }

// views are the agents that have answered.
func (d doctor) views() []nodeview.View {
	var views []nodeview.View
	for _, agent := range d.Agents {
		if agent.View != nil {
			views = append(views, *agent.View)
		}
	}
	return views
}

func (d doctor) daemonSet() Section {
	s := Section{Title: "installation"}
	set := d.DaemonSet
	switch {
	case d.DaemonSetProblem != "":
		s.add(Unknown, "DaemonSetUnknown", "you need the right to get daemonsets in "+d.Namespace+" (docs/cli.md)",
			"the DaemonSet could not be read: %s", d.DaemonSetProblem)
	case set == nil:
		s.add(Problem, "NotInstalled", "install the chart (docs/install.md), or name its namespace with --fairway-namespace",
			"there is no DaemonSet fairway-agent in namespace %s", d.Namespace)
	case set.Desired == 0:
		s.add(Problem, "NoNodes", "see the chart's nodeSelector and tolerations", "the DaemonSet fairway-agent fits no node")
	case set.Ready < set.Desired:
		s.add(Problem, "AgentsMissing", d.kubectl("get pods -o wide")+", then describe what is not ready", "%d of %d agents are ready", set.Ready, set.Desired)
	case set.Desired == 1:
		s.add(OK, "AgentsReady", "", "the agent of the only node is ready")
	default:
		s.add(OK, "AgentsReady", "", "all %d agents are ready", set.Desired)
	}
	if set != nil && set.Updated < set.Desired {
		s.add(Note, "RollingOut", d.kubectl("rollout status daemonset/fairway-agent"), "%d of %d agents have the version that is wanted", set.Updated, set.Desired)
	}
	return s
}

// agents is what the agents say of themselves.
func (d doctor) agents() Section {
	s := Section{Title: "agents"}
	if d.AgentsProblem != "" {
		s.add(Unknown, "AgentsUnknown", "you need the right to list pods in "+d.Namespace+" (docs/cli.md)", "the agents' pods could not be listed: %s", d.AgentsProblem)
	}
	quiet := 0
	var told byNode
	for _, agent := range d.Agents {
		one := Section{}
		if agent.Ready.Status != service.ConditionTrue {
			s.add(Problem, "AgentNotReady", agent.logs(),
				"%s: %s is not ready%s%s", agent.Node, agent.Name, forHow(d.Now, agent.Ready.Since), inBrackets(agent.Ready.Message))
		}
		if agent.View == nil {
			s.add(Unknown, "NoView", remedyAgentAccess, "%s: %s could not be asked: %s", agent.Node, agent.Name, agent.ViewProblem)
			continue
		}
		viewed(&one, *agent.View)
		if len(one.Findings) == 0 && agent.Ready.Status == service.ConditionTrue {
			quiet++
		}
		told.add(agent.Node, one.Findings)
	}
	if quiet > 0 {
		s.add(OK, "Publishing", "", "%s without complaint", plural(quiet, "agent publishes", "agents publish"))
	}
	s.Findings = append(s.Findings, told.findings(len(d.Agents))...)
	return s
}

// viewed is what one agent says of its own work.
func viewed(s *Section, view nodeview.View) {
	if view.Blocked != "" {
		s.add(Problem, "Blocked", registryRemedy(view.Blocked), "publishes nothing for now, and takes nothing away: %s", view.Blocked)
	}
	if view.Servers.Problem != "" {
		s.add(Problem, "ServersAway", remedyServers,
			"cannot ask the Consul servers: %s", view.Servers.Problem)
	}
	for _, refused := range view.Plan.Refused {
		s.add(Problem, "RegistryRefused", registryRemedy(refused.Reason), "the registry does not take %s: %s", refused.ID, refused.Reason)
	}
	if n := len(view.Plan.Frozen); n > 0 {
		s.add(Problem, "Frozen", "fairway plan says which, and why; docs/removals.md says how to let them go", "%s frozen, because too many came at once", plural(n, "removal is", "removals are"))
	}
	if n := len(view.Plan.Held); n > 0 {
		s.add(Warning, "Held", "fairway plan says which, and why", "%s of pods that are neither there nor proven gone", plural(n, "entry", "entries"))
	}
	if view.Plan.Foreign > 0 {
		s.add(Note, "Foreign", "", "%s of another cluster or node where this one registers, left alone", plural(view.Plan.Foreign, "entry", "entries"))
	}
}

// sources is where the agents get their pods from. One that falls silent beside
// another that answers does no harm yet: what it said last stands.
func (d doctor) sources() Section {
	s := Section{Title: "pod sources"}
	var told byNode
	for _, view := range d.views() {
		one := Section{}
		var answering []string
		for _, source := range view.Sources {
			switch {
			case source.Problem != "":
				one.add(Note, "SourceSilent", "docs/pod-sources.md says what that means", "%s does not answer: %s", source.Name, source.Problem)
			case !source.Synced:
				one.add(Warning, "SourceIncomplete", "wait; if it lasts, read the agent's log", "%s has given no complete list yet", source.Name)
			default:
				answering = append(answering, source.Name)
			}
		}
		if len(answering) > 0 {
			one.add(OK, "Sources", "", "%s", strings.Join(answering, " and "))
		} else if len(view.Sources) > 0 {
			one.add(Problem, "NoSource", "see whether the kubelet and the API server answer on the node; what is registered stays", "no source of pods answers")
		}
		told.add(view.Node, one.Findings)
	}
	s.Findings = told.findings(len(d.Agents))
	return s
}

// byNode puts together what is the same on several nodes.
type byNode struct {
	order []Finding
	nodes map[Finding][]string
}

func (b *byNode) add(node string, findings []Finding) {
	if b.nodes == nil {
		b.nodes = map[Finding][]string{}
	}
	for _, finding := range findings {
		if _, known := b.nodes[finding]; !known {
			b.order = append(b.order, finding)
		}
		b.nodes[finding] = append(b.nodes[finding], node)
	}
}

// findings are those of all nodes, all being how many nodes there are.
func (b *byNode) findings(all int) []Finding {
	var found []Finding
	for _, finding := range b.order {
		nodes := b.nodes[finding]
		finding.Text = someOf(nodes, all) + ": " + finding.Text
		found = append(found, finding)
	}
	return found
}

func (d doctor) consul() Section {
	s := Section{Title: "consul"}
	c, access := d.Consul, remedyConsulAccess
	if slices.ContainsFunc(d.views(), func(v nodeview.View) bool { return v.Servers.Problem != "" }) { // away for others, too
		access = remedyServers
	}
	switch {
	case c.Problem != "":
		s.add(Unknown, "ConsulUnknown", access, "could not be asked from here: %s", c.Problem)
	case c.Leader == "":
		s.add(Problem, "NoLeader",
			"start the servers that are missing: without a majority nothing can be registered and no gate opens; what is registered stays", "the servers have no leader")
	default:
		s.add(OK, "Leader", "", "%s leads, %s in all", c.Leader, plural(c.Servers, "server", "servers"))
	}
	if c.LeasesProblem != "" {
		s.add(Unknown, "LeasesUnknown", remedyConsulAccess, "the leases of the virtual nodes could not be read: %s", c.LeasesProblem)
	}
	for _, node := range slices.Sorted(maps.Keys(c.Expired)) {
		s.add(Problem, "LeaseExpired", "if the node lives, its agent takes it back within 10s; see its log if not",
			"node %s is taken for dead, so that clients get none of its pods: %s", node, c.Expired[node])
	}
	return s
}

func (d doctor) policies() Section {
	s := Section{Title: "admission"}
	for _, policy := range d.Policies {
		switch {
		case policy.Problem != "":
			s.add(Unknown, "PolicyUnknown", "you need the right to get admission policies and their bindings (docs/cli.md)",
				"%s could not be read: %s", policy.Name, policy.Problem)
		case !policy.Exists:
			s.add(Warning, "PolicyMissing", "if that is not meant so, see admission in the chart's values", "%s is not installed, which %s", policy.Name, policy.Gives)
		case !policy.Bound:
			s.add(Problem, "PolicyNotBound", "upgrade the chart: its binding was deleted", "%s has no binding, so that it does nothing; it %s", policy.Name, policy.Gives)
		default:
			s.add(OK, "PolicyBound", "", "%s %s", policy.Name, policy.Gives)
		}
	}
	return s
}

// waiting are the gates that nobody can open.
func (d doctor) waiting() Section {
	s := Section{Title: "gates"}
	if d.PodsProblem != "" {
		s.add(Unknown, "PodsUnknown", "you need the right to list pods in all namespaces (docs/cli.md)", "the pods that wait could not be listed: %s", d.PodsProblem)
		return s
	}
	agents := map[string]bool{}
	for _, agent := range d.Agents {
		agents[agent.Node] = true
	}
	var lonely []string
	waiting := 0
	for _, placed := range d.Waiting {
		if agents[placed.Node] || d.AgentsProblem != "" {
			waiting++
			continue
		}
		lonely = append(lonely, fmt.Sprintf("%s on %s", placed.Pod.Ref, placed.Node))
	}
	if len(lonely) > 0 {
		slices.Sort(lonely)
		s.add(Problem, "NoAgentOnNode", "let an agent run there (the chart's nodeSelector, tolerations), or keep such pods off it",
			"%s for a gate that no agent can open: %s", plural(len(lonely), "pod waits", "pods wait"), someOf(lonely, 0))
	}
	if waiting > 0 {
		s.add(Note, "Waiting", "fairway why says what for", "%s for Fairway's gate", plural(waiting, "pod waits", "pods wait"))
	}
	if len(s.Findings) == 0 {
		s.add(OK, "NoneWaiting", "", "no pod waits for Fairway's gate")
	}
	return s
}

func (d doctor) katalog() Section {
	s := Section{Title: "katalog-sync"}
	if d.KatalogProblem != "" {
		s.add(Unknown, "KatalogUnknown", "you need the right to list daemonsets in all namespaces (docs/cli.md)",
			"whether it runs beside Fairway could not be found out: %s", d.KatalogProblem)
	}
	for _, name := range d.Katalog {
		s.add(Warning, "KatalogRuns", "let only one of them publish a pod: fairway migrate katalog-sync says how to change over",
			"the DaemonSet %s runs katalog-sync, which publishes the same annotations", name)
	}
	return s
}

func (d doctor) versions() Section {
	s := Section{Title: "versions"}
	nodes := map[string][]string{}
	for _, view := range d.views() {
		nodes[view.Version] = append(nodes[view.Version], view.Node)
	}
	for _, version := range slices.Sorted(maps.Keys(nodes)) {
		text := fmt.Sprintf("agents: %s on %s", version, someOf(nodes[version], len(d.Agents)))
		switch {
		case len(nodes) > 1:
			s.add(Warning, "AgentsDiffer", "finish the rollout: "+d.kubectl("rollout status daemonset/fairway-agent"), "%s", text)
		case version != d.Version:
			s.add(Warning, "ProgramDiffers", "use the program of the agents' version", "%s; this program is %s", text, d.Version)
		default:
			s.add(OK, "Same", "", "%s, as this program", text)
		}
	}
	return s
}

// someOf is a list for people: whole if it is short, and in a word if it is all.
func someOf(names []string, all int) string {
	const most = 5
	switch {
	case len(names) == all && all > 1:
		return fmt.Sprintf("all %d nodes", all)
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
