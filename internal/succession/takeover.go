package succession

import (
	"fmt"
	"slices"

	"fairway.dev/fairway/internal/service"
)

// TakeOver says how each entry of katalog-sync stands, in the order in which
// they are listed.
func TakeOver(in Input) []Verdict {
	pods := map[service.PodRef][]Pod{}
	for _, pod := range in.Pods {
		name := service.PodRef{Namespace: pod.Pod.Namespace, Name: pod.Pod.Name}
		pods[name] = append(pods[name], pod)
	}
	verdicts := make([]Verdict, 0, len(in.Theirs))
	for _, entry := range in.Theirs {
		verdicts = append(verdicts, entry.verdict(in, pods[entry.Pod]))
	}
	return verdicts
}

func (e Entry) verdict(in Input, pods []Pod) Verdict {
	v := Verdict{ID: e.ID, Service: e.Service, Pod: e.Pod}
	if v.Reason, v.Over = e.over(in, pods); v.Over {
		v.State = Superfluous
		return v
	}
	v.Unproven = len(pods) == 0
	var needless bool
	needless, v.Reason, v.Asks = e.needless(in, pods)
	switch {
	case e.Expired && needless:
		v.State = Superfluous
	case e.Expired:
		v.State = Waiting
	case needless:
		v.State = Covered
	default:
		v.State = Uncovered
	}
	return v
}

// over says what proves that the entry's pod has come to its end. pods are those
// of its name: two, while one life of a pod ends and another begins.
func (e Entry) over(in Input, pods []Pod) (why string, over bool) {
	if len(pods) == 0 {
		proof, gone := in.Gone[e.Pod]
		return "the pod is gone: " + proof, gone
	}
	return "the pod has ended", !slices.ContainsFunc(pods, func(p Pod) bool { return !p.Ended })
}

// needless tells whether clients can do without the entry of a pod that may be
// there, why, and whether the servers have a say in that.
func (e Entry) needless(in Input, pods []Pod) (needless bool, why string, asks bool) {
	if len(pods) == 0 {
		return false, "its pod is not on the list, and nothing proves that it is gone", false
	}
	incomplete := false
	for _, pod := range pods {
		if pod.Ended {
			continue
		}
		incomplete = incomplete || pod.Incomplete
		for _, instance := range pod.Instances {
			if instance.Name == e.Service {
				needless, why := e.replaced(in.Servers, instance)
				return needless, why, true
			}
		}
	}
	switch {
	case incomplete:
		return false, "the pod's annotations are not understood, or it has no address yet", false
	case e.Expired:
		return true, fmt.Sprintf("the pod does not declare service %q", e.Service), false
	}
	return false, fmt.Sprintf("the pod does not declare service %q to Fairway", e.Service), false
}

// replaced tells whether ours stands in the entry's place. While katalog-sync
// renews the entry, ours must be all that clients now have of it; later it is
// only to be as it should.
func (e Entry) replaced(servers Servers, ours service.Instance) (replaced bool, why string) {
	if !e.Expired {
		switch {
		case e.Address != ours.Address || e.Port != ours.Port:
			return false, e.elsewhere(ours)
		case rank(e.Health) > rank(ours.Health):
			return false, fmt.Sprintf("katalog-sync calls it %s, Fairway %s: %s", e.Health, ours.Health, ours.Notes)
		}
	}
	held, ok := servers.Held[ours.ID]
	switch {
	case servers.Unknown != "":
		return false, "the servers have not said whether they hold Fairway's entry: " + servers.Unknown
	case !ok:
		return false, "the servers do not hold Fairway's entry yet"
	case held.Address != ours.Address || held.Port != ours.Port:
		return false, "the servers hold Fairway's entry with another address or port, for now"
	case held.Health != ours.Health:
		return false, fmt.Sprintf("the servers hold Fairway's entry as %s, and it should be %s", held.Health, ours.Health)
	}
	return true, fmt.Sprintf("the servers hold Fairway's entry as %s", held.Health)
}
