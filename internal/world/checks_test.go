package world_test

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/drain"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// checkAlways holds after every step.
func (w *world) checkAlways() {
	for id, was := range w.foreign {
		if now := w.registry.held[id]; now.index != was.index {
			w.t.Fatalf("I5: %s is not ours and was changed: %+v, was %+v", id, now, was)
		}
	}
	for id := range w.out {
		// Of an ID that somebody else has taken over the servers may learn later,
		// and it is not ours to take out (I5).
		if e, ok := w.registry.servers[id]; ok && passing(e.Entry) && own(e.Entry) {
			w.t.Fatalf("I4: the pod of %s was told that it may stop, and clients are given it: %+v", id, e)
		}
	}
}

// checkPlan holds for every plan.
func (w *world) checkPlan(in registration.Input, plan registration.Plan) {
	leaves := map[string]bool{}
	for _, op := range plan.Ops {
		id, seen := op.Instance.ID, w.agent.view[op.Instance.ID]
		if op.Reason == "" {
			w.t.Fatalf("I7: %s of %s has no reason", op.Kind, id)
		}
		if seen.index > 0 && !own(seen.Entry) {
			w.t.Fatalf("I5: %s of %s, which is not ours: %+v", op.Kind, id, seen.Entry)
		}
		critical := op.Instance.Health == service.Critical
		leaves[id] = leaves[id] || critical
		switch {
		case op.Kind == registration.Deregister && !(seen.HasCheck && seen.Instance.Health == service.Critical):
			w.t.Fatalf("I4: deregister %s, which was last seen as %+v", id, seen.Entry)
		case op.Kind == registration.Deregister && !w.givenUp(op.Instance, seen.Entry):
			w.t.Fatalf("I1: deregister %s (%s): its pod lives and wants it", id, op.Reason)
		case critical && seen.HasCheck && seen.Instance.Health != service.Critical && !w.givenUp(op.Instance, seen.Entry) && !w.saidUnfit(op.Instance):
			w.t.Fatalf("I1: %s turns critical (%s), and nobody says that its pod should", id, op.Reason)
		}
	}
	for _, pod := range in.Claims {
		_, gone := in.Gone[pod.Pod.UID]
		if !gone && !pod.Ended && !pod.Terminating {
			continue
		}
		for id, e := range w.agent.view {
			if own(e.Entry) && e.Instance.Pod == pod.Pod && e.HasCheck && e.Instance.Health != service.Critical && !leaves[id] {
				w.t.Fatalf("I4: the pod of %s leaves, and the entry stays in service", id)
			}
		}
	}
}

// givenUp tells whether the pod of an instance is really over, or does not want
// the instance any more as far as anybody has said: the API server, and the
// kubelet about a pod of which that has said nothing. entry is how the registry
// holds it.
func (w *world) givenUp(in service.Instance, entry registration.Entry) bool {
	pod := w.node.pods[in.Pod.UID]
	switch {
	case pod == nil || w.node.over[in.Pod.UID] || w.node.done[in.Pod.UID] || ended(pod):
		return pod != nil
	}
	told := w.told(in.Pod.UID)
	if word, ok := w.agent.word[in.Pod.UID]; ok {
		word.Addresses = kube.Pod(pod).Addresses
		told = []service.Pod{word}
	}
	for _, now := range told {
		if want := registration.Want(now, annotation.Parse(now), cluster, nodeName, 0); !want.Incomplete && !w.keeps(want, in, entry) {
			return true
		}
	}
	return false
}

// keeps tells whether a pod wants an instance, or the same service under an ID
// that is not in service yet while this one is.
func (w *world) keeps(want registration.Claim, in service.Instance, entry registration.Entry) bool {
	return slices.ContainsFunc(want.Instances, func(i service.Instance) bool {
		if i.ID == in.ID {
			return true
		}
		other := w.agent.view[i.ID]
		serves := own(other.Entry) && other.HasCheck && other.Instance.Health == i.Health
		return i.Name == in.Name && entry.Instance.Health != service.Critical && i.Health != service.Critical && !serves
	})
}

// saidUnfit tells whether somebody says, or has said and cannot take back, that
// the instance is not to serve.
func (w *world) saidUnfit(in service.Instance) bool {
	if w.agent.left[in.Pod.UID] {
		return true
	}
	for _, now := range append(w.told(in.Pod.UID), w.agent.shown[in.Pod.UID]) {
		parsed := annotation.Parse(now)
		want := registration.Want(now, parsed, cluster, nodeName, 0)
		if fixed, ok := parsed.Fixed.For(in.Name); want.Health == service.Critical || ok && fixed == service.Critical {
			return true
		}
	}
	return false
}

// told is what the sources say of a pod.
func (w *world) told(uid string) []service.Pod {
	var pods []service.Pod
	for _, s := range []*source{w.api, w.kubelet} {
		for _, sighting := range s.store.State().Pods {
			if sighting.Pod.Ref.UID == uid {
				pods = append(pods, sighting.Pod)
			}
		}
	}
	return pods
}

