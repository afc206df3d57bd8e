package podset

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/service"
)

var equal = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

// side draws what one side might say of a few pods.
func side(t *rapid.T, label string) Side {
	uids := rapid.SliceOfDistinct(rapid.IntRange(0, 8), rapid.ID).Draw(t, label)
	s := Side{Live: rapid.Bool().Draw(t, label+" answers")}
	for _, uid := range uids {
		s.Pods = append(s.Pods, Sighting{
			Pod: service.Pod{
				// Three names with three lives each, made at seconds of their own.
				Ref:                  service.PodRef{Namespace: "shop", Name: fmt.Sprint("web-", uid%3), UID: fmt.Sprint("u", uid)},
				Annotations:          map[string]string{"by": label},
				Phase:                rapid.SampledFrom([]service.Phase{service.PhasePending, service.PhaseRunning, service.PhaseFailed}).Draw(t, "phase"),
				Terminating:          rapid.Bool().Draw(t, "terminating"),
				ContainersReady:      rapid.Bool().Draw(t, "ready"),
				ContainersReadySince: at(rapid.IntRange(0, 3).Draw(t, "since")),
			},
			Created: at(uid / 3),
			Seen:    at(rapid.IntRange(0, 9).Draw(t, "seen")),
		})
	}
	return s
}

func byUID(pods []Sighting) map[string]Sighting {
	out := map[string]Sighting{}
	for _, s := range pods {
		out[s.Pod.Ref.UID] = s
	}
	return out
}

// Whatever both sides say: no pod is lost but for a later life of its name,
// none is there twice, and what cannot be taken back is not.
func TestJoinLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kubelet, api := side(t, "kubelet"), side(t, "api")
		if !kubelet.Live { // what it alone knows is asked about: another test
			api.Live = false
		}
		view := Join(kubelet, api)
		k, a := byUID(kubelet.Pods), byUID(api.Pods)
		there := map[string]bool{}
		for _, pod := range view.Pods {
			uid := pod.Ref.UID
			ks, knows := k[uid]
			as, known := a[uid]
			switch {
			case there[uid]:
				t.Fatalf("%s is there twice", uid)
			case !knows && !known:
				t.Fatalf("nobody said that there is %s", uid)
			case pod.Terminating != (ks.Pod.Terminating || as.Pod.Terminating):
				t.Fatalf("%s: terminating %v", uid, pod.Terminating)
			case pod.Ended() != (ks.Pod.Ended() || as.Pod.Ended()):
				t.Fatalf("%s: phase %s", uid, pod.Phase)
			case known && pod.Annotations["by"] != "api":
				t.Fatalf("%s: annotations of the kubelet", uid)
			case knows && (kubelet.Live || !known) && pod.ContainersReady != ks.Pod.ContainersReady:
				t.Fatalf("%s: not what the kubelet says", uid)
			case pod.ContainersReadySince.Before(ks.Pod.ContainersReadySince):
				t.Fatalf("%s: older than what the kubelet said", uid)
			}
			there[uid] = true
		}
		for uid := range view.Replaced {
			if there[uid] {
				t.Fatalf("%s is there and replaced", uid)
			}
			there[uid] = true
		}
		if want := len(k) + len(a) - shared(k, a); len(there) != want {
			t.Fatalf("%d lives are accounted for, want %d", len(there), want)
		}
		if diff := cmp.Diff(view, Join(kubelet, api), equal); diff != "" {
			t.Fatalf("the same again differs:\n%s", diff)
		}
	})
}

func shared(a, b map[string]Sighting) int {
	n := 0
	for uid := range a {
		if _, ok := b[uid]; ok {
			n++
		}
	}
	return n
}

// A kubelet makes statements, and both sides come to know them in order, the
// API server later. Watches break and lag. What is shown of readiness is never
// older than what was shown before, and in the end it is what is true.
func TestJoinNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth := []Sighting{sighting(false, func(s *Sighting) { s.Pod.ContainersReadySince = at(0) })}
		kubelet, api := truth[0], truth[0] // as each side knows it
		kubeletAt, apiAt := 0, 0           // which statement that is
		live, now, shown := true, time.Duration(0), 0
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"flip", "kubelet", "api", "break", "mend"}), 1, 60).Draw(t, "steps")
		steps = append(steps, "mend") // and that is the end of the trouble
		for _, step := range steps {
			now += time.Second
			switch step {
			case "flip":
				last := truth[len(truth)-1].Pod
				last.ContainersReady, last.ContainersReadySince = !last.ContainersReady, at(0).Add(now)
				truth = append(truth, Sighting{Pod: last, Created: at(1)})
			case "kubelet":
				if live && kubeletAt < len(truth)-1 {
					kubeletAt++
				}
			case "api":
				if apiAt < len(truth)-1 {
					apiAt++
				}
			case "break":
				live = false
			case "mend": // with a list of how things are
				live, kubeletAt = true, len(truth)-1
			}
			if kubelet.Pod.ContainersReadySince != truth[kubeletAt].Pod.ContainersReadySince {
				kubelet = truth[kubeletAt]
				kubelet.Seen = at(0).Add(now)
			}
			if api.Pod.ContainersReadySince != truth[apiAt].Pod.ContainersReadySince {
				api = truth[apiAt]
				api.Seen = at(0).Add(now)
			}
			pod := Join(Side{Live: live, Pods: []Sighting{kubelet}}, Side{Live: true, Pods: []Sighting{api}}).Pods[0]
			is := 0
			for truth[is].Pod.ContainersReadySince != pod.ContainersReadySince {
				is++
			}
			if pod.ContainersReady != truth[is].Pod.ContainersReady {
				t.Fatalf("after %s: statement %d with the readiness of another", step, is)
			}
			// A kubelet that answers may lag behind its own API server for as long
			// as an event takes; it is heard nevertheless.
			if is < min(shown, kubeletAt) || !live && is < max(kubeletAt, apiAt) {
				t.Fatalf("after %s: statement %d is shown, after %d; the kubelet's is %d, the API server's %d", step, is, shown, kubeletAt, apiAt)
			}
			shown = is
		}
		if shown != len(truth)-1 {
			t.Fatalf("in the end statement %d of %d is shown", shown, len(truth)-1)
		}
	})
}
