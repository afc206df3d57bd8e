package registration_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// fleet is a node with n pods of a service, all in service and on the list.
func fleet(name string, n int) registration.Input {
	in := registration.Input{Cluster: cluster, Node: node, Gone: map[string]string{}}
	for i := range n {
		pod := livePod(fmt.Sprint(name, i), service.Passing, name)
		in.Claims = append(in.Claims, pod)
		in.Entries = append(in.Entries, entry(pod, name))
	}
	return in
}

// both is one node with the pods of both.
func both(a, b registration.Input) registration.Input {
	a.Claims, a.Entries = append(a.Claims, b.Claims...), append(a.Entries, b.Entries...)
	return a
}

// vanish takes pods off the list; each is said to be gone.
func vanish(in registration.Input, uids ...string) registration.Input {
	in.Gone = maps.Clone(in.Gone)
	for _, uid := range uids {
		in.Gone[uid] = "deletion seen"
	}
	in.Claims = slices.DeleteFunc(slices.Clone(in.Claims), func(p registration.Claim) bool { return slices.Contains(uids, p.Pod.UID) })
	return in
}

// unlist takes pods off the list; nobody says what became of them.
func unlist(in registration.Input, uids ...string) registration.Input {
	gone := in.Gone
	in = vanish(in, uids...)
	in.Gone = gone
	return in
}

// undeclare leaves the pods there without the services that they declared.
func undeclare(in registration.Input, uids ...string) registration.Input {
	in.Claims = slices.Clone(in.Claims)
	for i, pod := range in.Claims {
		if slices.Contains(uids, pod.Pod.UID) {
			in.Claims[i].Instances = nil
		}
	}
	return in
}

// restrained is what of the plan passes and what is frozen, as text.
func restrained(b registration.Breaker, in registration.Input, e registration.Evidence) (passed, frozen []string, next registration.Breaker) {
	if e.MaxShare == 0 {
		e.MaxShare = 0.5
	}
	if e.Now.IsZero() {
		e.Now = noon
	}
	plan, next := b.Restrain(registration.Decide(in), in, e)
	for _, op := range plan.Ops {
		passed = append(passed, op.Instance.Pod.UID)
	}
	for _, f := range plan.Frozen {
		frozen = append(frozen, f.Op.Instance.Pod.UID)
	}
	return passed, frozen, next
}

func TestI1BreakerFreezesAMass(t *testing.T) {
	web4 := fleet("w", 4)
	mixed := both(fleet("w", 3), fleet("d", 20))
	tests := []struct {
		name           string
		in             registration.Input
		evidence       registration.Evidence
		passed, frozen string
	}{
		{"nothing leaves", web4, registration.Evidence{}, "", ""},
		{"one of four", vanish(web4, "w0"), registration.Evidence{}, "w0", ""},
		{"both of two", vanish(fleet("w", 2), "w0", "w1"), registration.Evidence{}, "w0 w1", ""},
		{"three of six", vanish(fleet("w", 6), "w0", "w1", "w2"), registration.Evidence{}, "w0 w1 w2", ""},
		{"three of four", vanish(web4, "w0", "w1", "w2"), registration.Evidence{}, "", "w0 w1 w2"},
		{"a whole service, little of the node", vanish(mixed, "w0", "w1", "w2", "d0"), registration.Evidence{}, "d0", "w0 w1 w2"},
		{"most of the node, little of each service", vanish(both(both(fleet("a", 3), fleet("b", 3)), fleet("c", 3)),
			"a0", "a1", "b0", "b1", "c0", "c1"), registration.Evidence{}, "", "a0 a1 b0 b1 c0 c1"},
		{"a share of one", vanish(web4, "w0", "w1", "w2", "w3"), registration.Evidence{MaxShare: 1}, "w0 w1 w2 w3", ""},
		{"one of four is proven, two are missing", unlist(vanish(web4, "w0"), "w1", "w2"), registration.Evidence{}, "", "w0"},
		{"one of four is proven, one is missing", unlist(vanish(web4, "w0"), "w1"), registration.Evidence{}, "w0", ""},
		{"not declared any more", undeclare(web4, "w0", "w1", "w2"), registration.Evidence{}, "", "w0 w1 w2"},

		{"the kubelet runs none of them", vanish(web4, "w0", "w1", "w2"),
			registration.Evidence{Running: map[string]bool{"w3": true}}, "w0 w1 w2", ""},
		{"the kubelet runs them", vanish(web4, "w0", "w1", "w2"),
			registration.Evidence{Running: map[string]bool{"w0": true, "w1": true, "w2": true, "w3": true}}, "", "w0 w1 w2"},
		{"the kubelet runs too few to make a mass of them", vanish(web4, "w0", "w1", "w2"),
			registration.Evidence{Running: map[string]bool{"w0": true, "w1": true, "w3": true}}, "w0 w1 w2", ""},
		{"the kubelet is no witness of what pods declare", undeclare(web4, "w0", "w1", "w2"),
			registration.Evidence{Running: map[string]bool{}}, "", "w0 w1 w2"},
		{"allowed", vanish(web4, "w0", "w1", "w2"), registration.Evidence{AllowedUntil: noon.Add(time.Second)}, "w0 w1 w2", ""},
		{"was allowed", vanish(web4, "w0", "w1", "w2"), registration.Evidence{AllowedUntil: noon}, "", "w0 w1 w2"},
		{"an answer from before does not count", vanish(web4, "w0", "w1", "w2"), registration.Evidence{Answers: map[string]registration.Answer{
			"w0": {Asked: noon, Gone: true}}}, "", "w0 w1 w2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			passed, frozen, _ := restrained(registration.Breaker{}, tt.in, tt.evidence)
			if got := strings.Join(passed, " "); got != tt.passed {
				t.Errorf("passed: %q, want %q", got, tt.passed)
			}
			if got := strings.Join(frozen, " "); got != tt.frozen {
				t.Errorf("frozen: %q, want %q", got, tt.frozen)
			}
		})
	}
}