// checkGate holds for every verdict on a gate.
func (w *world) checkGate(in gate.Input, q question, v gate.Verdict) {
	uid := in.Pod.Ref.UID
	if !in.Pod.Gated() {
		return
	}
	shows := in.Pod.Conditions[service.GateReachable].Status == service.ConditionTrue
	switch {
	case !shows && (v.Reason == "" || v.Message == ""):
		w.t.Fatalf("I7: a verdict on pod %s without reason: %+v", uid, v)
	case shows && !v.Open:
		w.t.Fatalf("I3: the open gate of pod %s is closed: %+v", uid, v)
	case w.opened[uid] && !v.Open && !w.agent.opened[uid] && w.api.answers:
		w.t.Fatalf("I3: the gate of pod %s was opened, and would be closed: %+v", uid, v)
	case shows || !v.Open:
		return
	}
	if len(in.Declared.Instances) == 0 || len(in.Declared.Instances) < len(in.Declared.Services) || len(in.Declared.Errors) > 0 {
		w.t.Fatalf("I3: the gate of pod %s opens, and not all that it declares is understood", uid)
	}
	for _, instance := range in.Declared.Instances {
		if !q.served[instance.ID] || q.proofs[instance.ID].Finding != gate.Passing || in.Now.Sub(q.at) > gate.Fresh {
			w.t.Fatalf("I3: the gate of pod %s opens without proof of %s", uid, instance.ID)
		}
	}
}

// checkDrain holds for every verdict on a pod that wants to stop.
func (w *world) checkDrain(uid string, v drain.Verdict) {
	switch {
	case v.Reason == "" || v.Message == "":
		w.t.Fatalf("I7: a verdict on leaving pod %s without reason: %+v", uid, v)
	case v.Reason != drain.OutOfService:
		return
	}
	for _, in := range w.agent.standing[uid].Instances {
		w.out[in.ID] = true
	}
	w.checkAlways()
}

// checkRest holds when a quiet world has come to rest.
func (w *world) checkRest() {
	index := w.registry.index
	plan := w.pass()
	if len(plan.Ops) > 0 || w.registry.index != index {
		w.t.Fatalf("I6: writes at rest: %+v", plan.Ops)
	}
	wanted := map[string]bool{}
	for _, replaced := range plan.Replaced {
		// It stays only where what is to follow it can never be.
		wanted[replaced.Entry.Instance.ID] = len(plan.Refused) > 0
	}
	for _, uid := range w.node.uids() {
		if w.node.over[uid] || w.node.done[uid] || ended(w.node.pods[uid]) {
			continue
		}
		pod := kube.Pod(w.node.pods[uid])
		pod.Terminating = pod.Terminating || w.agent.left[uid]
		parsed := annotation.Parse(pod)
		want := registration.Want(pod, parsed, cluster, nodeName, w.checkTTL())
		for _, in := range want.Instances {
			wanted[in.ID] = true
			w.checkEntry(in, want)
		}
		w.checkOpen(pod, parsed)
	}
	for _, id := range slices.Sorted(maps.Keys(w.registry.held)) {
		e := w.registry.held[id]
		uid := e.Instance.Pod.UID
		if pod := w.node.pods[uid]; own(e.Entry) && pod != nil && !wanted[id] && w.givenUp(e.Instance, e.Entry) {
			w.t.Fatalf("I6: %s is still there at rest: %+v", id, e.Entry)
		}
	}
}

// checkEntry compares what a pod asks for with what clients are given.
func (w *world) checkEntry(in service.Instance, want registration.Claim) {
	have, exists := w.registry.servers[in.ID]
	switch {
	case exists && !own(have.Entry), !exists && want.Terminating:
		return // it is refused, or not worth registering any more
	case !exists:
		w.t.Fatalf("%s is missing at rest", in.ID)
	}
	if diff := cmp.Diff(in, have.Instance, cmpopts.IgnoreFields(service.Instance{}, "Notes"), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		w.t.Fatalf("%s at rest (-want +have):\n%s", in.ID, diff)
	}
}

// checkOpen holds for the gate of a live pod at rest: it is open if nothing is
// in its way, and else the verdict stays as it is.
func (w *world) checkOpen(pod service.Pod, parsed annotation.Result) {
	health, _ := pod.Status()
	fit := pod.Gated() && !pod.Terminating && health == service.Passing && len(parsed.Errors) == 0 && len(parsed.Services) > 0
	for _, in := range parsed.Instances {
		fixed, ok := parsed.Fixed.For(in.Name)
		e, exists := w.registry.servers[in.ID]
		fit = fit && (!ok || fixed == service.Passing) && (!exists || own(e.Entry))
	}
	shows := pod.Conditions[service.GateReachable].Status == service.ConditionTrue
	if fit && !shows {
		w.t.Fatalf("pod %s is ready and its gate is closed at rest: %+v", pod.Ref.UID, gate.Decide(w.gateInput(pod)))
	}
	in := w.gateInput(pod)
	now := gate.Decide(in)
	in.Attempts, in.Now = in.Attempts+5, in.Now.Add(gate.Fresh*2)
	if later := gate.Decide(in); later.Reason != now.Reason || later.Message != now.Message {
		w.t.Fatalf("I6: the verdict on pod %s changes at rest: %+v, then %+v", pod.Ref.UID, now, later)
	}
}
