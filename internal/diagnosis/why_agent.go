package diagnosis

import (
	"fmt"
	"slices"

	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/service"
)

// agent is the agent of the pod's node, and what it does about the pod.
func (w *why) agent() Section {
	s := Section{Title: "agent"}
	a := w.Agent
	switch {
	case w.Node == "":
		return s // no node, no agent
	case a.Problem != "":
		s.add(Unknown, "AgentUnknown", "see fairway doctor; docs/cli.md says which rights are needed", "whether node %s has one could not be found out: %s", w.Node, a.Problem)
		return s
	case a.Name == "":
		s.add(w.without(), "NoAgent", "see where the agents run: "+a.kubectl("get pods -o wide")+"; and whether the chart's nodeSelector leaves the node out",
			"no agent on node %s: nobody publishes its pods or opens their gates", w.Node)
		return s
	case a.Ready.Status != service.ConditionTrue:
		s.add(w.without(), "AgentNotReady", a.logs(), "%s on node %s is not ready%s%s", a.Name, w.Node, forHow(w.Now, a.Ready.Since), inBrackets(a.Ready.Message))
	}
	if a.View == nil {
		s.add(Unknown, "NoView", remedyAgentAccess, "%s could not be asked: %s", a.Name, a.ViewProblem)
		return s
	}
	w.viewed(&s, *a.View)
	return s
}

// without is how bad it is that no agent works on the node.
func (w *why) without() State {
	if w.Pod.Gated() && !w.open() || w.Pod.Terminating {
		return Problem
	}
	return Warning // what is registered stays
}

// viewed is what the agent says itself.
func (w *why) viewed(s *Section, view nodeview.View) {
	if len(s.Findings) == 0 {
		s.add(OK, "AgentReady", "", "%s is ready, version %s, cluster id %s", w.Agent.Name, view.Version, view.Cluster)
	}
	if view.Blocked != "" {
		s.add(w.without(), "Blocked", registryRemedy(view.Blocked), "its agent publishes nothing for now, and takes nothing away: %s", view.Blocked)
	}
	if view.Servers.Problem != "" {
		s.add(w.without(), "ServersAway", remedyServers, "its agent cannot ask the Consul servers: %s", view.Servers.Problem)
	}
	for _, source := range view.Sources {
		if source.Problem != "" {
			s.add(Note, "SourceSilent", "docs/pod-sources.md says what that means", "its source of pods %q does not answer: %s", source.Name, source.Problem)
		}
	}
	if len(w.Declared.Services)+len(w.Declared.Errors) == 0 {
		return
	}
	if _, known := view.Pod(w.Pod.Ref.UID); !known && !w.Pod.Ended() {
		s.add(w.without(), "NotSeen", w.Agent.logs(), "its agent has not seen this pod yet, or nothing of its annotations that it could use")
	}
	entries := map[string]nodeview.Entry{}
	for _, entry := range view.Entries {
		if entry.Pod.UID == w.Pod.Ref.UID {
			entries[entry.ID] = entry
			s.add(OK, "Registered", "", "%s is registered as %s", entry.Service, orNoCheck(entry.Health))
		}
	}
	for _, in := range w.wanted {
		if _, ok := entries[in.ID]; !ok && !w.Pod.Terminating {
			s.add(Note, "NotRegistered", "", "%s is not registered", in.Name)
		}
	}
	w.planned(s, view.Plan)
}

// planned is what the agent is about to do with the pod's entries.
func (w *why) planned(s *Section, plan nodeview.Plan) {
	mine := map[string]string{}
	for _, in := range w.wanted {
		mine[in.ID] = in.Name
	}
	for _, write := range plan.Writes {
		if write.Entry.Pod.UID != w.Pod.Ref.UID {
			continue
		}
		delete(mine, write.Entry.ID) // a refusal is told here
		state, text := Note, fmt.Sprintf("about to %s %s: %s", verb(write), write.Entry.Service, write.Reason)
		remedy := ""
		if write.Failed != "" {
			state, remedy = Problem, registryRemedy(write.Failed)
			text += fmt.Sprintf("; failed %s: %s; tried again in %s", plural(write.Tries, "time", "times"), write.Failed, Lasted(write.Next.Sub(w.Now)))
		}
		s.add(state, "Planned", remedy, "%s", text)
	}
	for _, refused := range plan.Refused {
		if name, ok := mine[refused.ID]; ok {
			s.add(Problem, "RegistryRefused", registryRemedy(refused.Reason), "the registry does not take %s: %s", name, refused.Reason)
		}
	}
	for _, kept := range slices.Concat(plan.Frozen, plan.Held, plan.Replaced) {
		if kept.Entry.Pod.UID == w.Pod.Ref.UID {
			s.add(Note, "Kept", "", "%s stays as it is: %s", kept.Entry.Service, kept.Reason)
		}
	}
}

// verb is what a write does, as an infinitive.
func verb(write nodeview.Write) string {
	switch write.Kind {
	case "set-health":
		return fmt.Sprintf("set to %s", write.Entry.Health)
	case "register":
		return "register (" + string(write.Entry.Health) + ")"
	}
	return write.Kind
}

func orNoCheck(health service.Health) string {
	if health == "" {
		return "without health check"
	}
	return string(health)
}

// kubectl is a command in Fairway's namespace.
func (a AgentFacts) kubectl(what string) string {
	return "kubectl -n " + a.Namespace + " " + what
}

func (a AgentFacts) logs() string { return "read its log: " + a.kubectl("logs "+a.Name) }
