package podset

import (
	"fmt"
	"time"

	"fairway.dev/fairway/internal/service"
)

// SettleFor is how long after the restart of a kubelet a pod that has only
// become unready counts as ready: two periods of a probe that nobody has
// configured.
const SettleFor = 20 * time.Second

// Settling is the time after a restart of the kubelet in which it may not have
// probed again what it has forgotten. The zero value is a kubelet that was never
// seen to restart.
type Settling struct {
	since   time.Time // it restarted, or was first heard of after that
	unheard bool      // nobody has answered since who would tell what its probes find
}

// Restarted is from when the kubelet was last seen to be gone or back.
func Restarted(at time.Time) Settling { return Settling{since: at} }

// Heard takes in whether a source of pods answers. The time begins when one does:
// while the API server is away too, a kubelet that starts does not know its pods.
func (s Settling) Heard(answers bool, at time.Time) Settling {
	switch {
	case !s.unheard && !s.lasts(at):
	case !answers:
		s.unheard = true
	case s.unheard:
		s = Settling{since: at}
	}
	return s
}

func (s Settling) lasts(at time.Time) bool {
	return s.unheard || !s.since.IsZero() && at.Before(s.since.Add(SettleFor))
}

// Settle holds back the moment of unreadiness that the restart of a kubelet
// brings: it forgets what its probes found, and calls a container that has one
// unready until the probe has run again. One before 1.35 does so with every
// container (KEP-4781). A later one, which remembers, takes a container for ready
// that had run for 10 s when it started itself, if the API server had the pod
// Ready (setReadyStateOnKubeletRestart in pkg/kubelet/prober). So it forgets those
// that have just started, those whose gate was closed, and all of the node if it
// was away until the node's pods were made unready for that.
//
// shown are the pods as they were shown last, by UID, now as they are reported,
// and remembers is whether this is such a later kubelet. A pod that was shown ready
// counts as ready until the kubelet has settled, unless it is leaving or a container
// of it has really stopped.
//
// Restart or not, what was shown and is never taken back stays: that a pod
// terminates or has ended. The source that said so may not name it any more, and
// another that is silent may know it as it was before. For the same reason what
// the API server last said of annotations, ports and gates stays where only a
// kubelet names the pod: its copy may be older, and would take a service off the
// pod that was added since (I1).
//
// It returns the pods to show, and when to look again, zero if there is no need.
func Settle(shown map[string]service.Pod, now []service.Pod, s Settling, at time.Time, remembers bool) ([]service.Pod, time.Time) {
	var again time.Time
	out := make([]service.Pod, 0, len(now))
	for _, pod := range now {
		last := shown[pod.Ref.UID]
		if last.SpecFromAPI && !pod.SpecFromAPI {
			pod = withStatus(last, pod)
			pod.HeldReady = ""
		}
		pod = lasting(pod, last)
		if s.lasts(at) && unreadyOnly(last, pod) && !(remembers && established(last, s.since)) {
			pod.ContainersReady, pod.ContainersReadySince = true, last.ContainersReadySince
			pod.HeldReady = "containers were ready before their kubelet restarted, and have not stopped since; it has not probed them again"
			if !s.unheard {
				again = s.since.Add(SettleFor)
				pod.HeldReady += fmt.Sprintf(", for which it has until %s", again.UTC().Format(time.TimeOnly))
			}
		}
		out = append(out, pod)
	}
	return out, again
}

// unreadyOnly tells whether a pod has only become unready.
func unreadyOnly(shown, pod service.Pod) bool {
	return shown.ContainersReady && !pod.ContainersReady && !pod.Terminating && !pod.Ended() &&
		pod.AllRunning && pod.Restarts == shown.Restarts
}

// established tells whether a kubelet that remembers has no cause to forget a pod:
// it was Ready, and its containers had long been ready when it restarted.
func established(shown service.Pod, restart time.Time) bool {
	return shown.Ready && shown.ContainersReadySince.Before(restart.Add(-SettleFor))
}
