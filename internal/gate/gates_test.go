package gate_test

import (
	"testing"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/service"
)

// Several gates open together, on one proof: as long as one of those that the
// pod has is closed, there is something to decide.
func TestGatesThatOpenTogether(t *testing.T) {
	both := []string{service.GateReachable, service.GateKatalog}
	own, other := service.Gate{Type: service.GateReachable}, service.Gate{Type: service.GateKatalog}
	opened := func(g service.Gate) service.Gate {
		g.Open = true
		return g
	}
	proven := proofs(passing(41), passing(42))
	tests := []struct {
		name   string
		gates  []service.Gate
		ours   []string
		proven bool
		open   bool
		reason string
	}{
		{"both closed, proven", []service.Gate{own, other}, both, true, true, gate.Reachable},
		{"both closed, not proven", []service.Gate{own, other}, both, false, false, gate.WaitingForServers},
		{"one open, not proven", []service.Gate{opened(own), other}, both, false, false, gate.WaitingForServers},
		{"both open, not proven", []service.Gate{opened(own), opened(other)}, both, false, true, gate.Reachable},
		{"the other alone", []service.Gate{other}, both, true, true, gate.Reachable},
		{"the other is not ours", []service.Gate{other}, nil, true, false, gate.NotGated},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := gate.Input{Pod: readyPod(), Gates: tt.ours, Now: now}
			in.Pod.Gates = tt.gates
			in.Declared = annotation.Parse(in.Pod)
			if tt.proven {
				in.Proofs = proven
			}
			if v := gate.Decide(in); v.Open != tt.open || v.Reason != tt.reason {
				t.Errorf("open %v, %s (%s); want %v, %s", v.Open, v.Reason, v.Message, tt.open, tt.reason)
			}
		})
	}
}
