package consulimport_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

// fleet is a world at rest with n Services s0, s1 ..., each with one endpoint.
func fleet(t *testing.T, n int) *world {
	t.Helper()
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint("s", i))
	}
	w := newWorld(names(all...))
	for i, name := range all {
		w.says(name, 100, inst(i))
	}
	w.rest(t)
	return w
}

// die lets Consul show the instances of Services as critical.
func (w *world) die(services ...int) {
	for _, i := range services {
		w.says(fmt.Sprint("s", i), 101, inst(i, health(service.Critical)))
	}
}

// live is how many Services have endpoints.
func (w *world) live() int {
	live := map[string]bool{}
	for _, s := range w.slices {
		live[s.Service] = true
	}
	return len(live)
}

func TestI1BreakerFreezesAMassOfImports(t *testing.T) {
	tests := []struct {
		name    string
		all     int
		dead    []int
		share   float64
		allowed time.Duration
		live    int
	}{
		{"one of one", 1, []int{0}, 0.5, 0, 0},
		{"two of two", 2, []int{0, 1}, 0.5, 0, 0},
		{"three of three", 3, []int{0, 1, 2}, 0.5, 0, 3},
		{"three of six", 6, []int{0, 1, 2}, 0.5, 0, 3},
		{"four of six", 6, []int{0, 1, 2, 3}, 0.5, 0, 6},
		{"all, and all may", 6, []int{0, 1, 2, 3, 4, 5}, 1, 0, 0},
		{"all, and a person lets them go", 6, []int{0, 1, 2, 3, 4, 5}, 0.5, time.Minute, 0},
		{"all, and a person let them go before", 6, []int{0, 1, 2, 3, 4, 5}, 0.5, -time.Minute, 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := fleet(t, tt.all)
			w.in.MaxShare = tt.share
			w.in.Imports[0].AllowedUntil = noon.Add(tt.allowed)
			w.die(tt.dead...)
			plan := w.rest(t)
			if got := w.live(); got != tt.live {
				t.Fatalf("%d have endpoints, want %d", got, tt.live)
			}
			want := "False NothingHeld"
			if held := tt.live - (tt.all - len(tt.dead)); held > 0 {
				want = "True Frozen"
				if len(plan.Held) != held || plan.Held[0].Reason != consulimport.ReasonFrozen || plan.Held[0].Since != noon {
					t.Errorf("held: %+v", plan.Held)
				}
			}
			if got := condition(plan, consulimport.ConditionRemovalsHeld); got != want {
				t.Errorf("RemovalsHeld is %s, want %s", got, want)
			}
		})
	}
}

// Whatever takes everything from many Services counts: that Consul has nothing
// of them, that nobody names them any more, one after the other.
func TestBreakerCountsAllLosses(t *testing.T) {
	t.Run("nothing in Consul", func(t *testing.T) {
		w := fleet(t, 4)
		for range 3 {
			for i := range 4 {
				w.says(fmt.Sprint("s", i), 101)
			}
			w.rest(t)
			w.sleep(time.Minute)
		}
		if w.live() != 4 {
			t.Errorf("%d have endpoints", w.live())
		}
	})
	t.Run("not named", func(t *testing.T) {
		w := fleet(t, 4)
		w.in.Imports[0].Names = []string{"other"}
		w.rest(t)
		if w.live() != 4 || len(w.services) != 4 {
			t.Errorf("%d of %d have endpoints", w.live(), len(w.services))
		}
	})
	t.Run("one after the other", func(t *testing.T) {
		w := fleet(t, 4)
		for i, want := range []int{3, 2, 2, 2} {
			w.die(i)
			w.rest(t)
			w.sleep(time.Second)
			if w.live() != want {
				t.Fatalf("after %d: %d have endpoints, want %d", i+1, w.live(), want)
			}
		}
	})
	t.Run("one twice", func(t *testing.T) {
		w := fleet(t, 3)
		w.die(0)
		w.rest(t)
		w.says("s0", 102, inst(0))
		w.rest(t)
		for _, i := range []int{0, 1, 2} {
			w.sleep(25 * time.Second)
			w.says(fmt.Sprint("s", i), 103, inst(i, health(service.Critical)))
			w.rest(t)
		}
		if w.live() != 1 {
			t.Errorf("%d have endpoints", w.live())
		}
	})
	t.Run("slowly", func(t *testing.T) {
		w := fleet(t, 4)
		for i := range 4 {
			w.die(i)
			w.rest(t)
			w.sleep(time.Minute)
		}
		if w.live() != 0 {
			t.Errorf("%d have endpoints", w.live())
		}
	})
	t.Run("one is asked about again meanwhile", func(t *testing.T) {
		w := fleet(t, 4)
		w.says("s0", 101)
		w.rest(t)
		w.sleep(consulimport.ConfirmAfter)
		w.says("s0", 101)
		w.die(1, 2)
		w.rest(t)
		if w.live() != 4 {
			t.Errorf("%d have endpoints", w.live())
		}
	})
	t.Run("a spare one is no loss", func(t *testing.T) {
		w := fleet(t, 4)
		for i := range 4 {
			w.says(fmt.Sprint("s", i), 101, inst(i, health(service.Warning)))
		}
		if plan := w.rest(t); len(plan.Held) > 0 || w.has("s1") != "(10.0.0.1=8080)" {
			t.Errorf("held %+v, s1 has %q", plan.Held, w.has("s1"))
		}
	})
	t.Run("unknown is none of them", func(t *testing.T) {
		w := fleet(t, 4)
		clear(w.in.Answers)
		w.says("s0", 101, inst(0, health(service.Critical)))
		w.rest(t)
		if w.live() != 3 {
			t.Errorf("%d have endpoints", w.live())
		}
	})
}

