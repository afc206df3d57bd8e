package consulimport_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

// one is a world at rest with one Service with three endpoints.
func one(t *testing.T) *world {
	t.Helper()
	w := newWorld(names("web"))
	w.says("web", 100, inst(1), inst(2), inst(3))
	w.rest(t)
	w.expect(t, "web", all)
	return w
}

const all = "10.0.0.1=8080 10.0.0.2=8080 10.0.0.3=8080"

// An answer that proves nothing changes nothing, whatever is in it, and says so.
func TestI1UnknownChangesNothing(t *testing.T) {
	for why, read := range map[string]consulimport.Read{
		"Consul has not answered yet": {},
		"dial tcp: refused":           {Problem: "dial tcp: refused"},
		"Consul's ACLs have filtered the answer: the token must be let read the service and the nodes": {Asked: noon, Index: 101, Filtered: true},
		"the answer may lag behind Consul's leader":                                                    {Asked: noon, Index: 101, Stale: true},
		"the answer has no index of Consul":                                                            {Asked: noon},
	} {
		for _, instances := range [][]consulimport.Instance{nil, {inst(1)}, {inst(1, health(service.Critical))}} {
			w := one(t)
			w.in.Answers[consulimport.Origin{Name: "web"}] = consulimport.Answer{Read: read, Instances: instances}
			for range 3 {
				plan := w.pass(t)
				if len(plan.Ops) > 0 {
					t.Fatalf("%s: %v", why, plan.Ops)
				}
				if got := condition(plan, consulimport.ConditionSourceKnown); got != "False SourceUnknown" {
					t.Errorf("SourceKnown is %s", got)
				}
				if got := condition(plan, consulimport.ConditionReady); got != "Unknown SourceUnknown" {
					t.Errorf("Ready is %s", got)
				}
				if got := plan.Statuses[0].Imported[0].Message; !strings.HasSuffix(got, why) {
					t.Errorf("message %q does not end with %q", got, why)
				}
				if len(plan.Held) != 1 || plan.Held[0].Endpoints != 3 || plan.Held[0].Since != noon || plan.Held[0].Message != why {
					t.Errorf("%s: held %+v", why, plan.Held)
				}
				w.sleep(time.Hour)
			}
		}
	}
}

// Status of what is not known yet must not replace what was known before.
func TestI2StatusWaitsForTheFirstAnswer(t *testing.T) {
	w := one(t)
	w.memory, w.in.Answers = consulimport.Memory{}, nil // a restart
	if plan := w.pass(t); len(plan.Ops) > 0 || !plan.Statuses[0].Pending {
		t.Errorf("ops %v, pending %v", plan.Ops, plan.Statuses[0].Pending)
	}
	w = newWorld(pattern("w.*"))
	if plan := w.pass(t); !plan.Statuses[0].Pending {
		t.Error("not pending although the services are not known")
	}
	w.lists("web")
	if plan := w.pass(t); !plan.Statuses[0].Pending {
		t.Error("not pending although nothing is known of a service")
	}
	w.says("web", 10, inst(1))
	if plan := w.pass(t); plan.Statuses[0].Pending {
		t.Error("pending although all is known")
	}
}

