package nodes

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/nodelease"
)

func all(string) bool  { return true }
func none(string) bool { return false }

func nodeNamed(name string, change ...func(*corev1.Node)) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-1"}}
	node.Kind, node.APIVersion = "Node", "v1"
	for _, c := range change {
		c(node)
	}
	return node
}

func leaseRenewed(name string, at time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       coordinationv1.LeaseSpec{RenewTime: new(metav1.NewMicroTime(at)), LeaseDurationSeconds: new(int32(20))},
	}
}

func feed(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

// What watches and lists bring is what is shown; nothing is before both lists
// have come.
func TestView(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New(nil)
		nodes, leases := (*nodeStore)(s), (*leaseStore)(s)
		feed(t, nodes.Replace([]any{nodeNamed("n1"), nodeNamed("n2")}, ""))
		if s.View(all, time.Now()).Synced {
			t.Error("synced without the Leases")
		}
		start := time.Now()
		feed(t, leases.Replace([]any{leaseRenewed("n1", start.Add(-time.Hour)), leaseRenewed("n2", start)}, ""),
			leases.Add(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n3"}}))
		time.Sleep(5 * time.Second)
		feed(t, nodes.Add(nodeNamed("n3", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService}}
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
		})), nodes.Delete(nodeNamed("n2")), leases.Update(leaseRenewed("n1", time.Now())), leases.Delete(leaseRenewed("n1", start)))
		feed(t, leases.Replace(nil, "")) // which may be a lie

		got := s.View(all, time.Now())
		want := View{Synced: true, Observed: true, News: time.Now(), Nodes: map[string]nodelease.Node{
			// Its clock may be an hour wrong: what counts is when the renewal was seen.
			"n1": {Name: "n1", Listed: true, Kubelet: nodelease.Kubelet{Heard: time.Now(), Promise: 20 * time.Second}},
			"n3": {Name: "n3", Listed: true, OutOfService: true, Lost: true},
		}}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(nodelease.Agent{})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, stranger := range []any{&corev1.Pod{}, &corev1.Node{}, &coordinationv1.Lease{}, nil} {
			if nodes.Update(stranger) == nil || leases.Update(stranger) == nil {
				t.Errorf("%T was taken in", stranger)
			}
		}
	})
}

// A change is told of; a sign of life is none.
func TestChanged(t *testing.T) {
	t.Parallel()
	s := New(nil)
	told := func() bool {
		select {
		case <-s.Changed():
			return true
		default:
			return false
		}
	}
	for _, step := range []struct {
		what string
		do   func() error
		want bool
	}{
		{"a list", func() error { return (*nodeStore)(s).Replace([]any{nodeNamed("n1")}, "") }, true},
		{"the first Leases", func() error { return (*leaseStore)(s).Replace([]any{leaseRenewed("n1", time.Now())}, "") }, true},
		{"a renewal", func() error { return (*leaseStore)(s).Update(leaseRenewed("n1", time.Now())) }, false},
		{"a heartbeat", func() error { return (*nodeStore)(s).Update(nodeNamed("n1")) }, false},
		{"a taint", func() error {
			return (*nodeStore)(s).Update(nodeNamed("n1", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService}} }))
		}, true},
		{"a deletion", func() error { return (*nodeStore)(s).Delete(nodeNamed("n1")) }, true},
	} {
		feed(t, step.do())
		if got := told(); got != step.want {
			t.Errorf("%s: told %v", step.what, got)
		}
	}
}

// That there is no such Node is the API server's own word, or not known.
func TestI1ConfirmNeedsTheServersWord(t *testing.T) {
	t.Parallel()
	notFound := func(resource, name string) metav1.Status {
		status := apierrors.NewNotFound(corev1.Resource(resource), name).Status()
		status.Kind, status.APIVersion = "Status", "v1"
		return status
	}
	for name, tt := range map[string]struct {
		code    int
		answer  any
		deleted bool
		fails   bool
	}{
		"no such node":       {http.StatusNotFound, notFound("nodes", "n1"), true, false},
		"the node":           {http.StatusOK, nodeNamed("n1"), false, false},
		"another node":       {http.StatusOK, nodeNamed("n2"), false, true},
		"no other node":      {http.StatusNotFound, notFound("nodes", "n2"), false, true},
		"no such pod":        {http.StatusNotFound, notFound("pods", "n1"), false, true},
		"a proxy's page":     {http.StatusNotFound, "not here", false, true},
		"a server's failure": {http.StatusInternalServerError, "", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/v1/nodes/n1" || r.URL.RawQuery != "" {
					t.Errorf("asked for %s", r.URL)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tt.code)
				_ = json.NewEncoder(w).Encode(tt.answer)
			}))
			defer server.Close()
			client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			s := New(client)
			deleted, err := s.Confirm(t.Context(), "n1")
			if deleted != tt.deleted || (err != nil) != tt.fails {
				t.Fatalf("deleted %v, %v", deleted, err)
			}
			if shown := !s.View(all, time.Now()).Nodes["n1"].Deleted.IsZero(); shown != tt.deleted {
				t.Errorf("shown as deleted: %v", shown)
			}
			if !tt.deleted {
				return
			}
			if shown := s.View(none, time.Now()).Nodes; len(shown) != 0 {
				t.Errorf("nobody asks for it any more: %v", shown)
			}
			if _, err := s.Confirm(t.Context(), "n1"); err != nil {
				t.Fatal(err)
			}
			feed(t, (*nodeStore)(s).Add(nodeNamed("n1")))
			if node := s.View(all, time.Now()).Nodes["n1"]; !node.Listed || !node.Deleted.IsZero() {
				t.Errorf("made again: %+v", node)
			}
			if deleted, err := s.Confirm(t.Context(), "n1"); deleted || err != nil {
				t.Errorf("the watch has seen it: %v, %v", deleted, err)
			}
		})
	}
}
