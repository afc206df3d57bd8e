package diagnosis

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

// MigrationFacts is all that Migrate looks at.
type MigrationFacts struct {
	// Back is true if katalog-sync is to take Fairway's place, and not the other
	// way round.
	Back bool
	// Pods are all pods of the cluster.
	Pods []Placed
	// Listings are of every service that a pod declares, and of every one of which
	// the servers hold an entry of katalog-sync.
	Listings []Listing
	// Katalog are the DaemonSets that run katalog-sync, as namespace/name.
	Katalog []string
	// Installed tells whether there is a DaemonSet of Fairway's agents, in
	// Namespace, and Mode what it was told about katalog-sync.
	Installed bool
	Namespace string
	Mode      succession.Mode
	Agents    []NodeAgent
}

// MigrationReport is the answer of Migrate.
type MigrationReport struct {
	Headline string    `json:"headline"`
	Sections []Section `json:"sections"`
	// Entries are katalog-sync's, or with Back those of Fairway, each with how it
	// stands; before Fairway was told to begin, as it would.
	Entries []nodeview.Handover `json:"entries"`
	Next    string              `json:"next"`
}

// Fine tells whether nothing is in the way, and whether all could be found out.
func (r MigrationReport) Fine() (fine, known bool) {
	return InstallationReport{Sections: r.Sections}.Fine()
}

// Migrate says how far a change between katalog-sync and Fairway is, what is in
// its way, what will be different, and what the next step is.
func Migrate(in MigrationFacts) MigrationReport {
	m := migration{MigrationFacts: in}
	sections := []Section{m.programs(), m.entries()}
	if !in.Back {
		sections = append(sections, m.pods())
	}
	report := MigrationReport{Entries: m.shown}
	report.Sections = slices.DeleteFunc(sections, func(s Section) bool { return len(s.Findings) == 0 })
	report.Headline, report.Next = m.next(report)
	return report
}

// migration is one run of Migrate.
type migration struct {
	MigrationFacts
	shown []nodeview.Handover
}

func (m *migration) wanted() succession.Mode {
	if m.Back {
		return succession.Predecessor
	}
	return succession.Successor
}

// programs says which of the two runs.
func (m *migration) programs() Section {
	s := Section{Title: "programs"}
	for _, name := range m.Katalog {
		s.add(OK, "KatalogRuns", "", "the DaemonSet %s runs katalog-sync", name)
	}
	if len(m.Katalog) == 0 {
		s.add(OK, "KatalogAway", "", "no DaemonSet runs katalog-sync")
	}
	switch {
	case !m.Installed:
		s.add(OK, "FairwayAway", "", "Fairway is not installed in namespace %s", m.Namespace)
	case m.Mode == succession.Apart:
		s.add(OK, "FairwayApart", "", "Fairway runs, and leaves what is katalog-sync's alone")
	default:
		s.add(OK, "FairwayTold", "", "Fairway runs with katalogSync=%s", m.Mode)
	}
	return s
}

// entries says how the entries stand: in the agents' words if they were told to
// begin, and else as it would be.
func (m *migration) entries() Section {
	s := Section{Title: "entries"}
	for _, listing := range m.Listings {
		if listing.Problem != "" {
			s.add(Unknown, "ServersUnknown", "", "what the servers hold of service %s could not be found out: %s", listing.Service, listing.Problem)
		}
	}
	begun := m.Installed && m.Mode == m.wanted()
	switch {
	case begun:
		m.ask(&s)
		m.overlooked(&s)
	case !m.Back:
		m.preview(&s)
	}
	counts := map[string]int{}
	for _, entry := range m.shown {
		counts[entry.State]++
	}
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		would := "are"
		if !begun {
			would = "would be"
		}
		s.add(OK, "Entries", "", "%d %s %s: %s", counts[state], would, state, meaning(succession.State(state)))
	}
	grouped := groups{}
	for _, entry := range m.shown {
		if entry.State == string(succession.Uncovered) || entry.State == string(succession.Waiting) || entry.State == string(succession.Kept) {
			grouped.add(entry.State, fmt.Sprintf("service %s: %s", entry.Service, entry.Reason), entry.Pod.String())
		}
	}
	grouped.write(&s, Problem)
	return s
}

