package gate_test

import (
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/service"
)

// drawInput makes pods near the moment at which their gate opens, with answers
// of all kinds.
func drawInput(t *rapid.T) gate.Input {
	mostly := func(label string) bool { return rapid.IntRange(0, 9).Draw(t, label) > 0 }
	pod := readyPod()
	pod.ContainersReady = mostly("containers ready")
	pod.Terminating = !mostly("stays")
	if !mostly("address") {
		pod.Addresses = []netip.Addr{}
	}
	if !mostly("running") {
		pod.Phase = rapid.SampledFrom([]service.Phase{service.PhasePending, service.PhaseFailed, service.PhaseSucceeded}).Draw(t, "phase")
	}
	if !mostly("gated") {
		pod.Gates = nil
	}
	if !mostly("no other gate") {
		pod.Gates = append(pod.Gates, service.Gate{Type: "example.com/lb", Open: rapid.Bool().Draw(t, "other gate")})
	}
	if !mostly("valid") {
		pod.Annotations["fairway.dev/service-names"] = rapid.SampledFrom([]string{"", "web", "web,", "_", "web,_"}).Draw(t, "names")
	}
	if !mostly("health is the pod's") {
		pod.Annotations["fairway.dev/service-health-web"] = rapid.SampledFrom([]string{"passing", "warning", "critical", "x"}).Draw(t, "fixed")
	}
	if rapid.Bool().Draw(t, "sidecar") {
		pod.Annotations["fairway.dev/sidecar"] = "gate"
		pod.Containers = []service.Container{{Name: "app", Ready: pod.ContainersReady || rapid.Bool().Draw(t, "app")}, {Name: "gate", Ready: pod.ContainersReady}}
	}
	if rapid.Bool().Draw(t, "condition") {
		pod.Conditions = map[string]service.Condition{service.GateReachable: {
			Status: rapid.SampledFrom([]service.ConditionStatus{service.ConditionFalse, service.ConditionUnknown, ""}).Draw(t, "status"),
			Reason: "WaitingForServers", Message: "as it was",
		}}
	}
	in := gate.Input{
		Pod: pod, Declared: annotation.Parse(pod), Now: now, Proofs: map[string]gate.Proof{}, Refused: map[string]string{},
		Attempts: rapid.IntRange(0, 20).Draw(t, "attempts"),
	}
	for _, id := range []string{web, api, "fairway_web_shop_web-0_other-uid"} {
		if mostly("asked " + id) {
			in.Proofs[id] = gate.Proof{
				Finding: rapid.SampledFrom([]gate.Finding{gate.Passing, gate.Passing, gate.Passing, gate.Absent, gate.Unknown, "warning"}).Draw(t, "finding"),
				Detail:  rapid.SampledFrom([]string{"", "no leader"}).Draw(t, "detail"),
				Index:   rapid.Uint64Range(1, 100).Draw(t, "index"),
				At:      now.Add(-time.Duration(rapid.IntRange(0, 6).Draw(t, "age")) * time.Second),
			}
		}
		if !mostly("accepted " + id) {
			in.Refused[id] = "Permission denied"
		}
	}
	return in
}

// The gate opens if, and only if, each instance that the pod declares has a
// fresh proof of its own and nothing is wrong with pod or annotations. The rule
// is written down here a second time, as plainly as possible.
func TestI3OpensOnProofAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		health, _ := in.Pod.Status(in.Declared.Excluded...)
		want := in.Pod.Gated() && health == service.Passing && len(in.Pod.Addresses) > 0 &&
			len(in.Declared.Errors) == 0 && len(in.Declared.Services) > 0
		for _, name := range in.Declared.Services {
			id := service.InstanceID(name, in.Pod.Ref)
			proof := in.Proofs[id]
			_, refused := in.Refused[id]
			if fixed, ok := in.Declared.Fixed.For(name); ok && fixed != service.Passing {
				want = false
			}
			want = want && proof.Finding == gate.Passing && now.Sub(proof.At) <= 5*time.Second && !refused
		}
		if v := gate.Decide(in); v.Open != want {
			t.Fatalf("open %v (%s: %s), want %v", v.Open, v.Reason, v.Message, want)
		}
	})
}

// A gate that is open stays open, with the words that it has, whatever
// happens to the pod, its annotations, the registry or the servers.
func TestI3NeverCloses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		in.Pod.Gates = append(in.Pod.Gates, service.Gate{Type: service.GateReachable, Open: true})
		was := service.Condition{Status: service.ConditionTrue, Reason: "Reachable", Message: "as it was"}
		in.Pod.Conditions = map[string]service.Condition{service.GateReachable: was}
		want := gate.Verdict{Open: true, Reason: was.Reason, Message: was.Message}
		if diff := cmp.Diff(want, gate.Decide(in)); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}

// While the pod waits for the same thing the condition reads the same, however
// often the servers were asked and however long it takes.
func TestI6WaitingWritesOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		before := gate.Decide(in)
		later := rapid.IntRange(0, 1e6).Draw(t, "later")
		in.Now = in.Now.Add(time.Duration(later) * time.Millisecond)
		in.Attempts += later
		answered := map[string]gate.Proof{}
		for id, proof := range in.Proofs {
			proof.Index += uint64(later)
			proof.At = proof.At.Add(time.Duration(later) * time.Millisecond)
			answered[id] = proof
		}
		in.Proofs = answered
		after := gate.Decide(in)
		if !before.Open && (after.Reason != before.Reason || after.Message != before.Message) {
			t.Fatalf("%s: %s\nbecame\n%s: %s", before.Reason, before.Message, after.Reason, after.Message)
		}
	})
}

// Every verdict has a reason that Kubernetes takes, and says in words what it
// is; what waits for the servers says whom to ask and when, and nothing else
// does.
func TestI7EveryWaitHasAName(t *testing.T) {
	camel := regexp.MustCompile(`^[A-Z][A-Za-z]+$`)
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		v := gate.Decide(in)
		if !camel.MatchString(v.Reason) || v.Message == "" {
			t.Fatalf("reason %q, message %q", v.Reason, v.Message)
		}
		asks := v.Reason == gate.WaitingForServers || v.Reason == gate.NotPassingAtServers
		if (len(v.NeedsProof) > 0) != asks || (v.RetryAfter > 0) != asks || v.RetryAfter > time.Second {
			t.Fatalf("%s: needs proof of %d, retry after %v", v.Reason, len(v.NeedsProof), v.RetryAfter)
		}
	})
}