// What leaves when, and what for.
func TestI1RemovalNeedsProof(t *testing.T) {
	type step struct {
		after     time.Duration
		index     uint64
		instances []consulimport.Instance
		want      string
		held      string // condition
	}
	none := []consulimport.Instance(nil)
	critical := health(service.Critical)
	tests := []struct {
		name  string
		steps []step
	}{
		{"one is deregistered", []step{{0, 101, []consulimport.Instance{inst(1), inst(2)}, "10.0.0.1=8080 10.0.0.2=8080", "False NothingHeld"}}},
		{"all are shown as critical", []step{{0, 101, []consulimport.Instance{inst(1, critical), inst(2, critical), inst(3, critical)}, "", "False NothingHeld"}}},
		{"one critical, the rest deregistered", []step{{0, 101, []consulimport.Instance{inst(1, critical)}, "", "False NothingHeld"}}},
		{"nothing, and nothing again", []step{
			{0, 101, none, all, "True NotConfirmed"},
			{4 * time.Second, 101, none, all, "True NotConfirmed"},
			{time.Second, 101, none, "", "False NothingHeld"},
		}},
		{"nothing for a moment", []step{
			{0, 101, none, all, "True NotConfirmed"},
			{4 * time.Second, 102, []consulimport.Instance{inst(1), inst(2), inst(3)}, all, "False NothingHeld"},
			{4 * time.Second, 103, none, all, "True NotConfirmed"},
			{5 * time.Second, 103, none, "", "False NothingHeld"},
		}},
		{"wiped", []step{
			{0, 5, none, all, "True IndexWentBack"},
			{time.Hour, 6, none, all, "True IndexWentBack"},
			{time.Hour, 7, []consulimport.Instance{inst(1)}, all, "True IndexWentBack"},
			{time.Hour, 8, []consulimport.Instance{inst(1), inst(2, critical)}, "10.0.0.1=8080 10.0.0.3=8080", "True IndexWentBack"},
			{time.Hour, 200, []consulimport.Instance{inst(1), inst(2, critical)}, "10.0.0.1=8080 10.0.0.3=8080", "True IndexWentBack"},
			{time.Hour, 201, []consulimport.Instance{inst(1), inst(3)}, "10.0.0.1=8080 10.0.0.3=8080", "False NothingHeld"},
			{time.Hour, 202, []consulimport.Instance{inst(1)}, "10.0.0.1=8080", "False NothingHeld"},
		}},
		{"wiped, and nothing comes back", []step{
			{0, 5, none, all, "True IndexWentBack"},
			{time.Hour, 200, none, all, "True IndexWentBack"},
			{time.Hour, 201, none, all, "True IndexWentBack"},
			{time.Hour, 202, []consulimport.Instance{inst(1), inst(2), inst(3)}, all, "False NothingHeld"},
			{time.Hour, 203, []consulimport.Instance{inst(1)}, "10.0.0.1=8080", "False NothingHeld"},
		}},
		{"restored, and all are there", []step{
			{0, 50, []consulimport.Instance{inst(1), inst(2), inst(3)}, all, "False NothingHeld"},
			{0, 51, []consulimport.Instance{inst(1), inst(2)}, "10.0.0.1=8080 10.0.0.2=8080", "False NothingHeld"},
		}},
	}
	for _, restarts := range []bool{false, true} {
		for _, tt := range tests {
			if restarts && !strings.HasPrefix(tt.name, "wiped") && !strings.HasPrefix(tt.name, "restored") {
				continue // memory is what they are about
			}
			t.Run(fmt.Sprintf("%s, restarts %v", tt.name, restarts), func(t *testing.T) {
				w := one(t)
				for i, s := range tt.steps {
					if restarts {
						w.memory = consulimport.Memory{}
					}
					w.sleep(s.after)
					w.says("web", s.index, s.instances...)
					plan := w.rest(t)
					if got := w.has("web"); got != s.want {
						t.Fatalf("step %d: has %q, want %q", i, got, s.want)
					}
					if got := condition(plan, consulimport.ConditionRemovalsHeld); got != s.held {
						t.Errorf("step %d: RemovalsHeld is %s, want %s", i, got, s.held)
					}
				}
			})
		}
	}
}

// Each time that Consul is unknown is one of its own.
func TestI7UnknownSaysSinceWhen(t *testing.T) {
	w := one(t)
	for range 2 {
		delete(w.in.Answers, consulimport.Origin{Name: "web"})
		plan := w.rest(t)
		if len(plan.Held) != 1 || plan.Held[0].Since != w.in.Now {
			t.Errorf("held %+v, want it since %s", plan.Held, w.in.Now)
		}
		w.says("web", 101, inst(1), inst(2), inst(3))
		w.rest(t)
		w.sleep(time.Minute)
	}
}

