package diagnosis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// PodFacts is all that Why looks at.
type PodFacts struct {
	Pod      service.Pod
	Declared annotation.Result
	Node     string // empty: it has none yet
	// Cluster is the id in Consul; empty if that is not known.
	Cluster string
	Created time.Time
	// Unscheduled is why the pod has no node, in the scheduler's words.
	Unscheduled string
	// Deleted is when the pod's deletion was asked for, and Killed when it ends
	// at the latest; zero if it is not being deleted.
	Deleted, Killed time.Time
	// Ready is the pod's condition Ready.
	Ready service.Condition

	Agent AgentFacts
	// Listings are of the services that the pod declares, or that the agent has
	// registered for it.
	Listings []Listing
	Events   []Event
	// EventsProblem is why the Events are not known.
	EventsProblem string
	Now           time.Time
}

// AgentFacts is what was found of the agent of one node.
type AgentFacts struct {
	// Problem is why it could not be looked for.
	Problem string
	// Name is its pod in Namespace; empty if there is none on the node.
	Namespace, Name string
	// Ready is the agent pod's own condition Ready.
	Ready service.Condition
	// View is what it says itself; nil if that is not known, for ViewProblem.
	View        *nodeview.View
	ViewProblem string
}

// Event is an Event about the pod that Fairway has written.
type Event struct {
	Warning bool      `json:"warning"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Last    time.Time `json:"last"`
	Count   int       `json:"count"`
}

// Verdict says in a word whether clients are given a pod.
type Verdict string

// The values of Verdict.
const (
	Found     Verdict = "Found"     // and Ready, as far as Fairway has a say in it
	NotReady  Verdict = "NotReady"  // clients are given it, and its gate is not open
	NotFound  Verdict = "NotFound"  // clients are not given all of it
	Silent    Verdict = "Silent"    // it declares no service
	Leaving   Verdict = "Leaving"   // it ends, and clients are still given it
	Left      Verdict = "Left"      // it ends, and clients are not given it any more
	Uncertain Verdict = "Uncertain" // the servers could not be asked
)

// PodReport is the answer of Why.
type PodReport struct {
	Pod      string    `json:"pod"`
	Verdict  Verdict   `json:"verdict"`
	Headline string    `json:"headline"`
	Sections []Section `json:"sections"`
	// Next is what a person should do next.
	Next string `json:"next"`
}

// Fine tells whether all is as it should be, and whether that is known at all.
func (r PodReport) Fine() (fine, known bool) {
	_, problem := first(r.Sections, Problem)
	return !problem, problem || r.Verdict != Uncertain
}

// Why says whether clients are given a pod and what keeps them from it.
func Why(in PodFacts) PodReport {
	w := why{PodFacts: in, remedies: remedies{in.Pod.Ref}}
	w.wanted = registration.Want(in.Pod, in.Declared, in.Cluster, in.Node, 0).Instances
	report := PodReport{Pod: in.Pod.Ref.String(), Sections: slices.DeleteFunc([]Section{
		w.declares(), w.pod(), w.agent(), w.servers(), w.gate(), w.leaving(), w.events(),
	}, func(s Section) bool { return len(s.Findings) == 0 })}
	report.Verdict = w.verdict()
	report.Headline, report.Next = w.conclude(report)
	return report
}

// why is one run of Why.
type why struct {
	PodFacts
	remedies
	wanted []service.Instance // with the health they should have
}

// conclude makes the first and the last line of what was found.
func (w *why) conclude(r PodReport) (headline, next string) {
	cause, problem := first(r.Sections, Problem)
	gap, unknown := first(r.Sections, Unknown)
	ends, uncertain := "ends", "may or may not be found by clients; nobody could ask the servers"
	if w.Pod.Ended() {
		ends = "has ended"
	}
	switch {
	case w.Pod.Terminating || w.Pod.Ended():
		uncertain = ends + ", and may still be given to clients; this shell could not ask the servers"
	case w.heardPassing():
		uncertain = "is passing at the servers, as its node's agent hears; this shell could not ask them"
	case w.Pod.Gated() && !w.open():
		uncertain = "is not Ready, and nobody could ask the servers whether clients find it"
	}
	headline = "pod " + r.Pod + " " + map[Verdict]string{
		Found:     "is found by clients",
		NotReady:  "is found by clients, but is not Ready",
		NotFound:  "is not found by clients",
		Silent:    "publishes nothing",
		Leaving:   ends + ", and is still given to clients",
		Left:      ends + ", and is given to clients no longer",
		Uncertain: uncertain,
	}[r.Verdict]
	if problem && (r.Verdict == Found || r.Verdict == Left) {
		headline += ", but not all is well"
	}
	switch {
	case problem:
		return headline + ": " + cause.Text, cmp.Or(cause.Remedy, "wait a moment; if it lasts, "+w.Agent.logs())
	case r.Verdict == Uncertain && unknown:
		return headline, gap.Remedy
	case unknown:
		return headline, "nothing to do; not all could be found out"
	}
	return headline, "nothing to do"
}

func (w *why) verdict() Verdict {
	unknown, given := false, map[string]bool{} // the services that clients find the pod under
	for _, listing := range w.Listings {
		unknown = unknown || listing.Problem != ""
		if slices.ContainsFunc(listing.of(w.Pod.Ref.UID), func(e Listed) bool { return e.Given }) {
			given[listing.Service] = true
		}
	}
	missing := len(w.Declared.Services) == 0 ||
		slices.ContainsFunc(w.Declared.Services, func(name string) bool { return !given[name] })
	switch {
	case len(w.Listings) == 0 && len(w.Declared.Services) == 0 && !w.Pod.Gated() && len(w.Declared.Errors) == 0:
		return Silent
	case unknown:
		return Uncertain
	case (w.Pod.Terminating || w.Pod.Ended()) && len(given) > 0:
		return Leaving
	case w.Pod.Terminating || w.Pod.Ended():
		return Left
	case missing:
		return NotFound
	case w.Pod.Gated() && !w.open():
		return NotReady
	}
	return Found
}

// open tells whether Fairway's gate is open.
func (w *why) open() bool {
	return slices.ContainsFunc(w.Pod.Gates, func(g service.Gate) bool { return g.Type == service.GateReachable && g.Open })
}

// declares is what the pod asks for.
func (w *why) declares() Section {
	s := Section{Title: "declares"}
	for _, e := range w.Declared.Errors {
		s.add(Problem, "InvalidAnnotation", "correct the annotation "+e.Key+" (docs/annotations.md); no restart is needed", "%s", e.String())
	}
	for _, name := range w.Declared.Services {
		i := slices.IndexFunc(w.Declared.Instances, func(in service.Instance) bool { return in.Name == name })
		fixed, isFixed := w.Declared.Fixed.For(name)
		switch {
		case isFixed && fixed != "" && fixed != service.Passing:
			s.add(Problem, "FixedHealth", "take the annotation service-health off, or make it passing",
				"%s, kept at %s by the annotation service-health: clients are given passing instances only", name, fixed)
		case i < 0:
			s.add(Note, "NotComplete", "", "%s, of which not everything is known yet", name)
		case w.Declared.Instances[i].Port == 0:
			s.add(OK, "Declared", "", "%s at %s", name, w.Declared.Instances[i].Address)
		default:
			in := w.Declared.Instances[i]
			s.add(OK, "Declared", "", "%s at %s, port %d", name, in.Address, in.Port)
		}
	}
	switch {
	case len(s.Findings) > 0:
	case w.Pod.Gated():
		s.add(Problem, "NothingDeclared", "add the annotation "+annotation.Native+annotation.Names+", or take the readiness gate out of the pod's template",
			"it has the readiness gate %s but no annotation %s", service.GateReachable, annotation.Native+annotation.Names)
	default:
		s.add(Problem, "NothingDeclared", "to publish it, add the annotation "+annotation.Native+annotation.Names+" (docs/annotations.md)",
			"it has no annotation %s", annotation.Native+annotation.Names)
	}
	return s
}

// pod is how the pod itself is.
func (w *why) pod() Section {
	s := Section{Title: "pod"}
	pod := w.Pod
	switch {
	case w.Node == "":
		s.add(Problem, "Unscheduled", "see why no node takes it: "+w.describe(), "no node yet, created %s%s",
			ago(w.Now, w.Created), inBrackets(w.Unscheduled))
		return s
	case pod.Ended():
		s.add(Note, "Ended", "", "all containers have stopped: phase %s", pod.Phase)
		return s
	case pod.Terminating:
		s.add(Note, "Terminating", "", "is being deleted, for %s, on node %s", Lasted(w.Now.Sub(w.Deleted)), w.Node)
		return s
	case len(pod.Addresses) == 0:
		s.add(Problem, "WaitingForAddress", "see what holds it up: "+w.describe(), "has no address yet on node %s, created %s", w.Node, ago(w.Now, w.Created))
		return s
	}
	s.add(OK, "Running", "", "on node %s at %s, created %s", w.Node, pod.Addresses[0], ago(w.Now, w.Created))
	if problem := pod.NotReady(w.Declared.Excluded...); problem != "" {
		s.add(Problem, "WaitingForContainers", "as without Fairway: "+w.describe()+", then the logs of what is not ready",
			"%s%s", problem, forHow(w.Now, pod.ContainersReadySince))
		return s
	}
	s.add(OK, "ContainersReady", "", "containers are ready%s", forHow(w.Now, pod.ContainersReadySince))
	for _, g := range pod.Gates {
		if g.Type != service.GateReachable && !g.Open {
			s.add(Problem, "WaitingForOtherGates", ownerOf(g.Type), "the readiness gate %s is not open", g.Type)
		}
	}
	return s
}

// ownerOf is who to ask about a readiness gate that is not Fairway's.
func ownerOf(gate string) string {
	if gate == service.GateKatalog {
		return "see why katalog-sync does not open it; Fairway does with katalogSync=take-over (docs/migrate-katalog-sync.md)"
	}
	return "ask the owner of the readiness gate " + gate
}

// gate is Fairway's readiness gate.
func (w *why) gate() Section {
	s := Section{Title: "gate"}
	condition, written := w.Pod.Conditions[service.GateReachable]
	said := strings.TrimPrefix(condition.Reason+": "+condition.Message, ": ")
	if condition.Reason == gate.InvalidAnnotation && len(w.Declared.Errors) > 0 {
		said = condition.Reason // its words stand above
	}
	switch {
	case !w.Pod.Gated():
		s.add(Note, "NotGated", "", "none: the pod can be Ready without being found (docs/gate.md)")
	case w.open():
		s.add(OK, "Reachable", "", "open for %s: %s", Lasted(w.Now.Sub(condition.Since)), said)
		w.ready(&s)
	case w.Pod.Terminating || w.Pod.Ended():
		s.add(Note, "NotOpen", "", "never opened: %s", cmp.Or(said, "nothing was written"))
	case !written:
		s.add(Problem, "NothingWritten", "", "not open, and no agent has written why yet")
	default:
		s.add(Problem, condition.Reason, "", "not open for %s: %s", Lasted(w.Now.Sub(condition.Since)), said)
	}
	return s
}

// ready tells of a pod that is not Ready although nothing of its own keeps it
// from that: Kubernetes says so of all pods of a node that it does not hear.
func (w *why) ready(s *Section) {
	closed := slices.ContainsFunc(w.Pod.Gates, func(g service.Gate) bool { return !g.Open })
	if w.Ready.Status != service.ConditionFalse || !w.Pod.ContainersReady || closed || w.Pod.Terminating {
		return
	}
	s.add(Warning, "NotReadyAllTheSame", "see whether the node is Ready: kubectl get node "+w.Node,
		"the pod is not Ready all the same%s%s", forHow(w.Now, w.Ready.Since), inBrackets(w.Ready.Message))
}

// events are what Fairway has told on the pod.
func (w *why) events() Section {
	s := Section{Title: "events"}
	if w.EventsProblem != "" {
		s.add(Unknown, "EventsUnknown", "", "could not be read: %s", w.EventsProblem)
	}
	for _, event := range w.Events {
		times := ""
		if event.Count > 1 {
			times = fmt.Sprintf(" (%d times)", event.Count)
		}
		state := Note
		if event.Warning {
			state = Warning
		}
		s.add(state, event.Reason, "", "%s%s: %s: %s", ago(w.Now, event.Last), times, event.Reason, event.Message)
	}
	return s
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func forHow(now, since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return ", for " + Lasted(now.Sub(since))
}
