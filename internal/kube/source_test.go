package kube

import (
	"errors"
	"net/http"
	"testing"
	"time"

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

// made is a pod made at a second of the tests' day.
func made(second int, name, uid string) *corev1.Pod {
	pod := named(name, uid)
	pod.CreationTimestamp = metav1.NewTime(time.Date(2026, 11, 21, 3, 0, second, 0, time.UTC))
	return pod
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
			found, why, err := judge(ref, c.pod, c.err)
			gone := err == nil && found == nil
			if gone != c.gone || (err != nil) != c.fail || gone != (why != "") {
				t.Errorf("gone %v because %q, error %v", gone, why, err)
			}
		})
	}
}

// I1: of a pod that is known by its name alone, one on another node proves that
// this one has none; one without a node may yet come.
func TestJudgeAbsence(t *testing.T) {
	name := service.PodRef{Namespace: "shop", Name: "web-1"}
	on := func(node string) *corev1.Pod {
		pod := named("web-1", "uid-1")
		pod.Spec.NodeName = node
		return pod
	}
	for what, c := range map[string]struct {
		pod    *corev1.Pod
		err    error
		absent bool
		fail   bool
	}{
		"here":                 {pod: on("n1")},
		"on another node":      {pod: on("n2"), absent: true},
		"on no node yet":       {pod: on("")},
		"an empty object":      {pod: &corev1.Pod{}, fail: true},
		"not found":            {err: apierrors.NewNotFound(pods, "web-1"), absent: true},
		"another is not found": {err: apierrors.NewNotFound(pods, "web-2"), fail: true},
		"no connection":        {err: errors.New("connection refused"), fail: true},
	} {
		absent, why, err := judgeAbsence(name, "n1", c.pod, c.err)
		if absent != c.absent || (err != nil) != c.fail || absent != (why != "") {
			t.Errorf("%s: absent %v because %q, error %v", what, absent, why, err)
		}
	}
}

// I1: a watch that says so proves a deletion, a list that is short does not.
func TestWhatProvesThatAPodIsGone(t *testing.T) {
	s := NewStore()
	if s.State().Synced {
		t.Error("synced before the first list")
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(s.Replace([]any{named("deleted", "1"), named("missing", "2"), named("replaced", "3"), made(1, "relisted", "4"), made(1, "twin", "6"), named("stays", "5")}, "10"))
	do(s.Delete(named("deleted", "1")))
	do(s.Add(named("replaced", "30")))
	// Of the twins, made in one second, nobody knows which is the later.
	do(s.Replace([]any{named("replaced", "30"), made(2, "relisted", "40"), made(1, "twin", "60"), named("stays", "5")}, "20"))
	do(s.Delete(named("stays", "older"))) // an event of a life that is long over

	every := map[string]bool{"1": true, "2": true, "3": true, "4": true, "5": true, "6": true, "30": true, "40": true, "60": true}
	want := map[string]string{"1": whyDeleted, "3": whyReplaced, "4": whyReplaced}
	if diff := cmp.Diff(want, s.Gone(every)); diff != "" {
		t.Errorf("gone (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"40", "30", "5", "60"}, uids(s)); diff != "" || !s.State().Synced {
		t.Errorf("synced %v, pods by name (-want +got):\n%s", s.State().Synced, diff)
	}

	s.Gone(map[string]bool{"3": true}) // nobody refers to the others any more
	if diff := cmp.Diff(map[string]string{"3": whyReplaced}, s.Gone(every)); diff != "" {
		t.Errorf("gone after forgetting (-want +got):\n%s", diff)
	}
	do(s.Replace(nil, "30"))
	if state := s.State(); len(state.Pods) != 0 || !state.Synced {
		t.Errorf("after an empty list: %+v", state)
	}
	if diff := cmp.Diff(map[string]string{"3": whyReplaced}, s.Gone(every)); diff != "" {
		t.Errorf("an empty list proved something (-want +got):\n%s", diff)
	}
}

// What has no identity is not a pod, and leaves everything as it was.
func TestGarbageIsRefused(t *testing.T) {
	s := NewStore()
	if err := s.Replace([]any{named("web-1", "uid-1")}, "1"); err != nil {
		t.Fatal(err)
	}
	for _, garbage := range []any{&corev1.Pod{}, named("web-1", ""), &corev1.Node{}, nil} {
		if s.Replace([]any{garbage}, "2") == nil || s.Update(garbage) == nil || s.Delete(garbage) == nil {
			t.Errorf("%v was accepted", garbage)
		}
	}
	if pods := uids(s); len(pods) != 1 || len(s.Gone(map[string]bool{"uid-1": true, "": true})) != 0 {
		t.Errorf("pods %v", pods)
	}
}

// A late word of an earlier life, or of an earlier state, changes nothing. It
// never makes the life that is there now look replaced.
func TestHearDoesNotGoBack(t *testing.T) {
	at := func(second int) metav1.Time {
		return metav1.Date(2026, 11, 21, 3, 0, second, 0, time.UTC)
	}
	said := func(uid string, created int, ready corev1.ConditionStatus, since int) *corev1.Pod {
		pod := named("web-1", uid)
		pod.CreationTimestamp = at(created)
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.ContainersReady, Status: ready, LastTransitionTime: at(since)}}
		return pod
	}
	s := NewStore()
	if err := s.Replace([]any{said("new", 10, corev1.ConditionTrue, 20)}, ""); err != nil {
		t.Fatal(err)
	}
	for name, late := range map[string]*corev1.Pod{
		"an earlier state":                   said("new", 10, corev1.ConditionFalse, 19),
		"an earlier life":                    said("old", 9, corev1.ConditionFalse, 30),
		"a life that may be the earlier one": said("old", 10, corev1.ConditionFalse, 30),
	} {
		if err := s.Hear(late); err != nil {
			t.Fatal(err)
		}
		if pods := s.State().Pods; len(pods) != 1 || pods[0].Pod.Ref.UID != "new" || !pods[0].Pod.ContainersReady {
			t.Errorf("%s: %+v", name, pods)
		}
	}
	if gone := s.Gone(map[string]bool{"new": true, "old": true}); len(gone) != 0 {
		t.Errorf("gone: %v", gone)
	}
	for _, news := range []*corev1.Pod{said("new", 10, corev1.ConditionFalse, 21), said("next", 30, corev1.ConditionFalse, 31)} {
		if err := s.Hear(news); err != nil {
			t.Fatal(err)
		}
		if pods := s.State().Pods; len(pods) != 1 || pods[0].Pod.Ref.UID != string(news.UID) || pods[0].Pod.ContainersReady {
			t.Errorf("news of %s: %+v", news.UID, pods)
		}
	}
	// Of two lives on one list the later counts, in whatever order they come.
	if err := s.Replace([]any{said("next", 30, corev1.ConditionTrue, 31), said("new", 10, corev1.ConditionTrue, 20)}, ""); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"next"}, uids(s)); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"new": whyReplaced}, s.Gone(map[string]bool{"new": true, "old": true, "next": true})); diff != "" {
		t.Errorf("gone (-want +got):\n%s", diff)
	}
}