// A second answer is asked for, and only one that was asked for later counts.
func TestI1NothingIsAskedAgain(t *testing.T) {
	w := one(t)
	w.says("web", 101)
	plan := w.rest(t)
	want := consulimport.Question{Origin: consulimport.Origin{Name: "web"}, After: noon.Add(5 * time.Second)}
	if len(plan.Again) != 1 || plan.Again[0] != want {
		t.Fatalf("asks again %+v, want %+v", plan.Again, want)
	}
	w.sleep(time.Minute) // the same answer, a minute old
	if w.rest(t); w.has("web") != all {
		t.Errorf("has %q", w.has("web"))
	}
	w.says("web", 101)
	if plan = w.rest(t); w.has("web") != "" || len(plan.Again) > 0 {
		t.Errorf("has %q, asks again %v", w.has("web"), plan.Again)
	}
}

// An answer may come long after its question: it counts from when it was there.
func TestI1AnswersCountFromWhenTheyCame(t *testing.T) {
	w := one(t)
	w.says("web", 101)
	w.sleep(4 * time.Minute)
	w.rest(t)
	w.says("web", 101)
	w.sleep(consulimport.ConfirmAfter)
	w.rest(t)
	w.expect(t, "web", all)
}

// What was not seen in one go does not count together.
func TestI1UnknownBetweenTwoAnswers(t *testing.T) {
	w := one(t)
	for range 3 {
		w.says("web", 101)
		w.rest(t)
		w.sleep(consulimport.ConfirmAfter)
		w.in.Answers[consulimport.Origin{Name: "web"}] = consulimport.Answer{Read: consulimport.Read{Problem: "no leader"}}
		w.rest(t)
	}
	w.expect(t, "web", all)
}

// After a wipe only what is missing is held. What a person has changed is not.
func TestEditsAreCarriedOutAfterAWipe(t *testing.T) {
	w := one(t)
	w.says("web", 5, inst(1), inst(2))
	w.rest(t)
	w.expect(t, "web", all)
	w.in.Imports[0].Ports = []consulimport.ImportPort{{Name: "http"}}
	w.rest(t)
	w.expect(t, "web", "10.0.0.1=http:8080 10.0.0.2=http:8080 10.0.0.3=8080")
}

// A person can let go what is held.
func TestAPersonLetsGo(t *testing.T) {
	w := one(t)
	w.says("web", 5)
	w.rest(t)
	w.in.Imports[0].AllowedUntil = w.in.Now.Add(time.Minute)
	plan := w.rest(t)
	w.expect(t, "web", "")
	if got := condition(plan, consulimport.ConditionRemovalsHeld); got != "False NothingHeld" {
		t.Errorf("RemovalsHeld is %s", got)
	}
}

// What is held says since when, what for and how much.
func TestI7HeldSaysWhatFor(t *testing.T) {
	w := one(t)
	w.sleep(time.Minute)
	w.says("web", 5, inst(1))
	w.pass(t)
	w.sleep(time.Minute)
	plan := w.pass(t)
	if len(plan.Held) != 1 {
		t.Fatalf("held: %+v", plan.Held)
	}
	h := plan.Held[0]
	if h.Service != ref("web") || h.Endpoints != 2 || h.Since != noon.Add(time.Minute) || h.Reason != consulimport.ReasonIndexWentBack ||
		!strings.Contains(h.Message, "until it is seen again or its removal is allowed") {
		t.Errorf("held: %+v", h)
	}
}

