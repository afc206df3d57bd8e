package consulimport_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/consulimport"
)

// denied are the services that are not imported, by import, each with its reason.
func denied(plan consulimport.Plan) string {
	text := ""
	for _, s := range plan.Statuses {
		for _, n := range s.NotImported {
			text += s.Import.Name + ":" + n.Consul + ":" + n.Reason + " "
		}
	}
	return text
}

// Of services that ask for the same name the one that is called so gets it, or
// the first; whoever has it keeps it; the others are told who has it.
func TestTakenNamesAreNotFoughtOver(t *testing.T) {
	w := newWorld(names("web_api", "WEB-API", "web.api"))
	w.says("web_api", 10, inst(1))
	w.says("WEB-API", 10, inst(2))
	w.says("web.api", 10, inst(3))
	plan := w.rest(t)
	w.expect(t, "web-api", "10.0.0.2=8080")
	if got, want := denied(plan), "imp:web.api:NameTaken imp:web_api:NameTaken "; got != want {
		t.Errorf("not imported: %q, want %q", got, want)
	}
	if got, want := plan.Statuses[0].NotImported[0].Message, `the Service "web-api" stands for service "WEB-API" of the ConsulImport "imp"`; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	// One that would have gone first comes later.
	w.in.Imports[0].Names = append(w.in.Imports[0].Names, "web-api")
	w.says("web-api", 10, inst(4))
	w.rest(t)
	w.expect(t, "web-api", "10.0.0.2=8080")
	// The one that has it leaves.
	w.in.Imports[0].Names = []string{"web-api", "web_api"}
	w.rest(t)
	w.expect(t, "web-api", "10.0.0.4=8080")
}

// Where nobody has the Service yet, it is for the one that is called just so.
func TestTheSameNameGoesFirst(t *testing.T) {
	w := newWorld(names("WEB-API", "web-api"))
	w.says("WEB-API", 10, inst(1))
	w.says("web-api", 10, inst(2))
	w.rest(t)
	w.expect(t, "web-api", "10.0.0.2=8080")
}

// What an import has made stays its own while it cannot be understood.
func TestAnInvalidImportKeepsItsNames(t *testing.T) {
	second := names("web")
	second.Ref.Name, second.UID = "other", "u2"
	w := newWorld(names("web"), second)
	w.says("web", 10, inst(1))
	w.rest(t)
	w.in.Imports[0].Names, w.in.Imports[0].Pattern = nil, "("
	plan := w.rest(t)
	if got, want := denied(plan), "other:web:NameTaken "; got != want || w.services[ref("web")].Import != "imp" {
		t.Errorf("not imported: %q, want %q; the Service belongs to %q", got, want, w.services[ref("web")].Import)
	}
}

// Another source is another service: its index says nothing of the one before.
func TestAnotherSource(t *testing.T) {
	w := one(t)
	w.in.Imports[0].Where.Datacenter = "dc2"
	w.rest(t)
	w.expect(t, "web", all) // of the other datacenter nothing is known yet
	w.answer(consulimport.Origin{Where: consulimport.Where{Datacenter: "dc2"}, Name: "web"}, 7, inst(1), inst(4))
	plan := w.pass(t)
	if len(plan.Ops) != 2 || strings.Contains(fmt.Sprint(plan.Ops), "10.0.0.1:") {
		t.Errorf("what stays is taken out, too: %v", plan.Ops)
	}
	plan = w.rest(t)
	w.expect(t, "web", "10.0.0.1=8080 10.0.0.4=8080")
	if got := condition(plan, consulimport.ConditionRemovalsHeld); got != "False NothingHeld" {
		t.Errorf("RemovalsHeld is %s", got)
	}
	for _, s := range w.slices {
		if s.Origin.Datacenter != "dc2" || s.Mark != 7 {
			t.Errorf("%s is of %s, index %d", s.Ref, s.Origin, s.Mark)
		}
	}
}

