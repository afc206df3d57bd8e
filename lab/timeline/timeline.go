// Package timeline records when each pod of a workload reached which stage of
// its life, as two outsiders see it: a watch on the API server and a blocking
// query on the Consul servers. Nothing of Fairway is asked.
package timeline

import (
	"slices"
	"strings"
	"time"
)

// Stage is a point in a pod's life.
type Stage int

// The stages in the order in which a gated pod goes through them.
const (
	Created Stage = iota
	ContainersReady
	Passing     // the servers first return it as passing
	GateOpen    // condition fairway.dev/reachable is True
	Ready       // pod Ready
	Confirmed   // a consistent read, begun after Ready was seen, returned it
	Terminating // the DELETE request was seen
	Out         // the servers no longer return it as passing
	Deleted     // the API object is gone
	stages
)

var stageNames = [stages]string{"created", "containers ready", "passing at servers", "gate open", "ready", "confirmed", "terminating", "out", "deleted"}

// String is the stage in words.
func (s Stage) String() string { return stageNames[s] }

// Pod is one pod's timeline. Times are when the observer learned of a stage; a
// stage not reached has the zero time.
type Pod struct {
	Namespace string
	Name      string
	UID       string
	Node      string
	IP        string
	Revision  string // value of label pod-template-hash
	At        [stages]time.Time
	// GateReason and GateMessage are those of the condition as last seen.
	GateReason  string
	GateMessage string
	// Flaps counts how often the servers dropped the pod from the passing set
	// and took it back later, NodeFlaps how often they did so for its node's own
	// health alone: Consul's members took that for dead, of which Fairway has no part.
	Flaps, NodeFlaps int
	// NodeOut says that the pod is dropped for its node's own health, and for
	// nothing else since.
	NodeOut bool
	// LastOut is when the servers last dropped the pod, also if they took it
	// back later.
	LastOut time.Time
	// Denied counts the consistent reads, begun after the pod was seen Ready,
	// that did not return it: each is a client that would not have found it.
	Denied int
}

// Lost tells whether the servers dropped the pod from the passing set although
// nobody has deleted it and its node lives.
func (p Pod) Lost() bool {
	return p.Reached(Out) && !p.NodeOut && !p.Reached(Terminating) && !p.Reached(Deleted)
}

// Dropped tells whether the servers dropped the pod although they were to return
// it: one that has a gate, from when that has opened. Before, Consul's client agent
// may take back what it has not heard of yet. Its node's own health does not count.
func (p Pod) Dropped() bool {
	gate := p.At[GateOpen]
	return p.Lost() || p.Flaps > 0 && (gate.IsZero() || p.LastOut.After(gate))
}

// Reached tells whether the pod has come to the stage.
func (p Pod) Reached(s Stage) bool { return !p.At[s].IsZero() }

// Between is the time from one stage to another, and false if either was not
// reached.
func (p Pod) Between(from, to Stage) (time.Duration, bool) {
	if !p.Reached(from) || !p.Reached(to) {
		return 0, false
	}
	return p.At[to].Sub(p.At[from]), true
}

// Change is one stage reached by one pod.
type Change struct {
	Pod   Pod
	Stage Stage
}

// sorted returns the pods by creation, then name.
func sorted(pods map[string]*Pod) []Pod {
	out := make([]Pod, 0, len(pods))
	for _, p := range pods {
		if p.Reached(Created) {
			out = append(out, *p)
		}
	}
	slices.SortFunc(out, func(a, b Pod) int {
		if c := a.At[Created].Compare(b.At[Created]); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}
