// Package gate decides whether a pod may be Ready: whether every outlet it
// declares has proven that clients are given this very pod. It is pure.
//
// The gate opens on proof alone and never closes again (I3). Until then the
// verdict names the one thing that is waited for (I7), the most actionable
// first: what the user must repair, then what the pod itself is waiting for,
// then what the servers say.
package gate

import (
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

// Finding is what the servers said of one instance.
type Finding string

// The values of Finding.
const (
	// Unknown: no usable answer. It never opens and never closes anything.
	Unknown Finding = ""
	// Absent: the servers answered, and do not list the instance among those
	// that clients get.
	Absent Finding = "absent"
	// Different: the servers give clients an entry of that ID that is not the
	// instance: its address, port or pod is another. It opens no gate, and it
	// is no proof that the pod is out.
	Different Finding = "different"
	// Passing: the servers return the instance to clients.
	Passing Finding = "passing"
)

// Proof is an answer of the servers about one instance.
type Proof struct {
	Finding Finding
	// Detail says why the finding is not Passing, as a sentence part. It
	// is shown in the pod's condition, so it must not change while the cause
	// is the same: no counters, times or local port numbers in it.
	Detail string
	// Index is the servers' index of the answer, 0 if there was none.
	Index uint64
	// At is when the answer arrived. A Passing older than Fresh proves nothing.
	At time.Time
}

// Fresh is for how long an answer proves that an instance is passing. It lets
// one round of asking serve all services of a pod, and no round serve the next:
// the pod may have been unready in between.
const Fresh = 5 * time.Second

// Input is everything Decide looks at.
type Input struct {
	Pod      service.Pod
	Declared annotation.Result
	// Proofs are by instance ID; what was not asked is missing and unknown.
	Proofs map[string]Proof
	// Refused holds, by instance ID, why the registry would not take an entry.
	// As with Proof.Detail, the text must be stable.
	Refused map[string]string
	// Gates are the readiness gates that open together; service.GateReachable
	// alone if empty.
	Gates []string
	// Attempts is how often in a row the servers were asked about this pod.
	Attempts int
	Now      time.Time
}

// Verdict says whether the gate may open, and if not, what it waits for.
//
// Reason and Message depend on what is waited for and on nothing else, not on
// how long or how often, because each change of them is a write to the API
// server (I6).
type Verdict struct {
	Open    bool
	Reason  string // CamelCase, for the condition; one of the constants below
	Message string // one sentence, for a person
	// NeedsProof lists the instances whose proof would decide, if any: all that
	// the pod declares, so that one round of answers proves them together.
	// While Attempts is 0 they are to be asked about at once, and the condition
	// is not worth writing before that answer.
	NeedsProof []service.Instance
	// RetryAfter is how long after the last answer to ask again; zero if only
	// an event of the pod can change the verdict.
	RetryAfter time.Duration
}

// The reasons of a Verdict, in the order in which they are looked for.
const (
	// NotGated: the pod does not wait for Fairway; there is nothing to write.
	NotGated = "NotGated"
	// Reachable: the gate is open. Every instance that the pod declares was
	// returned to clients by the servers.
	Reachable = "Reachable"
	// InvalidAnnotation: the user has to correct an annotation.
	InvalidAnnotation = "InvalidAnnotation"
	// NothingDeclared: the pod has the gate and names no service.
	NothingDeclared = "NothingDeclared"
	// FixedHealth: an annotation fixes the health of a service at other than
	// passing, so that clients are never given it.
	FixedHealth = "FixedHealth"
	// Terminating: the pod is being deleted and will not be Ready again.
	Terminating = "Terminating"
	// Ended: all containers of the pod have stopped for good.
	Ended = "Ended"
	// WaitingForAddress: the pod has no IP address yet.
	WaitingForAddress = "WaitingForAddress"
	// WaitingForContainers: not all containers are ready.
	WaitingForContainers = "WaitingForContainers"
	// WaitingForOtherGates: another readiness gate of the pod is not open, and
	// the instance stays critical until it is.
	WaitingForOtherGates = "WaitingForOtherGates"
	// RegistryRefused: the registry does not take an entry of the pod.
	RegistryRefused = "RegistryRefused"
	// NotPassingAtServers: the servers answer, and do not give the instance to
	// clients.
	NotPassingAtServers = "NotPassingAtServers"
	// WaitingForServers: the servers were not asked yet, or gave no usable
	// answer.
	WaitingForServers = "WaitingForServers"
)

// Reasons are all that the gate of a pod that may still be Ready can wait for,
// and Reachable.
func Reasons() []string {
	return []string{
		InvalidAnnotation, NothingDeclared, FixedHealth, WaitingForAddress, WaitingForContainers,
		WaitingForOtherGates, RegistryRefused, NotPassingAtServers, WaitingForServers, Reachable,
	}
}