// meaning is what a state says, for people.
func meaning(state succession.State) string {
	switch state {
	case succession.Covered:
		return "katalog-sync renews it, and Fairway's stands beside it"
	case succession.Uncovered:
		return "clients would lose it with katalog-sync"
	case succession.Waiting:
		return "nobody renews it, and Fairway's is not in its place yet"
	case succession.Superfluous:
		return "nobody needs it, and Fairway removes it"
	case succession.Yielded:
		return "katalog-sync's stands in its place"
	case succession.Kept:
		return "katalog-sync's does not stand in its place yet"
	}
	return "not known to this version"
}

// ask takes over what the agents say.
func (m *migration) ask(s *Section) {
	for _, agent := range m.Agents {
		switch {
		case agent.View == nil:
			s.add(Unknown, "AgentUnknown", "", "the agent of node %s could not be asked: %s", agent.Node, agent.ViewProblem)
		case agent.View.Succession == nil || agent.View.Succession.Mode != string(m.Mode):
			s.add(Problem, "AgentNotTold", "kubectl -n "+m.Namespace+" rollout status daemonset/fairway-agent",
				"the agent of node %s does not run with katalogSync=%s yet", agent.Node, m.Mode)
		case agent.View.Succession.Problem != "":
			s.add(Problem, "AgentBlind", "", "the agent of node %s cannot read katalog-sync's entries: %s", agent.Node, agent.View.Succession.Problem)
		default:
			m.shown = append(m.shown, agent.View.Succession.Entries...)
		}
	}
}

// overlooked adds the entries of katalog-sync that no agent has told of, though
// their pods are in the cluster: nobody of Fairway is on their node.
func (m *migration) overlooked(s *Section) {
	if m.Back {
		return
	}
	if _, unknown := first([]Section{*s}, Unknown); unknown {
		return // an agent that does not answer may know them
	}
	told := map[string]bool{}
	for _, entry := range m.shown {
		told[entry.ID] = true
	}
	nodes := map[service.PodRef]string{}
	for _, placed := range m.Pods {
		nodes[nameOf(placed.Pod.Ref)] = placed.Node
	}
	for _, entry := range m.katalogEntries() {
		if node, here := nodes[entry.Pod]; here && !told[entry.ID] {
			m.shown = append(m.shown, nodeview.Handover{
				ID: entry.ID, Service: entry.Service, Pod: nodeview.Ref(entry.Pod), State: string(succession.Uncovered),
				Reason: "no agent of Fairway has seen it on node " + node,
			})
		}
	}
}

// preview says how katalog-sync's entries would stand if Fairway published the
// pods beside it now.
func (m *migration) preview(s *Section) {
	input := succession.Input{Servers: succession.Servers{Held: map[string]succession.Standing{}}}
	known := map[service.PodRef]bool{}
	for _, placed := range m.Pods {
		state := registration.Want(placed.Pod, annotation.Parse(placed.Pod), "", placed.Node, 0)
		input.Pods = append(input.Pods, succession.Pod{Claim: state})
		known[nameOf(placed.Pod.Ref)] = true
		for _, in := range state.Instances {
			input.Servers.Held[in.ID] = succession.Standing{Health: in.Health, Address: in.Address, Port: in.Port}
		}
	}
	others := 0
	for _, entry := range m.katalogEntries() {
		if !known[entry.Pod] {
			others++
			continue
		}
		input.Theirs = append(input.Theirs, entry)
	}
	for _, v := range succession.TakeOver(input) {
		m.shown = append(m.shown, nodeview.Handover{
			ID: v.ID, Service: v.Service, Pod: nodeview.Ref(v.Pod), State: string(v.State), Reason: v.Reason,
		})
	}
	if others > 0 {
		s.add(Note, "EntriesOfOthers", "", "%s of katalog-sync %s of pods that this cluster does not have: of another cluster, or left behind",
			plural(others, "entry", "entries"), map[bool]string{true: "is", false: "are"}[others == 1])
	}
}

