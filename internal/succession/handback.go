package succession

import (
	"fmt"

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
				v.Reason = "katalog-sync has not registered it"
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
		return Kept, "nobody renews katalog-sync's entry", false
	case e.Address != ours.Address || e.Port != ours.Port:
		return Kept, e.elsewhere(ours), false
	case e.Health == "":
		return Kept, "katalog-sync's entry has no check", false
	case rank(e.Health) < rank(ours.Health):
		return Kept, fmt.Sprintf("katalog-sync's entry is %s, and should be %s", e.Health, ours.Health), false
	case in.Yielded[ours.ID]:
		return Yielded, standsIn, false
	}
	held, ok := in.Servers.Held[e.ID]
	switch {
	case in.Servers.Unknown != "":
		return Kept, "the servers have not said whether they hold katalog-sync's entry: " + in.Servers.Unknown, true
	case !ok:
		return Kept, "the servers do not hold katalog-sync's entry yet", true
	case held.Address != ours.Address || held.Port != ours.Port:
		return Kept, "the servers hold katalog-sync's entry with another address or port, for now", true
	case rank(held.Health) < rank(ours.Health):
		return Kept, fmt.Sprintf("the servers hold katalog-sync's entry as %s, and it should be %s", held.Health, ours.Health), true
	}
	return Yielded, standsIn, true
}

// standsIn is why an entry of ours may leave, for Consul's notes too.
const standsIn = "katalog-sync's entry stands in its place"

// elsewhere says where else clients are sent than to ours. What many pods share is
// told of all of them together, so it names an address only if that is what differs.
func (e Entry) elsewhere(ours service.Instance) string {
	if e.Address != ours.Address {
		return fmt.Sprintf("katalog-sync gives address %s, Fairway %s", e.Address, ours.Address)
	}
	return fmt.Sprintf("katalog-sync gives port %d, Fairway %d", e.Port, ours.Port)
}
