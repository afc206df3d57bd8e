package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/lab/workload"
)

// These are the promises: so long after its leader died the export goes on, and after
// it was cut off from Consul, if that lasts and another replica is not.
const (
	takesOverWithin = 5 * time.Second
	handsOverWithin = 40 * time.Second
)

// TestI2ExportOutlivesItsLeader: however its leader ends, what changes right after
// is in Consul within seconds, and it is all that is written.
func TestI2ExportOutlivesItsLeader(t *testing.T) {
	publishServices(t)
	app := workload.App{Namespace: namespace(t), Name: "led"}
	app.Name += app.Namespace[len(namespacePrefix):]
	fleet.createSlice(t, fleet.createService(t, app, app.Name, func(svc *corev1.Service) { svc.Spec.Selector = nil }), "a")
	waitPassing(t, app.Name, 2)

	ready := true
	for _, end := range []struct {
		what   string
		within time.Duration
		end    func(t *testing.T, leader *corev1.Pod)
	}{
		{"its pod is deleted", takesOverWithin, fleet.deleteController},
		{"its container is killed", takesOverWithin, func(t *testing.T, leader *corev1.Pod) { fleet.killControllers(t, leader.Spec.NodeName) }},
		{"its container hangs", takesOverWithin, func(t *testing.T, leader *corev1.Pod) {
			undo, err := fleet.lab.PauseContainer(bounded(t), leader.Spec.NodeName, "controller")
			begun(t, undo, err)
		}},
		{"its node is cut off from Consul", handsOverWithin, func(t *testing.T, leader *corev1.Pod) {
			undo, err := fleet.lab.Partition(bounded(t), []string{leader.Spec.NodeName}, []string{"consul-1", "consul-2", "consul-3"})
			begun(t, undo, err)
		}},
	} {
		t.Run(end.what, func(t *testing.T) {
			fleet.waitControllers(t)
			leader := fleet.waitLeader(t, "")
			before := stands(t, app.Name)
			ended := time.Now()
			end.end(t, leader)
			ready = !ready
			changed := time.Now()
			setReady(t, app, ready)
			now := waitStandings(t, app.Name, "Consul has the change", func(now standings) bool { return changeOf(now) == health(ready) })
			took := time.Since(ended)
			t.Logf("in Consul %s after the end, %s after the change", took.Round(time.Millisecond), time.Since(changed).Round(time.Millisecond))
			if took > end.within {
				t.Errorf("it took %s, want %s", took, end.within)
			}
			before.but(theChanged).untouched(t, app.Name)
			for key, was := range before {
				if is := now[key]; is.Made != was.Made || is.Written != was.Written {
					t.Errorf("%s was written: %+v, before %+v", key, is, was)
				}
			}
		})
	}
	fleet.waitControllers(t) // the one that hung goes on
	before := stands(t, app.Name)
	setReady(t, app, !ready)
	waitStandings(t, app.Name, "Consul has the change", func(now standings) bool { return changeOf(now) == health(!ready) })
	before.but(theChanged).untouched(t, app.Name)
}

// theChanged is whether an entry is that of the endpoint which setReady changes.
func theChanged(s standing) bool { return s.Address == "203.0.113.1" }

// changeOf is the health of that entry.
func changeOf(all standings) string {
	for _, s := range all {
		if theChanged(s) {
			return s.Health
		}
	}
	return ""
}

func health(ready bool) string {
	if ready {
		return api.HealthPassing
	}
	return api.HealthCritical
}

// setReady sets the readiness of an endpoint of the app's Service that has slice a.
func setReady(t *testing.T, app workload.App, ready bool) {
	t.Helper()
	patch := fmt.Sprintf(`[{"op":"add","path":"/endpoints/0/conditions","value":{"ready":%t}}]`, ready)
	_, err := fleet.kube.DiscoveryV1().EndpointSlices(app.Namespace).Patch(bounded(t), app.Name+"-a", types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}