// It is the same with a pattern, whose services are not known yet there.
func TestAnotherSourceOfAPattern(t *testing.T) {
	dc2 := consulimport.Where{Datacenter: "dc2"}
	other := with(pattern(".*"), func(in *consulimport.Import) { in.Ref.Name, in.Template = "other", "other-{service}" })
	w := newWorld(pattern("w.*"), other)
	w.lists("web", "db")
	w.says("web", 100, inst(1))
	w.says("db", 100, inst(2))
	w.rest(t)
	w.in.Imports[0].Where = dc2
	plan := w.rest(t)
	w.expect(t, "web", "10.0.0.1=8080")
	want := []consulimport.Origin{{Name: "db"}, {Name: "web"}, {Where: dc2, Name: "web"}}
	if diff := cmp.Diff(want, plan.Answers); diff != "" {
		t.Errorf("asks for (-want +got):\n%s", diff)
	}
	w.in.Imports[0].Pattern = ".*" // what the other has imported is none of its business
	if plan = w.rest(t); len(plan.Answers) != 3 {
		t.Errorf("asks for %v", plan.Answers)
	}
}

// Two imports with the same name for a Service do not fight either.
func TestTwoImportsOfOneName(t *testing.T) {
	second := names("web")
	second.Ref.Name, second.UID = "other", "u2"
	w := newWorld(names("web"), second)
	w.says("web", 10, inst(1))
	plan := w.rest(t)
	if got, want := denied(plan), "other:web:NameTaken "; got != want {
		t.Errorf("not imported: %q, want %q", got, want)
	}
	elsewhere := second
	elsewhere.Ref.Namespace = "bank"
	w.in.Imports[1] = elsewhere
	if plan = w.rest(t); denied(plan) != "" || len(w.services) != 2 {
		t.Errorf("another namespace: %q, %d Services", denied(plan), len(w.services))
	}
	// The first is deleted: what is its own goes with it, and then the name is free.
	w.in.Imports = []consulimport.Import{second}
	if plan = w.rest(t); denied(plan) != "other:web:NameTaken " || w.services[ref("web")].Owner != "u1" {
		t.Errorf("not imported: %q, owner %q", denied(plan), w.services[ref("web")].Owner)
	}
}

// What is not Fairway's is never written, and the person is told.
func TestI5ForeignServicesAreNeverTouched(t *testing.T) {
	w := newWorld(names("web"))
	foreign := consulimport.Service{Object: consulimport.Object{Ref: ref("web"), Version: "7"}}
	slice := consulimport.Slice{Object: consulimport.Object{Ref: ref("web-abcde"), Version: "8"}, Service: "web", Family: consulimport.IPv4}
	w.services[foreign.Ref], w.slices[slice.Ref] = foreign, slice
	w.says("web", 10, inst(1))
	plan := w.pass(t)
	if len(plan.Ops) > 0 || denied(plan) != "imp:web:NameTaken " {
		t.Errorf("ops %v, not imported %q", plan.Ops, denied(plan))
	}
	if got, want := plan.Statuses[0].NotImported[0].Message, `there is a Service "web" that is not Fairway's`; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	delete(w.services, foreign.Ref)
	if w.rest(t); w.has("web") != "10.0.0.1=8080" || len(w.slices) != 2 {
		t.Errorf("has %q, %d slices", w.has("web"), len(w.slices))
	}
}

// A foreign slice may have the name that ours would get.
func TestNamesOfSlicesAreFree(t *testing.T) {
	w := newWorld(names("web"))
	w.slices[ref("web-consul-1")] = consulimport.Slice{Object: consulimport.Object{Ref: ref("web-consul-1")}}
	w.says("web", 10, inst(1))
	w.rest(t)
	if _, ok := w.slices[ref("web-consul-2")]; !ok {
		t.Errorf("slices %v", w.slices)
	}
}