// uids are those of a store's pods, by name.
func uids(s *Store) []string {
	var uids []string
	for _, sighting := range s.State().Pods {
		uids = append(uids, sighting.Pod.Ref.UID)
	}
	return uids
}

// What a source said stands when it falls silent; that it did is news once.
func TestSilenceChangesNothing(t *testing.T) {
	s := NewStore()
	heard := func() bool {
		select {
		case <-s.Changed():
			return true
		default:
			return false
		}
	}
	if state := s.State(); state.Live || state.Problem == "" {
		t.Errorf("at first: %+v", state)
	}
	s.Answers()
	if err := s.Replace([]any{named("web-1", "1")}, ""); err != nil || !heard() {
		t.Fatalf("an answer was not reported: %v", err)
	}
	s.Silent("no route")
	if state := s.State(); state.Live || !state.Synced || state.Problem != "no route" || len(state.Pods) != 1 || !heard() {
		t.Errorf("silent: %+v", state)
	}
	s.Silent("no route")
	if heard() {
		t.Error("the same silence was reported twice")
	}
	s.Answers()
	if state := s.State(); !state.Live || state.Problem != "" || !heard() {
		t.Errorf("answering again: %+v", state)
	}
}

func TestChangesAreHeardOfOnce(t *testing.T) {
	s := NewStore()
	heard := func() bool {
		select {
		case <-s.Changed():
			return true
		default:
			return false
		}
	}
	if err := s.Replace(nil, "1"); err != nil || !heard() {
		t.Errorf("the first list was not reported, even though it is of no pods: %v", err)
	}
	pod := named("web-1", "uid-1")
	if err := s.Add(pod); err != nil || !heard() {
		t.Errorf("a new pod was not reported: %v", err)
	}
	pod = named("web-1", "uid-1")
	pod.ResourceVersion, pod.Labels = "2", map[string]string{"a": "b"}
	if s.Update(pod) != nil || heard() || s.Replace([]any{pod}, "2") != nil || heard() {
		t.Error("a change that nobody reads was reported")
	}
	pod = named("web-1", "uid-1")
	pod.Status.Phase = corev1.PodRunning
	if s.Update(pod) != nil || s.Delete(pod) != nil || !heard() || heard() {
		t.Error("want one value for two changes")
	}
}