func nameOf(ref service.PodRef) service.PodRef {
	return service.PodRef{Namespace: ref.Namespace, Name: ref.Name}
}

// katalogEntries are katalog-sync's at the servers.
func (m *migration) katalogEntries() []succession.Entry {
	var entries []succession.Entry
	for _, listing := range m.Listings {
		for _, listed := range listing.Entries {
			in := listed.Instance
			if in.Meta[succession.MetaSource] != succession.Source {
				continue
			}
			entry := succession.Entry{ID: in.ID, Service: in.Name, Pod: nameOf(in.Pod), Address: in.Address, Port: in.Port}
			if listed.HasCheck {
				entry.Health, entry.Expired = in.Health, succession.Expired(in.Health, in.Notes)
			}
			entries = append(entries, entry)
		}
	}
	return entries
}

// next is where the change stands, and the next step.
func (m *migration) next(r MigrationReport) (headline, next string) {
	_, blocked := first(r.Sections, Problem)
	_, unknown := first(r.Sections, Unknown)
	set := func(mode succession.Mode) string {
		return fmt.Sprintf("helm upgrade fairway deploy/chart -n %s --reuse-values --set katalogSync=%s", m.Namespace, mode)
	}
	settle := "settle what stands above as a problem, and look again"
	ours := m.Installed && m.Mode == m.wanted()
	renewed := slices.ContainsFunc(m.shown, func(h nodeview.Handover) bool { return h.State == string(succession.Covered) })
	switch {
	case unknown:
		return "not everything could be found out", "look again when the agents and Consul answer"
	case blocked && !ours:
		return "something is in the way", settle
	case !m.Installed:
		return "nothing is in the way", fmt.Sprintf("install Fairway with --set katalogSync=%s (docs/install.md)", m.wanted())
	case !m.Back && !ours:
		return "nothing is in the way", set(succession.Successor)
	case m.Back && !ours:
		return "Fairway was not told to hand back", set(succession.Predecessor)
	case blocked && m.Back && len(m.Katalog) == 0:
		return "Fairway is ready to hand back", "install katalog-sync again"
	case blocked:
		return "under way, and something is in the way", settle
	case m.Back:
		return "all is handed back", "helm uninstall fairway -n " + m.Namespace
	case len(m.Katalog) > 0:
		namespace, name, _ := strings.Cut(m.Katalog[0], "/")
		return "Fairway stands beside katalog-sync for every entry", fmt.Sprintf("kubectl -n %s delete daemonset %s", namespace, name)
	case renewed:
		return "Fairway stands beside katalog-sync for every entry", "remove what runs katalog-sync; if that is done, look again in a minute"
	case len(m.shown) > 0:
		return "katalog-sync is gone, and what it left is being removed", "look again"
	}
	return "Fairway has taken katalog-sync's place", "nothing to do; keep katalogSync=take-over as long as pods have the gate " + service.GateKatalog
}

// groups are findings that many pods share, by what they are.
type groups map[[2]string][]string

func (g groups) add(reason, text, pod string) {
	key := [2]string{reason, text}
	g[key] = append(g[key], pod)
}

// write adds a finding for each group, in the order of their texts.
func (g groups) write(s *Section, state State) {
	keys := slices.SortedFunc(maps.Keys(g), func(a, b [2]string) int {
		return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1]))
	})
	for _, key := range keys {
		pods := slices.Compact(slices.Sorted(slices.Values(g[key])))
		who := "pod " + pods[0]
		if len(pods) > 1 {
			who = fmt.Sprintf("%s, such as %s", plural(len(pods), "pod", "pods"), pods[0])
		}
		s.add(state, key[0], "", "%s: %s", who, key[1])
	}
}
