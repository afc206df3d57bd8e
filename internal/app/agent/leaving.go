package agent

import (
	"maps"
	"slices"
	"time"

	"fairway.dev/fairway/internal/drain"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// leaveFor bounds how long a pod stays out of service because it asked to, if
// its deletion is never seen. It is longer than a pod is given to stop.
const leaveFor = 15 * time.Minute

// leavers are the pods that are out of service because they asked to be: a pod
// runs its preStop hook when its deletion has begun, and may be heard before
// the watch shows that. Whoever asked and was not deleted comes back, because
// its containers have been started anew, or in time.
func (p *publisher) leavers(pods []service.Pod, now time.Time) map[string]bool {
	asked := p.board.leavers()
	left := map[string]bool{}
	for _, pod := range pods {
		since, ok := asked[pod.Ref.UID]
		if !ok {
			continue
		}
		restarted := pod.ContainersReady && pod.ContainersReadySince.After(since)
		left[pod.Ref.UID] = pod.Terminating || !restarted && now.Sub(since) < leaveFor
	}
	for uid, since := range asked {
		if stays, known := left[uid]; known && !stays || !known && now.Sub(since) >= leaveFor {
			p.board.stays(uid)
		}
	}
	return left
}

// leaving is how the pods that leave stand in the registry, by UID: as this
// pass has decided from. What a pod has here as out of service was written
// before, and nothing that is under way can bring it back.
func (p *publisher) leaving(pods []registration.Claim) map[string]drain.Standing {
	found := map[string]drain.Standing{}
	var all map[string]belongings // made once: a node may be emptied all at once
	for _, pod := range pods {
		if !pod.Terminating {
			continue
		}
		if all == nil {
			all = p.belongings()
		}
		found[pod.Pod.UID] = p.standing(pod, all[pod.Pod.UID])
	}
	return found
}

// belongings are what the registry holds of a pod and what is being written.
type belongings struct {
	entries []registration.Entry
	writes  []registration.Op
}

// belongings are those of all pods, by UID.
func (p *publisher) belongings() map[string]belongings {
	all := map[string]belongings{}
	for _, entry := range p.own(maps.Values(p.view)) {
		uid := entry.Instance.Pod.UID
		of := all[uid]
		of.entries = append(of.entries, entry)
		all[uid] = of
	}
	for _, id := range slices.Sorted(maps.Keys(p.writes.underway)) {
		op := p.writes.underway[id]
		of := all[op.Instance.Pod.UID]
		of.writes = append(of.writes, op)
		all[op.Instance.Pod.UID] = of
	}
	return all
}

func (p *publisher) standing(pod registration.Claim, has belongings) drain.Standing {
	s := drain.Standing{InService: map[string]string{}}
	seen := map[string]bool{}
	add := func(instance service.Instance, inService bool) {
		id := instance.ID
		if !seen[id] {
			seen[id] = true
			s.Instances = append(s.Instances, instance)
		}
		op, busy := p.writes.underway[id]
		failed := p.writes.failures[id]
		switch {
		case busy && op.Kind != renew:
			s.InService[id] = "being written"
		case failed != nil && (inService || p.doubt): // in doubt it may be in service, whatever was seen before
			s.InService[id] = failed.reason
		case inService:
			s.InService[id] = "about to be written"
		}
	}
	for _, entry := range has.entries {
		add(entry.Instance, entry.InService())
	}
	for _, instance := range pod.Instances {
		add(instance, false)
	}
	// Clients may be given an entry before its registration is done here.
	for _, op := range has.writes {
		add(op.Instance, false)
	}
	return s
}