// What is frozen is not deleted either, and a wiped Consul is called just that.
func TestFrozenStays(t *testing.T) {
	w := fleet(t, 4)
	w.in.Imports[0].Tags = []string{"none has it"}
	w.rest(t)
	w.sleep(consulimport.DeleteAfter)
	if w.rest(t); w.live() != 4 || len(w.services) != 4 {
		t.Errorf("%d of %d have endpoints", w.live(), len(w.services))
	}

	w = fleet(t, 4)
	for i := range 4 {
		w.says(fmt.Sprint("s", i), 3)
	}
	plan := w.rest(t)
	if got := condition(plan, consulimport.ConditionRemovalsHeld); got != "True IndexWentBack" || w.live() != 4 {
		t.Errorf("RemovalsHeld is %s, %d have endpoints", got, w.live())
	}
}

// What is frozen goes on when it passes again. The last that do not are let go
// once it was calm for a while.
func TestFrozenIsLetGo(t *testing.T) {
	w := fleet(t, 6)
	w.die(0, 1, 2, 3)
	plan := w.rest(t)
	if !strings.Contains(plan.Held[0].Message, "4 of the 6 Services") || plan.Next == 0 {
		t.Errorf("held %q, looks again in %s", plan.Held[0].Message, plan.Next)
	}
	w.sleep(time.Hour)
	if w.rest(t); w.live() != 6 {
		t.Fatalf("%d have endpoints after an hour", w.live())
	}
	for i := range 3 {
		w.says(fmt.Sprint("s", i), 102, inst(i))
	}
	w.sleep(10 * time.Second)
	plan = w.rest(t)
	if w.live() != 6 || len(plan.Held) != 1 {
		t.Fatalf("%d have endpoints, held %+v", w.live(), plan.Held)
	}
	w.sleep(plan.Next)
	if plan = w.rest(t); w.live() != 5 || len(plan.Held) > 0 {
		t.Errorf("%d have endpoints, held %+v", w.live(), plan.Held)
	}
}

// However Services fail and recover, within a minute no more than the share of
// them, or two, lose all they have.
func TestI1BreakerBoundsLosses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "services")
		var all []string
		for i := range n {
			all = append(all, fmt.Sprint("s", i))
		}
		w := newWorld(names(all...))
		for i, name := range all {
			w.says(name, 100, inst(i))
		}
		w.rest(t)
		lost := map[string]time.Time{}
		for step := range rapid.IntRange(1, 25).Draw(t, "steps") {
			i := rapid.IntRange(0, n-1).Draw(t, "service")
			switch index := uint64(101 + step); rapid.IntRange(0, 3).Draw(t, "becomes") {
			case 0:
				w.says(all[i], index, inst(i))
			case 1:
				w.says(all[i], index)
			default:
				w.says(all[i], index, inst(i, health(service.Critical)))
			}
			before := w.snapshot()
			w.pass(t)
			for name, had := range before {
				if had != "" && w.has(name) == "" {
					lost[name] = w.in.Now
				}
			}
			maps.DeleteFunc(lost, func(_ string, at time.Time) bool { return w.in.Now.Sub(at) >= time.Minute })
			if len(lost) > max(2, n/2) {
				t.Fatalf("%d of %d have lost all within a minute: %v", len(lost), n, lost)
			}
			w.sleep(time.Duration(rapid.IntRange(0, 30).Draw(t, "seconds")) * time.Second)
		}
	})
}
