package succession

import (
	"fmt"
	"net/netip"
	"strconv"

	"fairway.dev/fairway/internal/service"
)

// HandBack says how each instance that Fairway publishes stands, in the order in
// which the pods list them. What is Yielded is not to be published.
func HandBack(in Input) []Verdict {
	theirs := make(map[string]Entry, len(in.Theirs))
	for _, entry := range in.Theirs {
		theirs[entry.ID] = entry
	}
	var verdicts []Verdict
	for _, pod := range in.Pods {
		if pod.Ended {
			continue
		}
		for _, instance := range pod.Instances {
			v := Verdict{ID: instance.ID, Service: instance.Name, Pod: pod.Pod, State: Kept}
			entry, ok := theirs[EntryID(instance.Name, pod.Pod)]
			switch {
			case !ok:
				v.Reason = "katalog-sync has not registered " + EntryID(instance.Name, pod.Pod)
			case pod.Waits:
				v.Reason = "the pod waits for a gate that opens on Fairway's entry alone"
			default:
				v.State, v.Reason, v.Asks = entry.follows(instance, in)
			}
			verdicts = append(verdicts, v)
		}
	}
	return verdicts
}

// follows decides whether an entry of katalog-sync stands in the place of ours,
// why, and whether the servers have a say in that.
func (e Entry) follows(ours service.Instance, in Input) (state State, why string, asks bool) {
	switch {
	case e.Expired:
		return Kept, "nobody renews " + e.ID, false
	case e.Address != ours.Address || e.Port != ours.Port:
		return Kept, fmt.Sprintf("katalog-sync gives %s, Fairway %s", at(e.Address, e.Port), at(ours.Address, ours.Port)), false
	case e.Health == "":
		return Kept, e.ID + " has no check", false
	case rank(e.Health) < rank(ours.Health):
		return Kept, fmt.Sprintf("%s is %s, and should be %s", e.ID, e.Health, ours.Health), false
	case in.Yielded[ours.ID]:
		return Yielded, e.ID + " stands in its place", false
	}
	held, ok := in.Servers.Held[e.ID]
	switch {
	case in.Servers.Unknown != "":
		return Kept, "the servers have not said whether they hold " + e.ID + ": " + in.Servers.Unknown, true
	case !ok:
		return Kept, "the servers do not hold " + e.ID + " yet", true
	case held.Address != ours.Address || held.Port != ours.Port:
		return Kept, fmt.Sprintf("the servers give %s for %s instead of %s",
			at(held.Address, held.Port), e.ID, at(ours.Address, ours.Port)), true
	case rank(held.Health) < rank(ours.Health):
		return Kept, fmt.Sprintf("the servers hold %s as %s, and it should be %s", e.ID, held.Health, ours.Health), true
	}
	return Yielded, e.ID + " stands in its place", true
}

// at is where clients are sent.
func at(address netip.Addr, port uint16) string {
	if !address.IsValid() {
		return "no address"
	}
	return address.String() + " port " + strconv.Itoa(int(port))
}