// An import that was made anew takes over what it finds, without a gap.
func TestAnImportMadeAnewTakesOver(t *testing.T) {
	w := one(t)
	w.in.Imports[0].UID = "u9"
	w.memory = consulimport.Memory{}
	plan := w.pass(t)
	for _, op := range plan.Ops {
		if op.Verb != consulimport.Update {
			t.Errorf("%s", op)
		}
	}
	w.rest(t)
	w.expect(t, "web", all)
	if got := w.services[ref("web")].Owner; got != "u9" {
		t.Errorf("owner %q", got)
	}
}

// Somebody's change of what is ours is undone, whichever it is.
func TestForeignEditsAreRepaired(t *testing.T) {
	slice, web := ref("web-consul-1"), ref("web")
	tests := map[string]func(*consulimport.Slice, *consulimport.Service){
		"an endpoint is gone":      func(s *consulimport.Slice, _ *consulimport.Service) { s.Endpoints = s.Endpoints[1:] },
		"an endpoint is not ready": func(s *consulimport.Slice, _ *consulimport.Service) { s.Endpoints[1].State = "" },
		"an endpoint has a zone":   func(s *consulimport.Slice, _ *consulimport.Service) { s.Endpoints[1].Zone = "z" },
		"an endpoint is not Consul's": func(s *consulimport.Slice, _ *consulimport.Service) {
			s.Endpoints = append(s.Endpoints, consulimport.Endpoint{Address: inst(9).Address, State: consulimport.Ready})
		},
		"an endpoint is there twice": func(s *consulimport.Slice, _ *consulimport.Service) {
			s.Endpoints = append(s.Endpoints, s.Endpoints[0])
		},
		"the slice is headless": func(s *consulimport.Slice, _ *consulimport.Service) { s.Headless = true },
		"other ports of the slice": func(s *consulimport.Slice, _ *consulimport.Service) {
			s.Ports = []consulimport.Port{{Name: "x", Port: 1}}
		},
		"another owner":     func(s *consulimport.Slice, _ *consulimport.Service) { s.Owner = "u7" },
		"another service":   func(_ *consulimport.Slice, w *consulimport.Service) { w.Origin.Name = "db" },
		"other labels":      func(_ *consulimport.Slice, w *consulimport.Service) { w.Labels = map[string]string{"a": "b"} },
		"other annotations": func(_ *consulimport.Slice, w *consulimport.Service) { w.Annotations = map[string]string{"a": "b"} },
		"other ports": func(_ *consulimport.Slice, w *consulimport.Service) {
			w.Ports = []consulimport.Port{{Name: "x", Port: 1}}
		},
	}
	for name, edit := range tests {
		t.Run(name, func(t *testing.T) {
			w := one(t)
			w.in.Imports[0].Ports = []consulimport.ImportPort{{Port: 80}}
			w.rest(t)
			wantSlice, wantWeb := w.slices[slice], w.services[web]
			s, svc := wantSlice, wantWeb
			s.Endpoints = slices.Clone(s.Endpoints)
			edit(&s, &svc)
			w.slices[slice], w.services[web] = s, svc
			w.rest(t)
			w.expect(t, "web", all)
			svc = w.services[web]
			svc.Version = wantWeb.Version
			if diff := cmp.Diff(wantWeb, svc); diff != "" {
				t.Errorf("Service (-want +have):\n%s", diff)
			}
			for _, s := range w.slices { // one that has other ports is replaced
				if len(w.slices) != 1 || s.Headless || s.Owner != "u1" || s.Ports[0].Port != 8080 {
					t.Errorf("%d slices, one is %+v", len(w.slices), s)
				}
			}
		})
	}
}

// An endpoint that is in two slices remains in one.
func TestACopiedSliceIsRemoved(t *testing.T) {
	w := one(t)
	double := w.slices[ref("web-consul-1")]
	double.Ref.Name = "web-copy"
	w.slices[double.Ref] = double
	w.rest(t)
	if w.expect(t, "web", all); len(w.slices) != 1 {
		t.Errorf("slices %v", w.slices)
	}
}
