package gate_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/service"
)

var now = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

// readyPod is gated, waits for nothing but us, and declares web and api.
func readyPod() service.Pod {
	return service.Pod{
		Ref: service.PodRef{Namespace: "shop", Name: "web-0", UID: "1"},
		Annotations: map[string]string{
			"fairway.dev/service-names": "web,api", "fairway.dev/service-port": "80",
		},
		Addresses:       []netip.Addr{netip.MustParseAddr("198.18.64.7")},
		Phase:           service.PhaseRunning,
		ContainersReady: true,
		Gates:           []service.Gate{{Type: service.GateReachable}},
	}
}

const (
	web = "fairway_web_shop_web-0_1"
	api = "fairway_api_shop_web-0_1"
)

// waitsFor makes the containers unready; gate is one that does not count.
func waitsFor(unready ...string) func(*service.Pod) {
	return func(p *service.Pod) {
		p.Annotations["fairway.dev/sidecar"] = "gate"
		p.ContainersReady = false
		for _, name := range []string{"app", "gate"} {
			p.Containers = append(p.Containers, service.Container{Name: name, Ready: !slices.Contains(unready, name)})
		}
	}
}

func passing(index uint64) gate.Proof {
	return gate.Proof{Finding: gate.Passing, Index: index, At: now}
}

func proofs(webProof, apiProof gate.Proof) map[string]gate.Proof {
	return map[string]gate.Proof{web: webProof, api: apiProof}
}