// What pods say themselves is never held back: a node that is drained, or shuts
// down, must be out of service at once (I4).
func TestI4BreakerLetsPodsLeave(t *testing.T) {
	leave := map[string]func(*registration.Claim){
		"terminating": func(p *registration.Claim) { p.Terminating = true },
		"not ready":   func(*registration.Claim) {},
		"ended":       func(p *registration.Claim) { p.Ended = true },
	}
	for name, change := range leave {
		t.Run(name, func(t *testing.T) {
			in := fleet("w", 6)
			for i := range in.Claims {
				in.Claims[i] = withHealth(in.Claims[i], service.Critical)
				change(&in.Claims[i])
			}
			passed, frozen, b := restrained(registration.Breaker{}, in, registration.Evidence{})
			if len(passed) != 6 || len(frozen) > 0 {
				t.Fatalf("passed %v, frozen %v", passed, frozen)
			}
			// Critical by now, they are removed when they are gone.
			for i := range in.Entries {
				in.Entries[i].Instance.Health = service.Critical
			}
			passed, frozen, _ = restrained(b, vanish(in, "w0", "w1", "w2", "w3", "w4", "w5"), registration.Evidence{})
			if len(passed) != 6 || len(frozen) > 0 {
				t.Fatalf("gone: passed %v, frozen %v", passed, frozen)
			}
		})
	}
}

// Removals that come one after the other are a mass as well.
func TestBreakerCountsAMinute(t *testing.T) {
	in := fleet("w", 4)
	var b registration.Breaker
	var frozen []string
	for i, want := range []string{"", "", "w2", "w2 w3"} {
		in = vanish(in, fmt.Sprint("w", i))
		_, frozen, b = restrained(b, in, registration.Evidence{Now: noon.Add(time.Duration(i) * time.Second)})
		if got := strings.Join(frozen, " "); got != want {
			t.Fatalf("after %d: frozen %q, want %q", i+1, got, want)
		}
		for e := range in.Entries { // what passed is carried out
			if in.Entries[e].Instance.Pod.UID == fmt.Sprint("w", i) && want == "" {
				in.Entries[e].Instance.Health = service.Critical
			}
		}
	}
	// The first two are forgotten; of what was frozen no more is known than then.
	if _, frozen, _ = restrained(b, in, registration.Evidence{Now: noon.Add(2 * time.Minute)}); len(frozen) != 2 {
		t.Errorf("two minutes later: frozen %v", frozen)
	}
	if _, frozen, _ = restrained(registration.Breaker{}, in, registration.Evidence{Now: noon.Add(2 * time.Minute)}); len(frozen) != 0 {
		t.Errorf("two of two are frozen: %v", frozen)
	}
}

// What was frozen passes when the API server, asked a while later, says the
// same, and stays while the kubelet says otherwise.
func TestBreakerAsksAgain(t *testing.T) {
	gone := vanish(fleet("w", 4), "w0", "w1", "w2")
	silent := undeclare(fleet("w", 4), "w0", "w1", "w2")
	later := noon.Add(registration.AskAfter)
	tests := []struct {
		name    string
		in      registration.Input
		answer  registration.Answer
		running map[string]bool
		frozen  string
	}{
		{"gone", gone, registration.Answer{Asked: later, Gone: true}, nil, "w1 w2"},
		{"asked too soon", gone, registration.Answer{Asked: later.Add(-time.Millisecond), Gone: true}, nil, "w0 w1 w2"},
		{"there", gone, registration.Answer{Asked: later}, nil, "w0 w1 w2"},
		{"gone, but it runs", gone, registration.Answer{Asked: later, Gone: true}, map[string]bool{"w0": true, "w1": true, "w2": true}, "w0 w1 w2"},
		{"declares nothing", silent, registration.Answer{Asked: later}, nil, "w1 w2"},
		{"declares nothing, and runs", silent, registration.Answer{Asked: later}, map[string]bool{"w0": true}, "w1 w2"},
		{"declares it", silent, registration.Answer{Asked: later, Declares: []string{"w"}}, nil, "w0 w1 w2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, b := restrained(registration.Breaker{}, tt.in, registration.Evidence{})
			_, frozen, _ := restrained(b, tt.in, registration.Evidence{
				Now: later, Running: tt.running, Answers: map[string]registration.Answer{"w0": tt.answer}})
			if got := strings.Join(frozen, " "); got != tt.frozen {
				t.Errorf("frozen: %q, want %q", got, tt.frozen)
			}
		})
	}
}

