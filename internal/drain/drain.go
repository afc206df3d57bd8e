// Package drain decides whether a pod may stop: whether clients are given none
// of its instances any more. It is pure.
//
// A pod is out when the registry holds none of its instances in service and the
// servers, asked after that, give none of them to clients. An answer that did
// not come, or is not about the instance, is no proof of that (I1).
package drain

import (
	"fmt"
	"strings"
	"time"

	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/service"
)

// Standing is how a pod that leaves stands in the registry.
type Standing struct {
	// Instances are all that the pod declares and all that the registry holds
	// of it, each ID once: an entry that is no longer declared is still given
	// to clients.
	Instances []service.Instance
	// InService says, by instance ID, why an entry is not known to be out of
	// service yet: it is not written yet, or the registry refuses.
	InService map[string]string
}

// Input is everything Decide looks at.
type Input struct {
	// Standing is nil as long as nobody has taken the pod out of the registry.
	Standing *Standing
	// Blocked is why nothing can be written at all; empty if it can.
	Blocked string
	// Proofs are by instance ID, of questions that were asked when Standing had
	// nothing in service any more.
	Proofs map[string]gate.Proof
	// Attempts is how often in a row the servers were asked.
	Attempts int
	Now      time.Time
}

// Verdict says whether the pod may stop, and if not, what it waits for.
type Verdict struct {
	Out     bool
	Reason  string // one of the constants below
	Message string // one sentence, for a person
	// NeedsProof lists the instances whose proof would decide, if any.
	NeedsProof []service.Instance
	// RetryAfter is how long after the last answer to ask again; zero if only
	// a change of Standing can change the verdict.
	RetryAfter time.Duration
}

// The reasons of a Verdict, in the order in which they are looked for.
const (
	// WaitingForAgent: the node's agent does not know the pod, or cannot read
	// or write the registry.
	WaitingForAgent = "WaitingForAgent"
	// NothingPublished: the pod publishes nothing, so that it may stop.
	NothingPublished = "NothingPublished"
	// WaitingForRegistry: the registry still holds an instance in service.
	WaitingForRegistry = "WaitingForRegistry"
	// StillAtServers: the servers still give an instance to clients.
	StillAtServers = "StillAtServers"
	// WaitingForServers: the servers were not asked yet, or gave no usable
	// answer.
	WaitingForServers = "WaitingForServers"
	// OutOfService: the servers give none of the pod's instances to clients.
	OutOfService = "OutOfService"
)

// Decide says whether the pod may stop.
func Decide(in Input) Verdict {
	switch {
	case in.Blocked != "":
		return Verdict{Reason: WaitingForAgent, Message: "the node's agent cannot write to the registry: " + in.Blocked}
	case in.Standing == nil:
		return Verdict{Reason: WaitingForAgent, Message: "the node's agent has not seen the pod yet"}
	}
	var writing []string
	for _, instance := range in.Standing.Instances {
		if why, ok := in.Standing.InService[instance.ID]; ok {
			writing = append(writing, withDetail(instance.Name, why))
		}
	}
	switch {
	case len(writing) > 0:
		return Verdict{Reason: WaitingForRegistry, Message: "the registry still holds as in service: " + strings.Join(writing, ", ")}
	case len(in.Standing.Instances) == 0:
		return Verdict{Out: true, Reason: NothingPublished, Message: "the pod publishes no service"}
	}
	return judge(in)
}

// judge lets the pod stop if each instance is proven out.
func judge(in Input) Verdict {
	var out, given, unknown []string
	for _, instance := range in.Standing.Instances {
		proof := in.Proofs[instance.ID]
		switch {
		case in.Now.Sub(proof.At) > gate.Fresh:
			unknown = append(unknown, withDetail(instance.Name, proof.Detail))
		case proof.Finding == gate.Absent:
			out = append(out, fmt.Sprintf("%s (index %d)", instance.Name, proof.Index))
		case proof.Finding == gate.Passing, proof.Finding == gate.Different:
			given = append(given, withDetail(instance.Name, proof.Detail))
		default:
			unknown = append(unknown, withDetail(instance.Name, proof.Detail))
		}
	}
	if len(given)+len(unknown) == 0 {
		return Verdict{Out: true, Reason: OutOfService, Message: "the servers do not give it to clients: " + strings.Join(out, ", ")}
	}
	v := Verdict{
		Reason:     WaitingForServers,
		Message:    "no answer of the servers yet about " + strings.Join(unknown, ", "),
		NeedsProof: in.Standing.Instances,
		RetryAfter: gate.Backoff(in.Attempts),
	}
	if len(given) > 0 {
		v.Reason, v.Message = StillAtServers, "the servers still give this pod to clients for "+strings.Join(given, ", ")
	}
	return v
}

// withDetail is the name of a service and what was said of it.
func withDetail(name, detail string) string {
	if detail == "" {
		return name
	}
	return name + " (" + detail + ")"
}
