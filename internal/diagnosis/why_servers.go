package diagnosis

import (
	"cmp"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// servers is what clients are given of the pod.
func (w *why) servers() Section {
	s := Section{Title: "servers"}
	remedy := remedyConsulAccess
	if view := w.Agent.View; view != nil && view.Servers.Problem != "" { // they are away for others, too
		remedy = remedyServers
	}
	for _, listing := range w.Listings {
		if listing.Problem != "" {
			s.add(Unknown, "ServersUnknown", remedy, "%s: not known: %s%s", listing.Service, listing.Problem, w.heard(listing.Service))
			continue
		}
		i := slices.IndexFunc(w.wanted, func(in service.Instance) bool { return in.Name == listing.Service })
		if i >= 0 {
			w.instance(&s, listing, w.wanted[i])
		} else if mine := listing.of(w.Pod.Ref.UID); len(mine) == 0 {
			s.add(Note, "NotGiven", "", "%s: the servers have nothing of this pod; %s passing", listing.Service, othersAre(listing.given()))
		}
		for _, entry := range listing.of(w.Pod.Ref.UID) {
			if i < 0 || entry.Instance.ID != w.wanted[i].ID {
				w.other(&s, listing, entry)
			}
		}
	}
	return s
}

// instance is what the servers hold of one instance that the pod declares.
func (w *why) instance(s *Section, listing Listing, want service.Instance) {
	found := listing.byID(want.ID)
	i := slices.IndexFunc(found, func(e Listed) bool { return e.Given })
	others := listing.given()
	serving := want.Health == service.Passing
	switch {
	case i >= 0 && !serving:
		s.add(Problem, "StillGiven", w.lingerRemedy(), "%s: still given to clients, and should not be: %s", listing.Service, want.Notes)
	case i >= 0:
		others--
		s.add(OK, "Given", "", "%s: given to clients; %s passing (index %d)", listing.Service, othersAre(others), listing.Index)
		w.differs(s, listing, found[i], want)
	case !serving:
		s.add(OK, "NotGiven", "", "%s: not given to clients, as it should be: %s; %s passing", listing.Service, want.Notes, othersAre(others))
	case len(found) > 0:
		s.add(Problem, "NotPassingAtServers", hiddenRemedy(found[0].Why), "%s: the servers hold it and keep it from clients: %s; %s passing",
			listing.Service, found[0].Why, othersAre(others))
	default:
		s.add(Problem, "NotInCatalog", cmp.Or(w.agentRemedy(), "see what the node's agent says"),
			"%s: the servers do not have it; %s passing", listing.Service, othersAre(others))
	}
	if len(found) > 1 {
		s.add(Warning, "Twice", "deregister the one that is left over (docs/registries.md)", "%s: the same entry stands under %s", listing.Service, consulNodes(found))
	}
}

// othersAre is how many other instances clients are given.
func othersAre(n int) string {
	if n == 0 {
		return "no other is"
	}
	return plural(n, "other is", "others are")
}

// differs says where an entry that clients get is not what the pod asks for.
func (w *why) differs(s *Section, listing Listing, have Listed, want service.Instance) {
	if w.Cluster == "" { // not known: the entry cannot be judged by it
		want.Meta[service.MetaCluster] = have.Cluster
	}
	if diff := registration.Differences(have.Instance, want); len(diff) > 0 {
		s.add(Problem, "Different", cmp.Or(w.agentRemedy(), "the node's agent repairs it within its --resync (10s)"),
			"%s: not as the pod asks for: %s", listing.Service, strings.Join(diff, "; "))
	}
}

// other is an entry of the pod that it does not ask for (any more).
func (w *why) other(s *Section, listing Listing, entry Listed) {
	switch {
	case entry.Given && (w.Pod.Terminating || w.Pod.Ended()):
		s.add(Problem, "StillGiven", w.lingerRemedy(), "%s: still given to clients, though the pod ends", listing.Service)
	case entry.Given && len(w.Declared.Errors) > 0:
		s.add(Note, "KeptAsItWas", "", "%s: given to clients as it was registered last, until the annotations can be understood", listing.Service)
	case entry.Given:
		s.add(Warning, "NotDeclared", cmp.Or(w.agentRemedy(), "the node's agent removes it within its --resync (10s)"),
			"%s: given to clients, and not declared any more", listing.Service)
	default:
		s.add(Note, "NotGiven", "", "%s: registered, and not given to clients: %s", listing.Service, entry.Why)
	}
}

// heard is what the agent has last heard of the servers about the pod's entry.
func (w *why) heard(name string) string {
	view := w.Agent.View
	if view == nil || view.Servers.At.IsZero() {
		return ""
	}
	i := slices.IndexFunc(view.Entries, func(e nodeview.Entry) bool { return e.Pod.UID == w.Pod.Ref.UID && e.Service == name })
	if i < 0 {
		return ""
	}
	health := cmp.Or(string(view.Servers.Health[view.Entries[i].ID]), "missing")
	text := "; as the node's agent has it from them, it was " + health + " " + ago(w.Now, view.Servers.At)
	if view.Servers.Problem != "" {
		text += ", and it hears nothing since: " + view.Servers.Problem
	}
	return text
}

// heardPassing tells whether the agent hears the servers, and has it from them
// that all that the pod declares is passing.
func (w *why) heardPassing() bool {
	view := w.Agent.View
	return view != nil && view.Servers.Problem == "" && len(w.wanted) > 0 &&
		!slices.ContainsFunc(w.wanted, func(in service.Instance) bool { return view.Servers.Health[in.ID] != service.Passing })
}

// agentRemedy is what to do about an agent that does not do what it should;
// empty if it was not seen to be at fault.
func (w *why) agentRemedy() string {
	for _, finding := range w.agent().Findings {
		if finding.State == Problem || finding.State == Warning {
			return finding.Remedy
		}
	}
	if w.Agent.Name == "" {
		return ""
	}
	return "wait a moment; if it lasts: " + w.Agent.logs()
}

// lingerRemedy is what to do about an entry that clients should not get.
func (w *why) lingerRemedy() string {
	return cmp.Or(w.agentRemedy(), "an agent on node "+w.Node+" takes it out; without one, deregister it by hand (docs/operations.md)")
}

// hiddenRemedy is what to do about an entry that the servers keep from clients.
func hiddenRemedy(why string) string {
	switch {
	case strings.Contains(why, "fairway-lease"):
		return "the node was taken for dead; its agent takes that back within 10s, see its log if not"
	case strings.Contains(why, "serfHealth"):
		return "the servers do not hear the node's Consul agent: see whether it runs, and the network between them"
	case strings.Contains(why, "its own check"):
		return "the node's agent makes it passing; see its log if it does not"
	}
	return "ask the owner of that check"
}

func consulNodes(entries []Listed) string {
	var names []string
	for _, entry := range entries {
		names = append(names, entry.ConsulNode)
	}
	return "Consul nodes " + strings.Join(names, ", ")
}

// leaving is how far the end of the pod is confirmed.
func (w *why) leaving() Section {
	s := Section{Title: "drain"}
	if !w.Pod.Terminating {
		return s
	}
	if !w.Killed.IsZero() {
		left := w.Killed.Sub(w.Now)
		if left < 0 {
			s.add(Warning, "Overdue", "see why the node does not end it: "+w.describe(), "should have ended %s ago at the latest", Lasted(-left))
		} else {
			s.add(Note, "KilledAt", "", "it is ended in %s at the latest", Lasted(left))
		}
	}
	asks := slices.ContainsFunc(w.Pod.Containers, func(c service.Container) bool { return c.Name == gateContainer })
	if w.Agent.View == nil {
		s.add(Unknown, "DrainUnknown", remedyAgentAccess, "whether it waits for clients to leave is not known: its agent could not be asked")
		return s
	}
	i := slices.IndexFunc(w.Agent.View.Drains, func(d nodeview.Drain) bool { return d.Pod.UID == w.Pod.Ref.UID })
	switch {
	case i >= 0:
		w.drain(&s, w.Agent.View.Drains[i])
	case asks:
		s.add(Note, "NotAsked", "", "its sidecar %s has not asked the agent to take it out", gateContainer)
	default:
		s.add(Note, "NoDrain", "", "nothing holds its end until clients have left: it has no sidecar %s (docs/drain.md)", gateContainer)
	}
	return s
}

// gateContainer is the name of the sidecar that the chart adds to pods.
const gateContainer = "fairway-gate"

// drain is one pod's call to be taken out.
func (w *why) drain(s *Section, d nodeview.Drain) {
	asked := "it asked to be taken out " + ago(w.Now, d.Asked)
	switch {
	case d.Out:
		s.add(OK, "OutOfService", "", "%s and is proven out for %s: %s", asked, Lasted(w.Now.Sub(d.Since)), d.Message)
	case d.Ended == "not-confirmed":
		s.add(Problem, "DrainNotConfirmed", cmp.Or(w.agentRemedy(), "see whether the Consul servers have a leader"),
			"%s and was not confirmed in time; it waited for %s: %s", asked, d.Reason, d.Message)
	case d.Ended != "":
		s.add(Note, "DrainBrokenOff", "", "%s and hung up; it waited for %s: %s", asked, d.Reason, d.Message)
	default:
		s.add(Note, d.Reason, "", "%s, waits for %s, and %s more at most: %s: %s", asked,
			Lasted(w.Now.Sub(d.Since)), Lasted(d.Until.Sub(w.Now)), d.Reason, d.Message)
	}
}