func TestDecide(t *testing.T) {
	proven := proofs(passing(41), passing(42))
	all := []string{"web", "api"}
	const first = 20 * time.Millisecond

	tests := []struct {
		name       string
		change     func(*service.Pod)
		proofs     map[string]gate.Proof
		refused    map[string]string
		open       bool
		reason     string
		message    string
		needsProof []string
		retryAfter time.Duration
	}{
		{name: "reachable", proofs: proven, open: true,
			reason: gate.Reachable, message: "passing at the servers: web (index 41), api (index 42)"},
		{name: "no gate", change: func(p *service.Pod) { p.Gates = nil }, proofs: proven,
			reason: gate.NotGated, message: "the pod has no readiness gate fairway.dev/reachable"},
		{name: "open already, by its condition", change: func(p *service.Pod) {
			p.Terminating = true
			p.Annotations["fairway.dev/service-port"] = "x"
			p.Conditions = map[string]service.Condition{service.GateReachable: {
				Status: service.ConditionTrue, Reason: "Reachable", Message: "as it was written",
			}}
		}, open: true, reason: gate.Reachable, message: "as it was written"},
		{name: "open already, by the gate", change: func(p *service.Pod) { p.Gates[0].Open = true },
			open: true, reason: gate.Reachable},
		{name: "a condition that is not True is not open", change: func(p *service.Pod) {
			p.Conditions = map[string]service.Condition{service.GateReachable: {Status: service.ConditionFalse, Reason: "X"}}
		}, proofs: proven, open: true, reason: gate.Reachable, message: "passing at the servers: web (index 41), api (index 42)"},

		{name: "bad annotation", change: func(p *service.Pod) {
			p.Terminating = true // still the annotation: nothing is gained by writing the pod once more
			p.Annotations["fairway.dev/service-port-api"] = "99999"
		}, proofs: proven, reason: gate.InvalidAnnotation,
			message: `fairway.dev/service-port-api: "99999" is out of range: give a number from 1 to 65535`},
		{name: "many bad annotations", change: func(p *service.Pod) { p.Annotations["fairway.dev/service-names"] = "web,a_,b_,c_,d_,e_" },
			proofs: proven, reason: gate.InvalidAnnotation,
			message: `fairway.dev/service-names: "a_" is not a service name: only letters, digits and '-' can be looked up by DNS; ` +
				`fairway.dev/service-names: "b_" is not a service name: only letters, digits and '-' can be looked up by DNS; ` +
				`fairway.dev/service-names: "c_" is not a service name: only letters, digits and '-' can be looked up by DNS; and 2 more`},
		{name: "nothing declared", change: func(p *service.Pod) { p.Annotations = nil }, proofs: proven, reason: gate.NothingDeclared,
			message: "the pod has the readiness gate fairway.dev/reachable but no annotation fairway.dev/service-names: add it, or remove the gate"},
		{name: "fixed health", change: func(p *service.Pod) { p.Annotations["fairway.dev/service-health-api"] = "warning" },
			proofs: proven, reason: gate.FixedHealth,
			message: "the annotation service-health keeps service api at warning, and clients are given passing instances only: change it, or remove the gate"},
		{name: "fixed health that passes", change: func(p *service.Pod) { p.Annotations["fairway.dev/service-health"] = "passing" },
			proofs: proven, open: true, reason: gate.Reachable, message: "passing at the servers: web (index 41), api (index 42)"},
		{name: "a container that waits for us", change: waitsFor("gate"), proofs: proven, open: true,
			reason: gate.Reachable, message: "passing at the servers: web (index 41), api (index 42)"},
		{name: "a container that waits for us, and another", change: waitsFor("gate", "app"), proofs: proven,
			reason: gate.WaitingForContainers, message: "containers are not ready: app (not counting gate)"},
		{name: "a container that waits for us, and a gate", change: func(p *service.Pod) {
			waitsFor("gate")(p)
			p.Gates = append(p.Gates, service.Gate{Type: "example.com/lb"})
		}, proofs: proven, reason: gate.WaitingForOtherGates, message: "readiness gate example.com/lb is not open"},
		{name: "terminating", change: func(p *service.Pod) { p.Terminating = true }, proofs: proven,
			reason: gate.Terminating, message: "pod is terminating"},
		{name: "ended", change: func(p *service.Pod) { p.Phase = service.PhaseFailed }, proofs: proven,
			reason: gate.Ended, message: "pod has ended: phase Failed"},
		{name: "no address", change: func(p *service.Pod) { p.Addresses, p.ContainersReady = nil, false }, proofs: proven,
			reason: gate.WaitingForAddress, message: "the pod has no address yet"},
		{name: "containers", change: func(p *service.Pod) {
			p.ContainersReady, p.NotReadyMessage = false, "containers with unready status: [app]"
		}, proofs: proven, reason: gate.WaitingForContainers,
			message: "containers are not ready: containers with unready status: [app]"},
		{name: "another gate", change: func(p *service.Pod) { p.Gates = append(p.Gates, service.Gate{Type: "example.com/lb"}) },
			proofs: proven, reason: gate.WaitingForOtherGates, message: "readiness gate example.com/lb is not open"},
		{name: "refused, whatever the proof", proofs: proven, refused: map[string]string{api: "Permission denied: lacks permission 'service:write'"},
			reason:  gate.RegistryRefused,
			message: "the registry does not take service api: Permission denied: lacks permission 'service:write'"},
		{name: "another pod is refused", proofs: proven, refused: map[string]string{"fairway_api_shop_web-1_2": "x"}, open: true,
			reason: gate.Reachable, message: "passing at the servers: web (index 41), api (index 42)"},

		{name: "not asked yet", reason: gate.WaitingForServers, message: "no answer of the servers yet about web, api",
			needsProof: all, retryAfter: first},
		{name: "no answer", proofs: proofs(gate.Proof{Detail: "no leader"}, passing(42)), reason: gate.WaitingForServers,
			message: "no answer of the servers yet about web (no leader)", needsProof: all, retryAfter: first},
		{name: "absent", proofs: proofs(passing(41), gate.Proof{Finding: gate.Absent, Detail: "its check is critical", At: now}),
			reason:  gate.NotPassingAtServers,
			message: "the servers do not return this pod for api (its check is critical)", needsProof: all, retryAfter: first},
		{name: "an answer says more than none", proofs: proofs(gate.Proof{}, gate.Proof{Finding: gate.Absent}),
			reason: gate.NotPassingAtServers, message: "the servers do not return this pod for api", needsProof: all, retryAfter: first},
		{name: "an old answer proves nothing", proofs: proofs(passing(41),
			gate.Proof{Finding: gate.Passing, Index: 42, At: now.Add(-gate.Fresh - time.Millisecond)}),
			reason:  gate.WaitingForServers,
			message: "no answer of the servers yet about api (the last answer is too old to count)", needsProof: all, retryAfter: first},
		{name: "a finding that is not known proves nothing", proofs: proofs(passing(41), gate.Proof{Finding: "warning", At: now}),
			reason: gate.WaitingForServers, message: "no answer of the servers yet about api", needsProof: all, retryAfter: first},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := readyPod()
			if tt.change != nil {
				tt.change(&pod)
			}
			got := gate.Decide(gate.Input{
				Pod: pod, Declared: annotation.Parse(pod), Proofs: tt.proofs, Refused: tt.refused, Now: now,
			})
			if got.Open != tt.open || got.Reason != tt.reason || got.Message != tt.message || got.RetryAfter != tt.retryAfter {
				t.Errorf("got  %v %s %q %v\nwant %v %s %q %v", got.Open, got.Reason, got.Message, got.RetryAfter,
					tt.open, tt.reason, tt.message, tt.retryAfter)
			}
			var names []string
			for _, i := range got.NeedsProof {
				names = append(names, i.Name)
			}
			if diff := cmp.Diff(tt.needsProof, names); diff != "" {
				t.Errorf("needs proof: -want +got:\n%s", diff)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	pod := readyPod()
	in := gate.Input{Pod: pod, Declared: annotation.Parse(pod), Now: now}
	var got []time.Duration
	for _, in.Attempts = range []int{0, 1, 2, 3, 6, 7, 8, 1 << 40} {
		got = append(got, gate.Decide(in).RetryAfter/time.Millisecond)
	}
	want := []time.Duration{20, 20, 40, 80, 640, 1000, 1000, 1000}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("milliseconds: -want +got:\n%s", diff)
	}
}
