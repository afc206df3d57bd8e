package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/service"
)

// view asks the agent what it shows to people, in its own words too.
func (w *world) view() (nodeview.View, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+nodeview.Path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		w.t.Fatal(err)
	}
	var v nodeview.View
	if err := json.Unmarshal(body, &v); err != nil {
		w.t.Fatal(err)
	}
	return v, string(body)
}

func (w *world) eventuallyView(what string, done func(nodeview.View) bool) nodeview.View {
	w.t.Helper()
	var v nodeview.View
	consultest.Eventually(w.t, what, func() error {
		var body string
		if v, body = w.view(); !done(v) {
			return fmt.Errorf("the view is %s", body)
		}
		return nil
	})
	return v
}

// TestView: an agent shows what it holds, what the servers say of that, and
// what it would write; at rest that is nothing.
func TestView(t *testing.T) {
	t.Parallel()
	inEachWorld(t, func(t *testing.T, w *world) {
		w.start()
		w.kube.set(webPod(1), service.Pod{Ref: service.PodRef{Namespace: "shop", Name: "silent", UID: "uid-silent"}})
		id := service.InstanceID("web", webPod(1).Ref)
		v := w.eventuallyView("the servers hold the pod", func(v nodeview.View) bool {
			return v.Servers.Health[id] == service.Passing && !v.Plan.Decided.IsZero() && v.Plan.Empty()
		})
		want := nodeview.View{
			Node: "n1", Cluster: "east", Registry: w.registry,
			Pods:    []nodeview.Pod{{Pod: nodeview.Ref(webPod(1).Ref), Health: service.Passing, Notes: "containers are ready"}},
			Entries: []nodeview.Entry{{ID: id, Service: "web", Pod: nodeview.Ref(webPod(1).Ref), Address: "198.18.64.1", Port: 8080, Health: service.Passing}},
			Servers: nodeview.Servers{Health: map[string]service.Health{id: service.Passing}},
		}
		if diff := cmp.Diff(want, v, cmpopts.IgnoreTypes(v.At), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// TestViewOfTrouble: what waits says for what, also here.
func TestViewOfTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.token = w.consul.Token(`agent_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
service_prefix "" { policy = "read" }`)
	w.start()
	w.kube.set(webPod(1))
	v := w.eventuallyView("the registry refuses", func(v nodeview.View) bool { return len(v.Plan.Refused) > 0 })
	write := v.Plan.Writes[0]
	if write.Kind != "register" || write.Reason != "not registered yet" || !strings.Contains(write.Failed, "denied by Consul's ACLs") || write.Tries == 0 {
		t.Errorf("the write that is refused: %+v", write)
	}

	w.consul.Server.Stop()
	w.eventuallyView("the servers are away", func(v nodeview.View) bool { return v.Servers.Problem != "" && !v.Servers.At.IsZero() })
}

// TestI8ViewHoldsNoSecret: the view is for whoever reaches the port.
func TestI8ViewHoldsNoSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	pod := webPod(1)
	pod.Annotations["fairway.dev/service-tags"] = "tag-of-the-user"
	pod.Annotations["fairway.dev/service-meta"] = "key:value-of-the-user"
	pod.Annotations["fairway.dev/service-weights"] = "value-that-is-wrong"
	w.kube.set(pod)
	w.eventuallyCondition(pod.Ref.UID, service.ConditionAnnotations, service.ConditionFalse, "InvalidAnnotation")
	other := webPod(2)
	other.Annotations["fairway.dev/service-tags"], other.Annotations["fairway.dev/service-meta"] = "tag-of-the-user", "key:value-of-the-user"
	w.kube.set(other)
	w.eventually(map[string]string{"web-2": api.HealthPassing})
	_, body := w.view()
	for _, secret := range []string{w.token, "of-the-user", "that-is-wrong"} {
		if strings.Contains(body, secret) {
			t.Errorf("the view holds %q: %s", secret, body)
		}
	}
	if !strings.Contains(body, "uid-2") {
		t.Errorf("the view lacks the pod: %s", body)
	}
}

// What was noted of a drain is kept for as long as its pod counts as one that
// has asked, also if the last word comes late.
func TestRecordForgetsDrains(t *testing.T) {
	r := newRecord()
	for _, uid := range []string{"uid-1", "uid-2"} {
		r.draining(nodeview.Drain{Pod: nodeview.PodRef{UID: uid}})
	}
	r.decided(nil, nil, nodeview.Plan{}, map[string]time.Time{"uid-1": {}})
	var v nodeview.View
	if r.fill(&v); len(v.Drains) != 1 || v.Drains[0].Pod.UID != "uid-1" {
		t.Errorf("drains %+v", v.Drains)
	}
}
