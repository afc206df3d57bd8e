package controller

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// How a Service stands is one Event, which says why.
func TestStandOfAService(t *testing.T) {
	t.Parallel()
	typo := annotation.Error{Key: "fairway.dev/service-port", Value: "htpt", Problem: "the Service has no such port"}
	skipped := []export.Skipped{{Key: "uid-1", Reason: "it does not have port http"}}
	for name, tt := range map[string]struct {
		result export.Result
		reason string
		says   string
		warn   bool
	}{
		"published":                             {export.Result{Verdict: export.Published, Name: "shop-web", Reason: "an annotation asks for it", Instances: []service.Instance{{}}}, reasonPublished, `"shop-web": an annotation asks`, false},
		"published, and nothing there":          {export.Result{Verdict: export.Published, Name: "lb", Reason: "its load balancer has no address yet"}, reasonPublished, `"lb", where nothing stands for now: its load`, false},
		"not":                                   {export.Result{Verdict: export.Unpublished, Reason: "no annotation asks for it"}, reasonUnpublished, "no annotation asks", false},
		"nobody knows":                          {export.Result{Verdict: export.Undecided, Reason: "the labels of namespace shop are not known"}, reasonUnpublished, "stays as it is", true},
		"not understood":                        {export.Result{Verdict: export.Undecided, Errors: []annotation.Error{typo}}, reasonAnnotation, "no such port. Until that is corrected, what stands in Consul stays", true},
		"not published, and a stray annotation": {export.Result{Verdict: export.Unpublished, Reason: "an annotation says so", Errors: []annotation.Error{typo}}, reasonAnnotation, "no such port. Not published in Consul: an annotation", true},
		"published, but for a stray annotation": {export.Result{Verdict: export.Published, Errors: []annotation.Error{typo}}, reasonAnnotation, "no such port. All else", true},
		"a part":                                {export.Result{Verdict: export.Published, Skipped: skipped, Instances: []service.Instance{{}}}, reasonSkipped, "Some endpoints", true},
		"nothing":                               {export.Result{Verdict: export.Published, Name: "web", Skipped: skipped}, reasonSkipped, `"web" has no instance in Consul: it does not`, true},
	} {
		got := standOf(tt.result)
		if got.reason != tt.reason || got.warn != tt.warn || !strings.Contains(got.message, tt.says) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// That Consul refuses a Service is told once, and once that all of it is taken: a person
// who has given the token a right looks there.
func TestARefusalIsToldToItsEnd(t *testing.T) {
	t.Parallel()
	e, now := &exporter{log: slog.New(slog.DiscardHandler)}, time.Now()
	web := export.Object{Kind: export.KindService, Namespace: "shop", Name: "web"}
	due := []registration.Op{{Kind: registration.Register, Instance: service.Instance{Endpoint: service.EndpointRef{Namespace: "shop", Service: "web", Key: "vip"}}}}
	gone := []registration.Op{{Kind: registration.Deregister, Instance: due[0].Instance}}
	refused := map[string]refusal{"id": {web, "u1", "denied"}}
	for _, step := range []struct {
		name    string
		wrote   []registration.Op
		due     []registration.Op
		refused map[string]refusal
		told    []string
	}{
		{"it is refused", nil, due, refused, []string{"RegistryRefused"}},
		{"still", nil, due, refused, nil},
		{"Consul is away", nil, due, nil, nil},
		{"it is refused again", nil, due, refused, nil},
		{"one of two is written", due, due, nil, nil},
		{"the other, too", due, nil, nil, []string{"Published"}},
		{"at rest", nil, nil, nil, nil},
		{"it is refused anew", nil, due, refused, []string{"RegistryRefused"}},
		{"the Service is deleted", gone, nil, nil, nil},
	} {
		e.untold = nil
		for _, op := range step.wrote {
			e.took(op)
		}
		e.tellRefused(export.Plan{Plan: registration.Plan{Ops: step.due}}, step.refused, now)
		var told []string
		for _, u := range e.untold {
			if told = append(told, u.reason); u.service != web || u.uid != "u1" {
				t.Errorf("%s: told on %s, %s", step.name, u.service, u.uid)
			}
		}
		if !slices.Equal(told, step.told) {
			t.Errorf("%s: told %q, want %q", step.name, told, step.told)
		}
	}
}

// The annotation that lets removals pass is a time, not too far ahead.
func TestAllowedUntil(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Time{
		"":                          {},
		"2026-01-01T12:10:00Z":      now.Add(10 * time.Minute),
		"2026-01-01T13:10:00+01:00": now.Add(10 * time.Minute),
		"2025-12-31T12:00:00Z":      now.Add(-24 * time.Hour), // over
	} {
		if got, err := allowedUntil(value, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v", value, got, err)
		}
	}
	for _, value := range []string{"true", "10m", "2026-01-03T12:00:00Z"} {
		if got, err := allowedUntil(value, now); err == nil || !got.IsZero() || !strings.Contains(err.Error(), "24h") {
			t.Errorf("%q: %s, %v", value, got, err)
		}
	}
}
