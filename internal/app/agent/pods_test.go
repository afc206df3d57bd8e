package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/podset"
	"fairway.dev/fairway/internal/service"
)

// apiPod is a running pod as the API server or a kubelet sends it.
func apiPod(uid string, ready bool, since time.Time) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-" + uid, UID: types.UID(uid)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}},
		Status: corev1.PodStatus{
			Phase:             corev1.PodRunning,
			Conditions:        []corev1.PodCondition{{Type: corev1.ContainersReady, Status: status, LastTransitionTime: metav1.NewTime(since)}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
		},
	}
}

// startPods runs nodePods on two sources that the test speaks for. restarted is
// the kubelet's restart.
func startPods(t *testing.T, needsLive bool) (n *nodePods, live, base *kube.Store, restarted func()) {
	t.Helper()
	idle := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	live, base = kube.NewStore(), kube.NewStore()
	n = &nodePods{
		live: &source{sourcePodsAPI, idle, live}, base: source{sourceInformer, idle, base}, needsLive: needsLive,
		confirm: func(_ context.Context, pod service.PodRef) (*service.Pod, string, error) {
			if pod.UID == "gone" {
				return nil, "there is none", nil
			}
			return &service.Pod{Ref: pod}, "", nil
		},
		log: slog.New(slog.DiscardHandler), restarts: newTrigger(),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("pods: %v", err)
		}
	})
	return n, live, base, n.restarts.fire
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readiness is what nodePods shows, by UID; nil if it shows nothing.
func readiness(n *nodePods) map[string]bool {
	synctest.Wait()
	pods, synced := n.Snapshot()
	if !synced {
		return nil
	}
	shown := map[string]bool{}
	for _, pod := range pods {
		shown[pod.Ref.UID] = pod.ContainersReady
	}
	return shown
}

// Either source alone will do, and that one falls silent changes nothing.
func TestPodsOfTwoSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, live, base, _ := startPods(t, false)
		changed := n.Subscribe()
		if got := readiness(n); got != nil {
			t.Fatalf("before anybody said anything: %v", got)
		}
		expect := func(what string, want map[string]bool) {
			t.Helper()
			if diff := cmp.Diff(want, readiness(n)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
			select {
			case <-changed:
			default:
				t.Errorf("%s: nobody was told", what)
			}
		}
		start := time.Now()
		must(t, live.Replace([]any{apiPod("1", true, start)}, ""))
		live.Answers()
		expect("the kubelet alone", map[string]bool{"1": true})

		time.Sleep(5 * time.Second)
		must(t, base.Replace([]any{apiPod("1", false, start.Add(-time.Minute)), apiPod("2", true, start)}, ""))
		base.Answers()
		expect("and the API server, which is behind", map[string]bool{"1": true, "2": true})
		live.Silent("restarts")
		expect("without the kubelet", map[string]bool{"1": true, "2": true})
		must(t, base.Update(apiPod("1", false, start.Add(5*time.Second))))
		expect("the API server has newer word", map[string]bool{"1": false, "2": true})

		text := n.Describe(time.Now().Add(time.Second))
		for _, want := range []string{"podsapi: 1 pods, as of 6s ago, does not answer: restarts", "informer: 2 pods, as of 1s ago"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q does not say %q", text, want)
			}
		}
	})
}

func TestPodsWaitForTheSourceThatIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, live, base, _ := startPods(t, true)
		must(t, base.Replace([]any{apiPod("1", true, time.Now())}, ""))
		if got := readiness(n); got != nil {
			t.Errorf("without the kubelet's socket: %v", got)
		}
		must(t, live.Replace([]any{apiPod("1", true, time.Now())}, ""))
		if diff := cmp.Diff(map[string]bool{"1": true}, readiness(n)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// Proofs come from both sources, from a later life, and from questions. Those
// that no entry needs are dropped, but for pods that a source still names.
func TestPodsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, live, base, _ := startPods(t, false)
		early, late := apiPod("early", true, time.Now()), apiPod("late", true, time.Now())
		early.Name, late.Name = "web", "web"
		late.CreationTimestamp = metav1.Now()
		must(t, live.Replace([]any{early}, ""))
		must(t, base.Replace([]any{late}, ""))
		live.End(service.PodRef{Namespace: "shop", Name: "a", UID: "ended"}, "it has ended")
		base.End(service.PodRef{Namespace: "shop", Name: "b", UID: "deleted"}, "it was deleted")
		if diff := cmp.Diff(map[string]bool{"late": true}, readiness(n)); diff != "" {
			t.Errorf("shown (-want +got):\n%s", diff)
		}
		for uid, want := range map[string]bool{"gone": true, "there": false} {
			if found, _, err := n.Confirm(t.Context(), service.PodRef{UID: uid}); (found == nil) != want || err != nil {
				t.Errorf("%s: found %v, %v", uid, found, err)
			}
		}
		must(t, base.Replace([]any{late, apiPod("there", true, time.Now())}, ""))
		base.End(service.PodRef{Namespace: "shop", Name: "there", UID: "there"}, "it was deleted, they said")
		if found, _, err := n.Confirm(t.Context(), service.PodRef{UID: "there"}); found == nil || err != nil {
			t.Errorf("found %v, %v", found, err)
		}
		every := map[string]bool{"early": true, "late": true, "ended": true, "deleted": true, "gone": true, "there": true}
		want := map[string]string{"early": "another pod has its name", "ended": "it has ended", "deleted": "it was deleted", "gone": "there is none"}
		if diff := cmp.Diff(want, n.Gone(every)); diff != "" {
			t.Errorf("gone (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]string{"early": want["early"]}, n.Gone(map[string]bool{})); diff != "" {
			t.Errorf("kept when there are no entries (-want +got):\n%s", diff)
		}
	})
}

// What has ended does not come back by a source that fell silent before, also
// when nobody has an entry of it any more.
func TestPodsDoNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, live, base, _ := startPods(t, false)
		must(t, live.Replace([]any{apiPod("1", true, time.Now()), apiPod("2", true, time.Now())}, ""))
		live.Answers()
		must(t, base.Replace([]any{apiPod("1", true, time.Now()), apiPod("2", true, time.Now())}, ""))
		base.Answers()
		readiness(n)
		base.Silent("it refuses")
		leaving := apiPod("2", true, time.Now())
		leaving.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		must(t, live.Hear(leaving))
		live.End(service.PodRef{Namespace: "shop", Name: "web-1", UID: "1"}, "it has ended")
		expect := func(what string) {
			t.Helper()
			if diff := cmp.Diff(map[string]bool{"2": true}, readiness(n)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
			if pods, _ := n.Snapshot(); !pods[0].Terminating {
				t.Errorf("%s: %+v", what, pods[0])
			}
		}
		expect("one ends, one leaves")
		n.Gone(map[string]bool{}) // its entry is removed
		must(t, live.Replace([]any{apiPod("3", false, time.Now())}, ""))
		must(t, live.Replace(nil, ""))
		expect("the kubelet names them no more")
		must(t, base.Replace(nil, ""))
		if gone := n.Gone(map[string]bool{}); len(gone) != 0 {
			t.Errorf("kept for nobody: %v", gone)
		}
	})
}

// The unreadiness that a restart of the kubelet brings is held back, and is
// shown when its time is over without anybody saying anything.
func TestPodsSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, base, restarted := startPods(t, false)
		must(t, base.Replace([]any{apiPod("flaps", true, time.Now()), apiPod("fails", true, time.Now())}, ""))
		base.Answers()
		readiness(n)
		restarted()
		synctest.Wait()
		time.Sleep(time.Second)
		must(t, base.Update(apiPod("flaps", false, time.Now())))
		must(t, base.Update(apiPod("fails", false, time.Now())))
		if diff := cmp.Diff(map[string]bool{"flaps": true, "fails": true}, readiness(n)); diff != "" {
			t.Errorf("just after the restart (-want +got):\n%s", diff)
		}
		must(t, base.Update(apiPod("flaps", true, time.Now())))
		changed := n.Subscribe()
		time.Sleep(podset.SettleFor)
		if diff := cmp.Diff(map[string]bool{"flaps": true, "fails": false}, readiness(n)); diff != "" {
			t.Errorf("when it has settled (-want +got):\n%s", diff)
		}
		select {
		case <-changed:
		default:
			t.Error("nobody was told")
		}
	})
}

// A part of it that ends ends all.
func TestPodsEndTogether(t *testing.T) {
	broken := errors.New("broken")
	n := &nodePods{
		base: source{sourceInformer, func(context.Context) error { return broken }, kube.NewStore()},
		log:  slog.New(slog.DiscardHandler), restarts: newTrigger(),
	}
	if err := n.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("run: %v", err)
	}
}
