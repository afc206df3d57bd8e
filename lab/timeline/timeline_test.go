package timeline

import (
	"testing"
	"time"
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
		"comes back, without a gate":   {pod(func(p *Pod) { p.Flaps, p.LastOut = 1, at(3) }), true},
		"comes back before its gate":   {pod(func(p *Pod) { p.At[GateOpen], p.Flaps, p.LastOut = at(4), 1, at(3) }), false},
		"comes back, its gate is open": {pod(func(p *Pod) { p.At[GateOpen], p.Flaps, p.LastOut = at(4), 2, at(5) }), true},
	} {
		if got := tt.pod.Dropped(); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