// A Service keeps its address for a while after its last instance, for good if
// asked to, and is deleted then.
func TestAServiceOutlivesItsInstances(t *testing.T) {
	for _, retain := range []bool{false, true} {
		w := one(t)
		w.in.Imports[0].Retain = retain
		w.says("web", 101)
		w.rest(t)
		w.sleep(5 * time.Second)
		w.says("web", 101)
		plan := w.rest(t)
		w.expect(t, "web", "")
		if !retain && plan.Next != consulimport.DeleteAfter {
			t.Errorf("looks again in %s", plan.Next)
		}
		w.sleep(consulimport.DeleteAfter - time.Second)
		if w.rest(t); len(w.services) != 1 {
			t.Error("the Service is gone too early")
		}
		w.sleep(time.Second)
		plan = w.rest(t)
		if len(w.services) == 1 != retain || (denied(plan) == "") != retain {
			t.Errorf("retain %v, Services %d, not imported %q", retain, len(w.services), denied(plan))
		}
		w.says("web", 102, inst(1))
		if w.rest(t); len(w.services) != 1 || w.has("web") == "" {
			t.Errorf("it does not come back: %q", w.has("web"))
		}
	}
}

// What may have been there meanwhile does not count as gone.
func TestAServiceIsDeletedAfterOneStretch(t *testing.T) {
	w := one(t)
	gone := func() {
		w.says("web", 101)
		w.rest(t)
		w.sleep(consulimport.ConfirmAfter)
		w.says("web", 101)
		w.rest(t)
	}
	gone()
	w.expect(t, "web", "")
	w.sleep(consulimport.DeleteAfter - time.Second)
	w.in.Answers[consulimport.Origin{Name: "web"}] = consulimport.Answer{Read: consulimport.Read{Problem: "no leader"}}
	w.rest(t)
	gone()
	if len(w.services) != 1 {
		t.Error("the Service is gone")
	}
	w.sleep(consulimport.DeleteAfter)
	if w.rest(t); len(w.services) != 0 {
		t.Error("the Service is still there")
	}
}

// The list of names only adds: one that lacks a service takes nothing away.
func TestI1AListOfNamesTakesNothingAway(t *testing.T) {
	w := newWorld(pattern("w.*|c.*"))
	w.lists("web", "www", "db", "consul")
	w.says("web", 10, inst(1))
	w.says("www", 10, inst(2))
	w.rest(t)
	for _, listing := range []consulimport.Listing{
		{},
		{Read: consulimport.Read{Problem: "500"}},
		{Read: consulimport.Read{Asked: noon, Index: 11}},
		{Read: consulimport.Read{Asked: noon, Index: 11}, Names: []string{"www"}},
	} {
		w.in.Listings[consulimport.Where{}] = listing
		w.memory = consulimport.Memory{}
		plan := w.rest(t)
		if len(plan.Answers) != 2 || w.has("web") != "10.0.0.1=8080" || w.has("www") != "10.0.0.2=8080" || len(w.services) != 2 {
			t.Errorf("listing %+v: asks for %v, has %q and %q", listing, plan.Answers, w.has("web"), w.has("www"))
		}
	}
}

// What a person does not name any more goes, at once, unless the Service is to
// stay; then it has no endpoints.
func TestWhatIsNotNamedAnyMoreGoes(t *testing.T) {
	for _, retain := range []bool{false, true} {
		w := one(t)
		w.in.Imports[0].Retain, w.in.Imports[0].Names = retain, []string{"other"}
		w.rest(t)
		w.expect(t, "web", "")
		if (len(w.services) == 1) != retain {
			t.Errorf("retain %v: Services %v", retain, w.services)
		}
	}
}

// What belongs to an import that is not there, or not understood, stays.
func TestI1AMissingImportTakesNothingAway(t *testing.T) {
	w := one(t)
	imports := w.in.Imports
	w.in.Imports = nil
	w.rest(t)
	w.in.Imports = imports
	w.in.Imports[0].Names, w.in.Imports[0].Pattern = nil, "("
	plan := w.rest(t)
	w.expect(t, "web", all)
	if got := condition(plan, consulimport.ConditionReady); got != "False InvalidSpec" {
		t.Errorf("Ready is %s", got)
	}
	if got := plan.Statuses[0]; got.Services != 1 || got.Endpoints != 3 {
		t.Errorf("status: %+v", got)
	}
}
