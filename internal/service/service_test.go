package service_test

import (
	"maps"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/service"
)

func TestStatus(t *testing.T) {
	ready := service.Pod{Phase: service.PhaseRunning, ContainersReady: true}
	with := func(change func(*service.Pod)) service.Pod {
		pod := ready
		change(&pod)
		return pod
	}
	tests := []struct {
		name   string
		pod    service.Pod
		health service.Health
		why    string
	}{
		{"ready", ready, service.Passing, "containers are ready"},
		{"no status yet", service.Pod{}, service.Critical, "containers are not ready"},
		{"not ready", with(func(p *service.Pod) {
			p.ContainersReady = false
			p.NotReadyMessage = "containers with unready status: [app]"
		}), service.Critical, "containers are not ready: containers with unready status: [app]"},
		{"terminating while ready", with(func(p *service.Pod) { p.Terminating = true }),
			service.Critical, "pod is terminating"},
		{"ended", with(func(p *service.Pod) { p.Phase = service.PhaseFailed }),
			service.Critical, "pod has ended: phase Failed"},
		{"own gate is not waited for", with(func(p *service.Pod) {
			p.Gates = []service.Gate{{Type: service.GateReachable}}
		}), service.Passing, "containers are ready"},
		{"katalog-sync's gate is not waited for", with(func(p *service.Pod) {
			p.Gates = []service.Gate{{Type: service.GateKatalog}}
		}), service.Passing, "containers are ready"},
		{"other gate is waited for", with(func(p *service.Pod) {
			p.Gates = []service.Gate{{Type: service.GateReachable}, {Type: "example.com/lb"}}
		}), service.Critical, "readiness gate example.com/lb is not open"},
		{"other gate is open", with(func(p *service.Pod) {
			p.Gates = []service.Gate{{Type: "example.com/lb", Open: true}}
		}), service.Passing, "containers are ready"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			health, why := tt.pod.Status()
			if health != tt.health || why != tt.why {
				t.Errorf("got %s, %q; want %s, %q", health, why, tt.health, tt.why)
			}
		})
	}
}

func TestStatusWithExcludedContainers(t *testing.T) {
	waiting := service.Pod{Phase: service.PhaseRunning, NotReadyMessage: "the kubelet's words", Containers: []service.Container{
		{Name: "app", Ready: true}, {Name: "logs"}, {Name: "gate"},
	}}
	with := func(change func(*service.Pod)) service.Pod {
		pod := waiting
		change(&pod)
		return pod
	}
	both := []string{"logs", "gate"}
	tests := []struct {
		name     string
		pod      service.Pod
		excluded []string
		health   service.Health
		why      string
	}{
		{"nothing excluded: the kubelet's word", waiting, nil, service.Critical, "containers are not ready: the kubelet's words"},
		{"all that is not ready is excluded", waiting, both, service.Passing, "containers are ready (not counting logs, gate)"},
		{"not all of it", waiting, []string{"gate"}, service.Critical, "containers are not ready: logs (not counting gate)"},
		{"all are ready", with(func(p *service.Pod) { p.ContainersReady = true }), both,
			service.Passing, "containers are ready (not counting logs, gate)"},
		{"not started", with(func(p *service.Pod) { p.Phase = service.PhasePending }), both,
			service.Critical, "pod is not running: phase Pending"},
		{"terminating", with(func(p *service.Pod) { p.Terminating = true }), both, service.Critical, "pod is terminating"},
		{"ended", with(func(p *service.Pod) { p.Phase = service.PhaseFailed }), both, service.Critical, "pod has ended: phase Failed"},
		{"another gate", with(func(p *service.Pod) { p.Gates = []service.Gate{{Type: "example.com/lb"}} }), both,
			service.Critical, "readiness gate example.com/lb is not open"},
		{"containers are not known one by one: the kubelet's word", with(func(p *service.Pod) { p.Containers = nil }), both,
			service.Critical, "containers are not ready: the kubelet's words"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			health, why := tt.pod.Status(tt.excluded...)
			if health != tt.health || why != tt.why {
				t.Errorf("got %s, %q; want %s, %q", health, why, tt.health, tt.why)
			}
		})
	}
}

