package kube

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/service"
)

var pods = schema.GroupResource{Resource: "pods"}

func named(name, uid string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid)}}
}

// I1: only a positive statement about this very pod proves that it is gone.
func TestJudge(t *testing.T) {
	ref := service.PodRef{Namespace: "shop", Name: "web-1", UID: "uid-1"}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		err  error
		gone bool
		fail bool
	}{
		"the same life":               {pod: named("web-1", "uid-1")},
		"another life":                {pod: named("web-1", "uid-2"), gone: true},
		"an empty object":             {pod: &corev1.Pod{}, fail: true},
		"another pod":                 {pod: named("web-2", "uid-2"), fail: true},
		"not found":                   {err: apierrors.NewNotFound(pods, "web-1"), gone: true},
		"another pod is not found":    {err: apierrors.NewNotFound(pods, "web-2"), fail: true},
		"another kind is not found":   {err: apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "web-1"), fail: true},
		"another group's pods":        {err: apierrors.NewNotFound(schema.GroupResource{Group: "metrics.k8s.io", Resource: "pods"}, "web-1"), fail: true},
		"a 404 page of a proxy":       {err: apierrors.NewGenericServerResponse(http.StatusNotFound, "get", pods, "web-1", "404 page not found", 0, true), fail: true},
		"an empty 404":                {err: apierrors.NewGenericServerResponse(http.StatusNotFound, "get", pods, "web-1", "", 0, true), fail: true},
		"forbidden":                   {err: apierrors.NewForbidden(pods, "web-1", errors.New("no")), fail: true},
		"the server's internal error": {err: apierrors.NewInternalError(errors.New("boom")), fail: true},
		"no connection":               {err: errors.New("connection refused"), fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			gone, why, err := judge(ref, c.pod, c.err)
			if gone != c.gone || (err != nil) != c.fail || gone != (why != "") {
				t.Errorf("gone %v because %q, error %v", gone, why, err)
			}
		})
	}
}

// I1: a watch that says so proves a deletion, a list that is short does not.
func TestWhatProvesThatAPodIsGone(t *testing.T) {
	s := newStore()
	if _, synced := s.Snapshot(); synced {
		t.Error("synced before the first list")
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(s.Replace([]any{named("deleted", "1"), named("missing", "2"), named("replaced", "3"), named("relisted", "4"), named("stays", "5")}, "10"))
	do(s.Delete(named("deleted", "1")))
	do(s.Add(named("replaced", "30")))
	do(s.Replace([]any{named("replaced", "30"), named("relisted", "40"), named("stays", "5")}, "20"))
	do(s.Delete(named("stays", "older"))) // an event of a life that is long over

	every := map[string]bool{"1": true, "2": true, "3": true, "4": true, "5": true, "30": true, "40": true}
	want := map[string]string{"1": whyDeleted, "3": whyReplaced, "4": whyReplaced}
	if diff := cmp.Diff(want, s.Gone(every)); diff != "" {
		t.Errorf("gone (-want +got):\n%s", diff)
	}
	pods, synced := s.Snapshot()
	var uids []string
	for _, pod := range pods {
		uids = append(uids, pod.Ref.UID)
	}
	if diff := cmp.Diff([]string{"40", "30", "5"}, uids); diff != "" || !synced {
		t.Errorf("synced %v, pods by name (-want +got):\n%s", synced, diff)
	}

	s.Gone(map[string]bool{"3": true}) // nobody refers to the others any more
	if diff := cmp.Diff(map[string]string{"3": whyReplaced}, s.Gone(every)); diff != "" {
		t.Errorf("gone after forgetting (-want +got):\n%s", diff)
	}
	do(s.Replace(nil, "30"))
	if pods, synced := s.Snapshot(); len(pods) != 0 || !synced {
		t.Errorf("after an empty list: %v, synced %v", pods, synced)
	}
	if diff := cmp.Diff(map[string]string{"3": whyReplaced}, s.Gone(every)); diff != "" {
		t.Errorf("an empty list proved something (-want +got):\n%s", diff)
	}
}

// What has no identity is not a pod, and leaves everything as it was.
func TestGarbageIsRefused(t *testing.T) {
	s := newStore()
	if err := s.Replace([]any{named("web-1", "uid-1")}, "1"); err != nil {
		t.Fatal(err)
	}
	for _, garbage := range []any{&corev1.Pod{}, named("web-1", ""), &corev1.Node{}, nil} {
		if s.Replace([]any{garbage}, "2") == nil || s.Update(garbage) == nil || s.Delete(garbage) == nil {
			t.Errorf("%v was accepted", garbage)
		}
	}
	if pods, _ := s.Snapshot(); len(pods) != 1 || len(s.Gone(map[string]bool{"uid-1": true, "": true})) != 0 {
		t.Errorf("pods %v", pods)
	}
}

func TestSubscribersHearOfChangesOnce(t *testing.T) {
	s := newStore()
	one, other := s.Subscribe(), s.Subscribe()
	heard := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	if err := s.Replace(nil, "1"); err != nil || !heard(one) || !heard(other) {
		t.Errorf("the first list was not reported, even though it is of no pods: %v", err)
	}
	pod := named("web-1", "uid-1")
	if err := s.Add(pod); err != nil || !heard(one) {
		t.Errorf("a new pod was not reported: %v", err)
	}
	pod = named("web-1", "uid-1")
	pod.ResourceVersion, pod.Labels = "2", map[string]string{"a": "b"}
	if err := s.Update(pod); err != nil || heard(one) {
		t.Errorf("a change that nobody reads was reported: %v", err)
	}
	pod = named("web-1", "uid-1")
	pod.Status.Phase = corev1.PodRunning
	if s.Update(pod) != nil || s.Delete(pod) != nil || !heard(one) || heard(one) || !heard(other) || heard(other) {
		t.Error("want one value on each channel for two changes")
	}
}
