// Package podset decides what is known of a node's pods when two sources tell
// of them: the node's kubelet, which knows how they are, and the API server,
// which knows how they should be. It is pure.
//
// [Join] makes one picture of the two. Who is believed:
//
//	which pods there are       both; but what only a kubelet knows that is silent has to be asked about
//	annotations, ports, gates  the API server, where it knows the pod or has known it
//	readiness, addresses,      the kubelet while it answers; else whose word is newer
//	phase
//	that a pod terminates or   either: neither is ever taken back
//	has ended
//
// Annotations are the API server's because the kubelet's copy cannot be put in
// order: it is delivered only along with a change of status, and under the
// resource version at which the kubelet first saw the pod. Conditions that the
// kubelet does not own, gates among them, are written through the API server.
//
// [Settle] holds back the moment of unreadiness that the restart of a
// kubelet brings, and keeps what is not to be lost because a list lacks a pod.
package podset

import (
	"cmp"
	"slices"
	"time"

	"fairway.dev/fairway/internal/service"
)

// Sighting is what one source says of one life of a pod.
type Sighting struct {
	Pod service.Pod
	// Created is when the API server made the pod, in seconds.
	Created time.Time
	// Seen is when the source last told something new of the pod.
	Seen time.Time
}

// Side is what one source says of the node's pods.
type Side struct {
	// Live is true while the source answers, and so would have told what has
	// changed.
	Live bool
	Pods []Sighting // each UID once
	// Gone says, by UID, what proves that a pod is over. It is to be kept for
	// as long as the other side names the pod: that one may have fallen silent
	// before, and would bring it back.
	Gone map[string]string
}

// View is what is known of the node's pods.
type View struct {
	// Pods are in the order of namespace, name and UID, each UID once. Two
	// lives of one name may both be there.
	Pods []service.Pod
	// Replaced says, by UID, why a pod no longer exists: the other side knows a
	// later life under its name. They are not in Pods, and neither is what a
	// side knows to be gone.
	Replaced map[string]string
}

// Join makes one picture of what both sides say. Either may be empty. A pod
// that only a silent kubelet knows, while the API server answers and does not
// name it, may have been deleted while nobody watched. It is left out: that
// proves nothing, and so has the API server asked about it (I1).
func Join(kubelet, api Side) View {
	byUID := map[string]Sighting{}
	latest := map[string]Sighting{} // by namespace/name: the last life that either side knows
	note := func(s Sighting) {
		name := s.Pod.Ref.String()
		if last, ok := latest[name]; !ok || s.Created.After(last.Created) {
			latest[name] = s
		}
	}
	for _, s := range api.Pods {
		s.Pod.SpecFromAPI = true
		byUID[s.Pod.Ref.UID] = s
		note(s)
	}
	for _, s := range kubelet.Pods {
		uid := s.Pod.Ref.UID
		if other, both := byUID[uid]; both {
			other.Pod = joined(s, other, kubelet.Live)
			byUID[uid] = other
			continue
		}
		if kubelet.Live || !api.Live {
			byUID[uid] = s
			note(s)
		}
	}

	view := View{Replaced: map[string]string{}}
	for uid, s := range byUID {
		if kubelet.Gone[uid] != "" || api.Gone[uid] != "" {
			continue
		}
		// Of two lives made in the same second nobody knows which is the later.
		if latest[s.Pod.Ref.String()].Created.After(s.Created) {
			view.Replaced[uid] = "another pod has its name"
			continue
		}
		view.Pods = append(view.Pods, s.Pod)
	}
	slices.SortFunc(view.Pods, func(a, b service.Pod) int {
		return cmp.Or(cmp.Compare(a.Ref.String(), b.Ref.String()), cmp.Compare(a.Ref.UID, b.Ref.UID))
	})
	return view
}

// joined is one life that both sides know.
func joined(kubelet, api Sighting, live bool) service.Pod {
	status := kubelet.Pod
	switch {
	case live:
	case kubelet.Seen.Before(api.Seen):
		status = Newer(kubelet.Pod, api.Pod)
	default:
		status = Newer(api.Pod, kubelet.Pod)
	}
	return lasting(lasting(withStatus(api.Pod, status), kubelet.Pod), api.Pod)
}

// Newer is the newer of two statements of one life, got being the one that came
// later. What comes later is not always newer, because reports can overtake
// each other. But one kubelet makes them all, and says since when the
// containers are, or are not, ready.
func Newer(have, got service.Pod) service.Pod {
	if got.ContainersReadySince.Before(have.ContainersReadySince) {
		return lasting(withStatus(got, have), got)
	}
	return lasting(got, have)
}

// withStatus is pod with the status of from.
func withStatus(pod, from service.Pod) service.Pod {
	pod.Terminating = from.Terminating
	pod.Phase = from.Phase
	pod.Addresses = from.Addresses
	pod.Containers, pod.AllRunning, pod.Restarts = from.Containers, from.AllRunning, from.Restarts
	pod.ContainersReady = from.ContainersReady
	pod.ContainersReadySince = from.ContainersReadySince
	pod.NotReadyMessage = from.NotReadyMessage
	return pod
}

// lasting is pod with what other says and what is never taken back: that the
// pod terminates or has ended, and that it has an address.
func lasting(pod, other service.Pod) service.Pod {
	pod.Terminating = pod.Terminating || other.Terminating
	if other.Ended() && !pod.Ended() {
		pod.Phase = other.Phase
	}
	if len(pod.Addresses) == 0 {
		pod.Addresses = other.Addresses
	}
	return pod
}
