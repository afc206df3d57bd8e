package kube

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"fairway.dev/fairway/internal/service"
)

// patched is what the API server makes of the patch.
func patched(t *testing.T, pod *corev1.Pod, patch []byte) *corev1.Pod {
	t.Helper()
	before, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Pod{})
	if err != nil {
		t.Fatal(err)
	}
	out := &corev1.Pod{}
	if err := json.Unmarshal(after, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConditionPatch(t *testing.T) {
	pod := fullPod()
	since := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	now := since.Add(time.Hour)
	for name, c := range map[string]struct {
		kind  string
		want  service.Condition
		since time.Time
	}{
		"a new one":          {service.ConditionAnnotations, service.Condition{Status: "False", Reason: "InvalidAnnotation", Message: "x"}, now},
		"another status":     {service.GateReachable, service.Condition{Status: "True", Reason: "Reachable", Message: "x"}, now},
		"another words only": {service.GateReachable, service.Condition{Status: "False", Reason: "WaitingForServers", Message: "x"}, since},
	} {
		t.Run(name, func(t *testing.T) {
			patch, err := conditionPatch(Pod(pod), c.kind, c.want, now)
			if err != nil {
				t.Fatal(err)
			}
			after := patched(t, pod, patch)
			for i := range after.Status.Conditions { // JSON keeps no location
				at := &after.Status.Conditions[i].LastTransitionTime
				at.Time = at.UTC()
			}
			c.want.Since = c.since
			if diff := cmp.Diff(c.want, Pod(after).Conditions[c.kind]); diff != "" {
				t.Errorf("the condition (-want +got):\n%s", diff)
			}
			for _, condition := range pod.Status.Conditions {
				if string(condition.Type) != c.kind && !slices.Contains(after.Status.Conditions, condition) {
					t.Errorf("condition %s was touched", condition.Type)
				}
			}
			var named struct{ Metadata struct{ UID string } }
			if err := json.Unmarshal(patch, &named); err != nil || named.Metadata.UID != "uid-1" {
				t.Errorf("the patch names UID %q, %v", named.Metadata.UID, err)
			}
		})
	}
	same := service.Condition{Status: "False", Reason: "WaitingForServers", Message: "m"}
	if patch, err := conditionPatch(Pod(pod), service.GateReachable, same, now); patch != nil || err != nil {
		t.Errorf("a patch that changes nothing: %s, %v", patch, err)
	}
}
