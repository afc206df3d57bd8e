package gate

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

// Decide says whether the gate of a pod may open.
func Decide(in Input) Verdict {
	if len(in.Gates) == 0 {
		in.Gates = []string{service.GateReachable}
	}
	if !in.Pod.HasGate(in.Gates...) {
		return Verdict{Reason: NotGated, Message: "the pod has no readiness gate " + strings.Join(in.Gates, " or ")}
	}
	if len(in.Pod.Closed(in.Gates...)) == 0 {
		was := in.Pod.Conditions[in.Gates[0]]
		return Verdict{Open: true, Reason: cmp.Or(was.Reason, Reachable), Message: was.Message}
	}
	if reason, message := blocked(in); reason != "" {
		return Verdict{Reason: reason, Message: message}
	}
	return judge(in)
}

// blocked is what must happen before it makes sense to ask the servers; empty
// if nothing.
func blocked(in Input) (reason, message string) {
	pod, declared := in.Pod, in.Declared
	health, why := pod.Status(declared.Excluded...)
	withheld, fixed := NeverPassing(declared)
	switch {
	case len(declared.Errors) > 0:
		return InvalidAnnotation, describe(declared.Errors)
	case len(declared.Services) == 0:
		return NothingDeclared, fmt.Sprintf("the pod has the readiness gate %s but no annotation %s: add it, or remove the gate",
			strings.Join(in.Pod.Closed(in.Gates...), " and "), annotation.Native+annotation.Names)
	case withheld != "":
		return FixedHealth, fmt.Sprintf("the annotation service-health keeps service %s at %s, and clients are given passing instances only: "+
			"change it, or remove the gate", withheld, fixed)
	case pod.Terminating:
		return Terminating, why
	case pod.Ended():
		return Ended, why
	case len(declared.Instances) < len(declared.Services):
		return WaitingForAddress, "the pod has no address yet"
	case pod.NotReady(declared.Excluded...) != "":
		return WaitingForContainers, why
	case health != service.Passing:
		return WaitingForOtherGates, why
	}
	// A refusal counts more than a proof: what the servers return then is not
	// what the pod declares now.
	for _, instance := range declared.Instances {
		if detail, ok := in.Refused[instance.ID]; ok {
			return RegistryRefused, fmt.Sprintf("the registry does not take service %s: %s", instance.Name, detail)
		}
	}
	return "", ""
}

// NeverPassing is the first service whose health is fixed at other than passing,
// so that no gate of the pod opens; empty if there is none.
func NeverPassing(declared annotation.Result) (name string, fixed service.Health) {
	for _, name := range declared.Services {
		if fixed, ok := declared.Fixed.For(name); ok && fixed != service.Passing {
			return name, fixed
		}
	}
	return "", ""
}

// judge opens the gate if each declared instance is proven, and else says what
// the servers are waited for.
func judge(in Input) Verdict {
	var proven, absent, unknown []string
	for _, instance := range in.Declared.Instances {
		proof := in.Proofs[instance.ID]
		stale := in.Now.Sub(proof.At) > Fresh
		switch {
		case proof.Finding == Absent, proof.Finding == Different:
			absent = append(absent, withDetail(instance.Name, proof.Detail))
		case proof.Finding != Passing:
			unknown = append(unknown, withDetail(instance.Name, proof.Detail))
		case stale:
			unknown = append(unknown, withDetail(instance.Name, "the last answer is too old to count"))
		default:
			proven = append(proven, fmt.Sprintf("%s (index %d)", instance.Name, proof.Index))
		}
	}
	if len(absent)+len(unknown) == 0 {
		return Verdict{Open: true, Reason: Reachable, Message: "passing at the servers: " + strings.Join(proven, ", ")}
	}
	v := Verdict{
		Reason:     WaitingForServers,
		Message:    "no answer of the servers yet about " + strings.Join(unknown, ", "),
		NeedsProof: in.Declared.Instances,
		RetryAfter: Backoff(in.Attempts),
	}
	if len(absent) > 0 {
		v.Reason, v.Message = NotPassingAtServers, "the servers do not return this pod for "+strings.Join(absent, ", ")
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

// describe puts the first errors into one sentence. The rest is in the pod's
// Events; a condition is no place for a list without bound.
func describe(errs []annotation.Error) string {
	const most = 3
	var parts []string
	for i, e := range errs {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(errs)-most))
			break
		}
		parts = append(parts, e.String())
	}
	return strings.Join(parts, "; ")
}

// Backoff is how long to wait after the given number of answers that did not
// decide: short at first, since an entry is normally visible within
// milliseconds, and never longer than a person would notice.
func Backoff(attempts int) time.Duration {
	const first, longest = 20 * time.Millisecond, time.Second
	wait := first
	for ; attempts > 1 && wait < longest; attempts-- {
		wait *= 2
	}
	return min(wait, longest)
}