func TestTaggedAddresses(t *testing.T) {
	v4, v6 := netip.MustParseAddr("198.18.64.7"), netip.MustParseAddr("fd00::7")
	tests := []struct {
		name      string
		addresses []netip.Addr
		want      map[string]netip.Addr
	}{
		{"none", nil, map[string]netip.Addr{}},
		{"one family", []netip.Addr{v4}, map[string]netip.Addr{"lan_ipv4": v4, "wan_ipv4": v4}},
		{"two, the first of each counts", []netip.Addr{v6, {}, v4, netip.MustParseAddr("fd00::8")},
			map[string]netip.Addr{"lan_ipv4": v4, "wan_ipv4": v4, "lan_ipv6": v6, "wan_ipv6": v6}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := service.TaggedAddresses(tt.addresses); !maps.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// Two instances have one ID only if service and pod are the same: the parts
// cannot run into each other.
func TestInstanceIDIsUnambiguous(t *testing.T) {
	part := rapid.StringMatching(`[a-z0-9]([a-z0-9.-]{0,3}[a-z0-9])?`)
	draw := func(t *rapid.T) (string, service.PodRef) {
		return part.Draw(t, "service"), service.PodRef{
			Namespace: part.Draw(t, "namespace"), Name: part.Draw(t, "pod"), UID: part.Draw(t, "uid"),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		nameA, podA := draw(t)
		nameB, podB := draw(t)
		same := nameA == nameB && podA == podB
		if (service.InstanceID(nameA, podA) == service.InstanceID(nameB, podB)) != same {
			t.Fatalf("%s %v and %s %v: ids %q and %q", nameA, podA, nameB, podB,
				service.InstanceID(nameA, podA), service.InstanceID(nameB, podB))
		}
	})
}

// The same holds for endpoints of Services, whose names in Consul may hold a '_',
// and no endpoint's ID is a pod's.
func TestEndpointInstanceIDIsUnambiguous(t *testing.T) {
	part := rapid.StringMatching(`[a-z0-9]([a-z0-9.:-]{0,3}[a-z0-9])?`)
	draw := func(t *rapid.T) (string, service.EndpointRef) {
		return rapid.StringMatching(`[a-z_]{1,4}`).Draw(t, "name"), service.EndpointRef{
			Namespace: part.Draw(t, "namespace"), Service: part.Draw(t, "service"), Key: part.Draw(t, "key"),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		nameA, a := draw(t)
		nameB, b := draw(t)
		same := nameA == nameB && a == b
		if (a.InstanceID(nameA) == b.InstanceID(nameB)) != same {
			t.Fatalf("%s %v and %s %v: ids %q and %q", nameA, a, nameB, b, a.InstanceID(nameA), b.InstanceID(nameB))
		}
		pod := service.PodRef{Namespace: part.Draw(t, "pod's namespace"), Name: part.Draw(t, "pod"), UID: part.Draw(t, "UID")}
		if service.InstanceID(part.Draw(t, "pod's service"), pod) == a.InstanceID(nameA) {
			t.Fatalf("%q is an ID of both", a.InstanceID(nameA))
		}
	})
}

func TestOwner(t *testing.T) {
	pod := service.PodRef{Namespace: "shop", Name: "web-0", UID: "p1"}
	endpoint := service.EndpointRef{Namespace: "shop", Service: "web", Key: "uid-p1"}
	for want, in := range map[string]service.Instance{
		"p1": {Pod: pod}, "shop/web/uid-p1": {Pod: pod, Endpoint: endpoint}, "": {},
	} {
		if got := in.Owner(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestGated(t *testing.T) {
	if (service.Pod{Gates: []service.Gate{{Type: "example.com/lb"}}}).Gated() {
		t.Error("another gate counts as ours")
	}
	if !(service.Pod{Gates: []service.Gate{{Type: "example.com/lb"}, {Type: service.GateReachable}}}).Gated() {
		t.Error("our gate is not seen")
	}
}
