package timeline

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/service"
)

func TestDropped(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	pod := func(change func(*Pod)) Pod {
		p := Pod{}
		p.At[Created], p.At[Passing] = at(1), at(2)
		change(&p)
		return p
	}
	for name, tt := range map[string]struct {
		pod  Pod
		want bool
	}{
		"never":                        {pod(func(*Pod) {}), false},
		"leaves":                       {pod(func(p *Pod) { p.At[Terminating], p.At[Out], p.LastOut = at(5), at(6), at(6) }), false},
		"is lost":                      {pod(func(p *Pod) { p.At[Out], p.LastOut = at(6), at(6) }), true},
		"is out with its node":         {pod(func(p *Pod) { p.At[Out], p.LastOut, p.NodeOut = at(6), at(6), true }), false},
		"was out with its node":        {pod(func(p *Pod) { p.NodeFlaps, p.LastOut = 1, at(6) }), false},
		"comes back, without a gate":   {pod(func(p *Pod) { p.Flaps, p.LastOut = 1, at(3) }), true},
		"comes back before its gate":   {pod(func(p *Pod) { p.At[GateOpen], p.Flaps, p.LastOut = at(4), 1, at(3) }), false},
		"comes back, its gate is open": {pod(func(p *Pod) { p.At[GateOpen], p.Flaps, p.LastOut = at(4), 2, at(5) }), true},
	} {
		if got := tt.pod.Dropped(); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// TestWhyOut: a pod that is out with its node, whose agent Consul's members took
// for dead, is told from one whose own entry says so, or is gone.
func TestWhyOut(t *testing.T) {
	t.Parallel()
	const own = "its own check"
	answer := func(critical ...string) []*api.ServiceEntry {
		e := &api.ServiceEntry{Service: &api.AgentService{Meta: map[string]string{service.MetaPodUID: "a"}}}
		for _, id := range []string{nodeHealth, own} {
			check := &api.HealthCheck{CheckID: id, Status: api.HealthPassing}
			if slices.Contains(critical, id) {
				check.Status = api.HealthCritical
			}
			e.Checks = append(e.Checks, check)
		}
		return []*api.ServiceEntry{e}
	}
	none := []*api.ServiceEntry{}
	for name, tt := range map[string]struct {
		answers          [][]*api.ServiceEntry // after the first, in which it is passing
		flaps, nodeFlaps int
		lost             bool
	}{
		"stays":                            {},
		"its own check":                    {answers: [][]*api.ServiceEntry{answer(own)}, lost: true},
		"its entry":                        {answers: [][]*api.ServiceEntry{none}, lost: true},
		"its node":                         {answers: [][]*api.ServiceEntry{answer(nodeHealth)}},
		"both":                             {answers: [][]*api.ServiceEntry{answer(nodeHealth, own)}, lost: true},
		"its own check and back":           {answers: [][]*api.ServiceEntry{answer(own), answer()}, flaps: 1},
		"its node and back, twice":         {answers: [][]*api.ServiceEntry{answer(nodeHealth), answer(), answer(nodeHealth), answer()}, nodeFlaps: 2},
		"its node, then its own check":     {answers: [][]*api.ServiceEntry{answer(nodeHealth), answer(own)}, lost: true},
		"its node, then its entry":         {answers: [][]*api.ServiceEntry{answer(nodeHealth), none}, lost: true},
		"its node, its own check and back": {answers: [][]*api.ServiceEntry{answer(nodeHealth), answer(nodeHealth, own), answer(nodeHealth), answer()}, flaps: 1},
	} {
		r := &Recorder{pods: map[string]*Pod{}, passing: map[string]bool{}, changed: make(chan struct{})}
		for i, entries := range append([][]*api.ServiceEntry{answer()}, tt.answers...) {
			r.observeService(entries, time.Unix(int64(i), 0))
		}
		p := r.pods["a"]
		if p.Flaps != tt.flaps || p.NodeFlaps != tt.nodeFlaps || p.Lost() != tt.lost {
			t.Errorf("%s: %d flaps, %d with its node, lost %v; want %d, %d, %v", name, p.Flaps, p.NodeFlaps, p.Lost(), tt.flaps, tt.nodeFlaps, tt.lost)
		}
	}
}
