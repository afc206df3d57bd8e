package controller

import (
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/export"
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
		"published":                             {export.Result{Verdict: export.Published, Name: "shop-web", Reason: "an annotation asks for it"}, reasonPublished, `"shop-web": an annotation asks`, false},
		"not":                                   {export.Result{Verdict: export.Unpublished, Reason: "no annotation asks for it"}, reasonUnpublished, "no annotation asks", false},
		"nobody knows":                          {export.Result{Verdict: export.Undecided, Reason: "the labels of namespace shop are not known"}, reasonUnpublished, "stays as it is", true},
		"not understood":                        {export.Result{Verdict: export.Undecided, Errors: []annotation.Error{typo}}, reasonAnnotation, "service-port: the Service has no such port", true},
		"published, but for a stray annotation": {export.Result{Verdict: export.Published, Errors: []annotation.Error{typo}}, reasonAnnotation, "no such port", true},
		"a part":                                {export.Result{Verdict: export.Published, Skipped: skipped, Instances: []service.Instance{{}}}, reasonSkipped, "Some endpoints", true},
		"nothing":                               {export.Result{Verdict: export.Published, Name: "web", Skipped: skipped}, reasonSkipped, `"web" has no instance in Consul: it does not`, true},
	} {
		got := standOf(tt.result)
		if got.reason != tt.reason || got.warn != tt.warn || !strings.Contains(got.message, tt.says) {
			t.Errorf("%s: %+v", name, got)
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