func TestFrozenSaysWhy(t *testing.T) {
	in := vanish(fleet("w", 4), "w0", "w1", "w2")
	plan, _ := registration.Breaker{}.Restrain(registration.Decide(in), in,
		registration.Evidence{Now: noon, MaxShare: 0.5, Running: map[string]bool{"w0": true, "w1": true, "w2": true}})
	f := plan.Frozen[0]
	if want := `3 of the 4 instances of service "w" on this node would be removed at once, or are missing; 3 of the 4 instances on this node would be removed at once, or are missing`; f.Reason != want {
		t.Errorf("reason %q, want %q", f.Reason, want)
	}
	if want := "the kubelet says that the pod runs"; f.Waits != want {
		t.Errorf("waits %q, want %q", f.Waits, want)
	}
}

// Whatever happens, of a service no more than the share, or two, leave within a
// minute on one proof alone; nothing but removals is ever held back; and when
// the API server says the same again, all goes.
func TestI1BreakerBoundsRemovals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const share = 0.5
		in, reg := drawWorld(t)
		var (
			b     registration.Breaker
			now   = noon
			taken = map[string]map[time.Time]map[string]bool{} // by service, then when, the IDs
		)
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			for _, pod := range slices.Clone(in.Claims) {
				switch rapid.IntRange(0, 3).Draw(t, "change") {
				case 0:
					in = vanish(in, pod.Pod.UID)
				case 1:
					in = undeclare(in, pod.Pod.UID)
				}
			}
			in.Entries = reg.entries()
			whole := registration.Decide(in)
			plan, next := b.Restrain(whole, in, registration.Evidence{Now: now, MaxShare: share})
			b = next
			if len(plan.Ops)+len(plan.Frozen) != len(whole.Ops) {
				t.Fatalf("%d ops and %d frozen of %d", len(plan.Ops), len(plan.Frozen), len(whole.Ops))
			}
			for _, f := range plan.Frozen {
				if f.Op.Removal == "" || f.Reason == "" || f.Waits == "" {
					t.Fatalf("frozen: %+v", f)
				}
			}
			inService := map[string]int{}
			for _, e := range reg {
				if own(e) && (!e.HasCheck || e.Instance.Health != service.Critical) {
					inService[e.Instance.Name]++
				}
			}
			for _, op := range plan.Ops {
				if op.Removal == "" {
					continue
				}
				byTime := taken[op.Instance.Name]
				if byTime == nil {
					byTime = map[time.Time]map[string]bool{}
					taken[op.Instance.Name] = byTime
				}
				if byTime[now] == nil {
					byTime[now] = map[string]bool{}
				}
				byTime[now][op.Instance.ID] = true
			}
			for name, byTime := range taken {
				n, before := 0, 0
				for at, ids := range byTime {
					if now.Sub(at) < time.Minute {
						n += len(ids)
						if at.Before(now) {
							before += len(ids)
						}
					}
				}
				if n > 2 && float64(n) > share*float64(inService[name]+before) && len(byTime[now]) > 0 {
					t.Fatalf("%d of service %s left within a minute, of %d", n, name, inService[name]+before)
				}
			}
			if err := reg.apply(plan); err != nil {
				t.Fatal(err)
			}
		}
		answers := map[string]registration.Answer{}
		now = now.Add(time.Hour)
		for _, e := range reg {
			answers[e.Instance.Pod.UID] = registration.Answer{Asked: now, Gone: in.Gone[e.Instance.Pod.UID] != ""}
		}
		for _, pod := range in.Claims {
			a := answers[pod.Pod.UID]
			for _, i := range pod.Instances {
				a.Declares = append(a.Declares, i.Name)
			}
			answers[pod.Pod.UID] = a
		}
		for range 4 {
			now = now.Add(time.Minute)
			in.Entries = reg.entries()
			plan, next := b.Restrain(registration.Decide(in), in, registration.Evidence{Now: now, MaxShare: share, Answers: answers})
			b = next
			if err := reg.apply(plan); err != nil {
				t.Fatal(err)
			}
		}
		in.Entries = reg.entries()
		if plan, _ := b.Restrain(registration.Decide(in), in, registration.Evidence{Now: now, MaxShare: share, Answers: answers}); len(plan.Frozen) > 0 {
			t.Fatalf("still frozen: %+v", plan.Frozen)
		}
	})
}
