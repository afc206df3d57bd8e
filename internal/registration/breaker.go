package registration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// leastRemovals is how many removals make a mass, whatever share they are.
	leastRemovals = 3
	// removalWindow is the time within which removals count together.
	removalWindow = time.Minute
	// AskAfter is how long after a removal was frozen the question is put again
	// whose answer lets it pass. Who lies for a moment does not any more.
	AskAfter = 15 * time.Second
)

// Breaker freezes removals that come in a mass (I1): each may be proven, but
// what proves them may be wrong about all. It counts what is taken out of service
// because its pod is said to be gone, or not to declare the service any more.
// What leaves because its pod terminates, has ended or is not ready is not
// counted and never frozen: there the pod itself says so.
//
// Up to two removals within a minute pass in any case, and so do those up to a
// share of the instances in service, of the node and of each service on it. What
// is held for the lack of proof counts as if it were to be removed.
// Others are frozen, one by one, until it is proven anew that they are right;
// see [Evidence].
//
// The zero Breaker has seen nothing yet. It is a value; Restrain returns the
// next one.
type Breaker struct {
	passed map[string]removal   // in the window, with nothing but one proof; by instance ID
	frozen map[string]time.Time // since when, by instance ID
}

// removal is one that passed.
type removal struct {
	service string
	at      time.Time
}

// Evidence is what is known of removals beside what made them.
type Evidence struct {
	Now time.Time
	// MaxShare, from 0 to 1, is the largest share of the instances in service
	// that may be removed within a minute without more evidence; 1 is all.
	MaxShare float64
	// AllowedUntil is until when a person lets all removals pass.
	AllowedUntil time.Time
	// Running says, by UID, which pods the node's kubelet runs. It is nil if the
	// kubelet does not say. A kubelet that says otherwise keeps a removal
	// frozen; one that agrees with the API server is a second witness, and such
	// a removal does not count.
	Running map[string]bool
	// Answers are the last answers about single pods, by owner.
	Answers map[string]Answer
}

// Answer is what the API server answered about one pod or endpoint.
type Answer struct {
	Asked    time.Time
	Gone     bool
	Declares []string // services, by name
}

// Frozen is a removal that waits.
type Frozen struct {
	Op     Op
	Since  time.Time
	Reason string // how many would be removed of what
	Waits  string // what it waits for
}

// Restrain takes out of a plan the removals that must wait, and puts them into
// Frozen. in is what the plan was made from.
func (b Breaker) Restrain(plan Plan, in Input, evidence Evidence) (Plan, Breaker) {
	next := Breaker{passed: maps.Clone(b.passed), frozen: map[string]time.Time{}}
	maps.DeleteFunc(next.passed, func(_ string, r removal) bool { return evidence.Now.Sub(r.at) >= removalWindow })
	if next.passed == nil {
		next.passed = map[string]removal{}
	}

	var doubted []Op
	for _, op := range plan.Ops {
		if _, passed := next.passed[op.Instance.ID]; op.Removal != "" && !passed && !evidence.supports(op, b.frozen[op.Instance.ID]) {
			doubted = append(doubted, op)
		}
	}
	var masses map[string][]string
	if len(doubted) > 0 {
		masses = next.masses(doubted, plan.Held, in, evidence.MaxShare)
	}
	for _, op := range doubted {
		id := op.Instance.ID
		since, wasFrozen := b.frozen[id]
		reason := strings.Join(masses[op.Instance.Name], "; ")
		switch {
		case reason == "" && !wasFrozen:
			next.passed[id] = removal{op.Instance.Name, evidence.Now}
			continue
		case reason == "":
			reason = "it was frozen together with others"
		}
		if !wasFrozen {
			since = evidence.Now
		}
		next.frozen[id] = since
		plan.Frozen = append(plan.Frozen, Frozen{Op: op, Since: since, Reason: reason, Waits: evidence.lacks(op)})
	}
	plan.Ops = slices.DeleteFunc(slices.Clone(plan.Ops), func(op Op) bool {
		_, frozen := next.frozen[op.Instance.ID]
		return frozen && op.Removal != ""
	})
	return plan, next
}

// masses says, by service name, of what too many would be removed. What is held
// for the lack of proof counts: it is about to be proven by whoever has proven
// the rest, one after the other.
func (b Breaker) masses(doubted []Op, held []Held, in Input, maxShare float64) map[string][]string {
	type count struct{ removed, all map[string]bool }
	node := count{map[string]bool{}, map[string]bool{}}
	services := map[string]count{}
	note := func(id, name string, removed bool) {
		if _, ok := services[name]; !ok {
			services[name] = count{map[string]bool{}, map[string]bool{}}
		}
		for _, c := range []count{node, services[name]} {
			c.all[id] = true
			if removed {
				c.removed[id] = true
			}
		}
	}
	for _, entry := range in.Entries {
		if entry.Cluster == in.Cluster && entry.Node == in.Node && entry.InService() {
			note(entry.Instance.ID, entry.Instance.Name, false)
		}
	}
	for id, r := range b.passed {
		note(id, r.service, true)
	}
	for _, op := range doubted {
		note(op.Instance.ID, op.Instance.Name, true)
	}
	for _, h := range held {
		if h.Entry.InService() {
			note(h.Entry.Instance.ID, h.Entry.Instance.Name, true)
		}
	}

	where := " on this node"
	if in.Node == "" {
		where = ""
	}
	masses := map[string][]string{}
	for name, s := range services {
		for of, c := range map[string]count{fmt.Sprintf(" of service %q", name): s, "": node} {
			if n := len(c.removed); n >= leastRemovals && float64(n) > maxShare*float64(len(c.all)) {
				masses[name] = append(masses[name], fmt.Sprintf("%d of the %d instances%s%s would be removed at once, or are missing",
					n, len(c.all), of, where))
			}
		}
		slices.Sort(masses[name])
	}
	return masses
}

// supports tells whether a removal has more for it than the proof that made it.
func (e Evidence) supports(op Op, frozen time.Time) bool {
	owner := op.Instance.Owner()
	if e.Now.Before(e.AllowedUntil) || op.Removal == PodGone && e.Running != nil && !e.Running[owner] {
		return true
	}
	answer, ok := e.Answers[owner]
	if !ok || frozen.IsZero() || answer.Asked.Before(frozen.Add(AskAfter)) {
		return false
	}
	if op.Removal == Undeclared {
		return answer.Gone || !slices.Contains(answer.Declares, op.Instance.Name)
	}
	return answer.Gone && !e.Running[owner]
}

// lacks says what a frozen removal waits for.
func (e Evidence) lacks(op Op) string {
	if op.Removal == PodGone && e.Running[op.Instance.Owner()] {
		return "the kubelet says that the pod runs"
	}
	return fmt.Sprintf("the API server is asked again, %s after it was frozen", AskAfter)
}
