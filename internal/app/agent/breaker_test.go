package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// I1, I7: most of a service is said to be gone at once. It stays in service, the
// agent's own pod says why, and a person can let it go.
func TestI1MassRemovalIsFrozen(t *testing.T) {
	inEachWorld(t, massRemovalIsFrozen)
}

func massRemovalIsFrozen(t *testing.T, w *world) {
	self := service.Pod{Ref: service.PodRef{Namespace: "fairway", Name: "agent", UID: "uid-agent"}, Phase: service.PhaseRunning}
	all := map[string]string{}
	for n := range 4 {
		w.kube.set(webPod(n + 1))
		all[fmt.Sprintf("web-%d", n+1)] = api.HealthPassing
	}
	w.kube.set(self)
	w.start()
	w.eventually(all)
	w.registered(4)
	before := w.consul.Index()

	w.kube.change(func() {
		for _, uid := range []string{"uid-1", "uid-2", "uid-3"} {
			delete(w.kube.pods, uid)
			w.kube.gone[uid] = "the watch reported its deletion"
		}
	})
	consultest.Eventually(t, "three removals are frozen", func() error {
		if n := w.metric("fairway_removals_frozen"); n != 3 {
			return fmt.Errorf("%v are", n)
		}
		return nil
	})
	if diff := cmp.Diff(all, w.atServers()); diff != "" {
		t.Errorf("frozen (-want +got):\n%s", diff)
	}
	if after := w.consul.Index(); after != before {
		t.Errorf("frozen: raft index moved from %s to %s", before, after)
	}
	if code, body := w.get("/readyz"); code != 200 || !strings.Contains(body, "3 removals are frozen: 3 of the 4 instances") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	w.eventuallyEvent("Warning agent RemovalsFrozen")

	allow := func(value string) {
		pod := self
		pod.Annotations = map[string]string{allowRemovals: value}
		w.kube.set(pod)
	}
	allow("soon")
	w.eventuallyEvent("Warning agent InvalidAnnotation")
	allow(time.Now().Add(-time.Minute).Format(time.RFC3339))
	if n := w.metric("fairway_removals_frozen"); n != 3 {
		t.Errorf("%v frozen after a permission that is over", n)
	}
	allow(time.Now().Add(time.Hour).Format(time.RFC3339))
	w.eventually(map[string]string{"web-4": api.HealthPassing})
	w.eventuallyEvent("Normal agent RemovalsResumed")
}

func (w *world) eventuallyEvent(want string) {
	w.t.Helper()
	consultest.Eventually(w.t, "the Event "+want, func() error {
		if _, events := w.kube.seen(); !slices.Contains(events, want) {
			return fmt.Errorf("events: %v", events)
		}
		return nil
	})
}

// What is frozen is asked about when its time has come, what was asked before
// included, and the publisher is woken by the answer.
func TestFrozenIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kube := newKubeSide()
		kube.set(webPod(1))
		c := &confirmer{
			source: kube, answer: newTrigger(), wake: newTrigger(), log: slog.New(slog.DiscardHandler),
			metrics: newMetrics(prometheus.NewRegistry()), pulse: process.NewPulse("confirmer", stuckAfter),
			answers: map[string]registration.Answer{},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("confirmer: %v", err)
			}
		}()

		start := time.Now()
		entry := func(n int) registration.Entry {
			return registration.Entry{Instance: service.Instance{Pod: webPod(n).Ref}}
		}
		gone, there := entry(2), entry(1)
		c.await([]registration.Held{{Entry: gone}}, nil) // is not proven gone yet
		time.Sleep(confirmFirst / 2)
		synctest.Wait()
		var frozen []registration.Frozen
		for _, e := range []registration.Entry{gone, there} {
			frozen = append(frozen, registration.Frozen{Op: registration.Op{Instance: e.Instance}, Since: time.Now()})
		}
		asked := time.Now().Add(registration.AskAfter)
		c.await(nil, frozen)
		select {
		case <-c.answer: // of what was held
		default:
		}
		time.Sleep(registration.AskAfter - time.Millisecond)
		synctest.Wait()
		select {
		case <-c.answer:
			t.Fatalf("asked after %s", time.Since(start))
		default:
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		select {
		case <-c.answer:
		default:
			t.Fatal("the publisher was not told of an answer")
		}
		want := map[string]registration.Answer{
			"uid-1": {Asked: asked, Declares: []string{"web"}},
			"uid-2": {Asked: asked, Gone: true},
		}
		if diff := cmp.Diff(want, c.answered()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		c.await(nil, frozen[:1])
		if got := slices.Collect(maps.Keys(c.answered())); !slices.Equal(got, []string{"uid-2"}) {
			t.Errorf("answers that nobody waits for are kept: %v", got)
		}
	})
}

// The kubelet is a witness while it answers, and calls what is about to stop
// not running.
func TestRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, live, base, _ := startPods(t, false)
		must(t, base.Replace([]any{apiPod("1", true, time.Now())}, ""))
		base.Answers()
		if got := n.Running(); got != nil {
			t.Errorf("before the kubelet has answered: %v", got)
		}
		must(t, live.Replace([]any{apiPod("1", true, time.Now()), apiPod("2", false, time.Now())}, ""))
		live.Answers()
		if diff := cmp.Diff(map[string]bool{"1": true, "2": false}, n.Running()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		live.Silent("restarts")
		if got := n.Running(); got != nil {
			t.Errorf("of a silent kubelet: %v", got)
		}
		if got := (&nodePods{base: n.base}).Running(); got != nil {
			t.Errorf("without a kubelet: %v", got)
		}
	})
}
