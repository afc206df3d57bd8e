package drain_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/drain"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/service"
)

var now = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

func standing(inService map[string]string, names ...string) *drain.Standing {
	s := &drain.Standing{InService: inService}
	for _, name := range names {
		s.Instances = append(s.Instances, service.Instance{ID: name, Name: name})
	}
	return s
}

func absent(index uint64) gate.Proof {
	return gate.Proof{Finding: gate.Absent, Detail: "its own check is critical", Index: index, At: now}
}

func TestDecide(t *testing.T) {
	const first = 20 * time.Millisecond
	tests := []struct {
		name       string
		in         drain.Input
		out        bool
		reason     string
		message    string
		asks       bool
		retryAfter time.Duration
	}{
		{name: "not seen", reason: drain.WaitingForAgent, message: "the node's agent has not seen the pod yet"},
		{name: "blocked, whatever was proven", in: drain.Input{
			Blocked: "no usable answer from Consul", Standing: standing(nil, "web"), Proofs: map[string]gate.Proof{"web": absent(4)},
		}, reason: drain.WaitingForAgent, message: "the node's agent cannot write to the registry: no usable answer from Consul"},
		{name: "nothing published", in: drain.Input{Standing: standing(nil)}, out: true,
			reason: drain.NothingPublished, message: "the pod publishes no service"},
		{name: "not written yet, whatever was proven", in: drain.Input{
			Standing: standing(map[string]string{"web": "being written"}, "web", "api"),
			Proofs:   map[string]gate.Proof{"web": absent(4), "api": absent(4)},
		}, reason: drain.WaitingForRegistry, message: "the registry still holds as in service: web (being written)"},
		{name: "not asked", in: drain.Input{Standing: standing(nil, "web", "api")}, asks: true, retryAfter: first,
			reason: drain.WaitingForServers, message: "no answer of the servers yet about web, api"},
		{name: "no answer", in: drain.Input{
			Standing: standing(nil, "web", "api"), Attempts: 3,
			Proofs: map[string]gate.Proof{"web": {Detail: "no leader", At: now}, "api": absent(4)},
		}, asks: true, retryAfter: 4 * first, reason: drain.WaitingForServers, message: "no answer of the servers yet about web (no leader)"},
		{name: "old answer", in: drain.Input{
			Standing: standing(nil, "web"),
			Proofs:   map[string]gate.Proof{"web": {Finding: gate.Absent, At: now.Add(-gate.Fresh - 1)}},
		}, asks: true, retryAfter: first, reason: drain.WaitingForServers, message: "no answer of the servers yet about web"},
		{name: "still given", in: drain.Input{
			Standing: standing(nil, "web", "api"),
			Proofs:   map[string]gate.Proof{"web": {Finding: gate.Passing, Index: 4, At: now}},
		}, asks: true, retryAfter: first, reason: drain.StillAtServers, message: "the servers still give this pod to clients for web"},
		{name: "given with another port", in: drain.Input{
			Standing: standing(nil, "web"),
			Proofs:   map[string]gate.Proof{"web": {Finding: gate.Different, Detail: "port 1 instead of 2", At: now}},
		}, asks: true, retryAfter: first, reason: drain.StillAtServers,
			message: "the servers still give this pod to clients for web (port 1 instead of 2)"},
		{name: "out", in: drain.Input{
			Standing: standing(nil, "web", "api"), Proofs: map[string]gate.Proof{"web": absent(4), "api": absent(5)},
		}, out: true, reason: drain.OutOfService, message: "the servers do not give it to clients: web (index 4), api (index 5)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.Now = now
			got := drain.Decide(tt.in)
			if got.Out != tt.out || got.Reason != tt.reason || got.Message != tt.message || got.RetryAfter != tt.retryAfter {
				t.Errorf("got  %v %s %q %v\nwant %v %s %q %v", got.Out, got.Reason, got.Message, got.RetryAfter,
					tt.out, tt.reason, tt.message, tt.retryAfter)
			}
			var want []service.Instance
			if tt.asks {
				want = tt.in.Standing.Instances
			}
			if diff := cmp.Diff(want, got.NeedsProof, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("needs proof: -want +got:\n%s", diff)
			}
		})
	}
}

// TestI1OutNeedsProof: a pod is out exactly if everything is written and the
// servers have said of each instance, just now, that they do not give it. Each
// verdict has words (I7), and what waits has something that can end it.
func TestI1OutNeedsProof(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drain.Input{Now: now, Attempts: rapid.IntRange(0, 20).Draw(t, "attempts"), Proofs: map[string]gate.Proof{}}
		in.Blocked = rapid.SampledFrom([]string{"", "", "away"}).Draw(t, "blocked")
		names := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID).Draw(t, "names")
		in.Standing = standing(map[string]string{}, names...)
		want := in.Blocked == ""
		for _, name := range names {
			if rapid.Bool().Draw(t, "writing") {
				in.Standing.InService[name] = "why"
				want = false
			}
			proof := gate.Proof{
				Finding: rapid.SampledFrom([]gate.Finding{gate.Absent, gate.Absent, gate.Absent, gate.Passing, gate.Different, gate.Unknown, "other"}).Draw(t, "finding"),
				At:      now.Add(-time.Duration(rapid.IntRange(0, 8).Draw(t, "age")) * time.Second),
			}
			in.Proofs[name] = proof
			want = want && proof.Finding == gate.Absent && now.Sub(proof.At) <= gate.Fresh
		}
		if rapid.IntRange(0, 9).Draw(t, "unseen") == 0 {
			in.Standing, want = nil, false
		}
		before := maps.Clone(in.Proofs)
		got := drain.Decide(in)
		if got.Out != want {
			t.Fatalf("out %v, want %v: %+v", got.Out, want, got)
		}
		if got.Reason == "" || got.Message == "" {
			t.Fatalf("no words: %+v", got)
		}
		if (len(got.NeedsProof) > 0) != (got.RetryAfter > 0) || got.Out && len(got.NeedsProof) > 0 {
			t.Fatalf("asks without retry, or the other way round: %+v", got)
		}
		if !maps.Equal(before, in.Proofs) || in.Standing != nil && !slices.EqualFunc(names, in.Standing.Instances,
			func(name string, in service.Instance) bool { return in.ID == name }) {
			t.Fatal("the input was changed")
		}
	})
}
