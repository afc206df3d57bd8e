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

// Settle holds back the moment of unreadiness that the restart of a kubelet
// before 1.35 brings: it forgets what its probes found, and calls every
// container that has one unready until the probe has run again (KEP-4781).
//
// shown are the pods as they were shown last, by UID, now as they are reported,
// and restart is when the kubelet was last seen to be gone or back, zero if
// never. A pod that was shown ready counts as ready until SettleFor after the
// restart, unless it is leaving or a container of it has really stopped.
//
// Restart or not, what was shown and is never taken back stays: that a pod
// terminates or has ended. The source that said so may not name it any more, and
// another that is silent may know it as it was before. For the same reason what
// the API server last said of annotations, ports and gates stays where only a
// kubelet names the pod: its copy may be older, and would take a service off the
// pod that was added since (I1).
//
// It returns the pods to show, and when to look again, zero if there is no need.
func Settle(shown map[string]service.Pod, now []service.Pod, restart, at time.Time) ([]service.Pod, time.Time) {
	until := restart.Add(SettleFor)
	settling := !restart.IsZero() && at.Before(until)
	var again time.Time
	out := make([]service.Pod, 0, len(now))
	for _, pod := range now {
		last := shown[pod.Ref.UID]
		if last.SpecFromAPI && !pod.SpecFromAPI {
			pod = withStatus(last, pod)
			pod.HeldReady = ""
		}
		pod = lasting(pod, last)
		if settling && held(last, pod) {
			pod.ContainersReady, pod.ContainersReadySince = true, last.ContainersReadySince
			pod.HeldReady = fmt.Sprintf("containers were ready before their kubelet restarted at %s, and have not stopped since; "+
				"it has until %s to probe them again", restart.UTC().Format(time.TimeOnly), until.UTC().Format(time.TimeOnly))
			again = until
		}
		out = append(out, pod)
	}
	return out, again
}

// held tells whether a pod has only become unready.
func held(shown, pod service.Pod) bool {
	return shown.ContainersReady && !pod.ContainersReady && !pod.Terminating && !pod.Ended() &&
		pod.AllRunning && pod.Restarts == shown.Restarts
}
