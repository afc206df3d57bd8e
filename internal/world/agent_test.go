package world_test

import (
	"errors"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/drain"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/podset"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

const (
	cluster  = "c1"
	nodeName = "n1"
)

// agent is all that one process remembers. A new process has an empty one.
type agent struct {
	shown    map[string]service.Pod // by UID, as they were shown last
	word     map[string]service.Pod // by UID, as the API server last told of those shown
	settling podset.Settling        // since the kubelet's last restart
	view     map[string]record      // nil if the registry is not known
	doubt    bool                   // a write failed since the registry was looked at
	unheard  map[string]bool        // by instance ID: whose write that was
	underway map[string]*write      // by instance ID: one at a time
	left     map[string]bool        // UIDs of pods that asked to be taken out
	standing map[string]drain.Standing
	opened   map[string]bool // UIDs whose gate this process has opened
}

// write is an op on its way.
type write struct {
	op     registration.Op
	seen   int // the index at which its entry was seen
	landed bool
	err    error // once it has landed
	index  int   // of the entry then
}

// question is what the servers answered about a pod.
type question struct {
	proofs map[string]gate.Proof
	served map[string]bool // what they really gave to clients then, by instance ID
	at     time.Time
}

func newAgent() *agent {
	return &agent{
		shown: map[string]service.Pod{}, word: map[string]service.Pod{}, unheard: map[string]bool{}, underway: map[string]*write{}, left: map[string]bool{},
		standing: map[string]drain.Standing{}, opened: map[string]bool{},
	}
}

// snapshot is what the agent knows of the pods, and whether it may decide.
func (w *world) snapshot() (pods []service.Pod, gone map[string]string, synced bool) {
	api, kubelet := w.api.store.State(), w.kubelet.store.State()
	for _, s := range api.Pods {
		w.agent.word[s.Pod.Ref.UID] = s.Pod
	}
	view := podset.Join(kubelet.Side, api.Side)
	w.agent.settling = w.agent.settling.Heard(api.Live || kubelet.Live, w.node.clock)
	pods, _ = podset.Settle(w.agent.shown, view.Pods, w.agent.settling, w.node.clock, kubelet.Live)
	before := w.agent.shown
	w.agent.shown = map[string]service.Pod{}
	for _, pod := range pods {
		if was := before[pod.Ref.UID]; was.Terminating && !pod.Terminating || was.Ended() && !pod.Ended() {
			w.t.Fatalf("pod %s was shown as leaving and is taken back", pod.Ref.UID)
		}
		w.agent.shown[pod.Ref.UID] = pod
	}
	maps.DeleteFunc(w.agent.word, func(uid string, _ service.Pod) bool { _, shown := w.agent.shown[uid]; return !shown })
	keep := map[string]bool{}
	for _, e := range w.agent.view {
		keep[e.Instance.Pod.UID] = true
	}
	for _, side := range []podset.Side{api.Side, kubelet.Side} {
		for _, s := range side.Pods {
			keep[s.Pod.Ref.UID] = true
		}
	}
	gone = maps.Clone(view.Replaced)
	maps.DeleteFunc(gone, func(uid, _ string) bool { return !keep[uid] })
	maps.Copy(gone, w.api.store.Gone(keep))
	maps.Copy(gone, w.kubelet.store.Gone(keep))
	return pods, gone, api.Synced || kubelet.Synced
}

// look observes the registry, unless writes are under way, which a look would
// see in part.
func (w *world) look() {
	if len(w.agent.underway) == 0 {
		w.agent.view, w.agent.doubt = maps.Clone(w.registry.held), false
		clear(w.agent.unheard)
	}
}

// pass decides and starts the writes. It returns the plan.
func (w *world) pass() registration.Plan {
	pods, gone, synced := w.snapshot()
	if w.agent.doubt {
		w.look()
	}
	if !synced || w.agent.view == nil {
		return registration.Plan{}
	}
	in := registration.Input{Cluster: cluster, Node: nodeName, Gone: gone}
	for _, id := range slices.Sorted(maps.Keys(w.agent.view)) {
		in.Entries = append(in.Entries, w.agent.view[id].Entry)
	}
	for _, pod := range pods {
		pod.Terminating = pod.Terminating || w.agent.left[pod.Ref.UID]
		in.Claims = append(in.Claims, registration.Want(pod, annotation.Parse(pod), cluster, nodeName, w.checkTTL()))
	}
	plan := registration.Decide(in)
	w.checkPlan(in, plan)
	planned := map[string]bool{}
	for _, op := range plan.Ops {
		id := op.Instance.ID
		doubtful := op.Kind == registration.Deregister && w.agent.doubt
		if w.agent.underway[id] == nil && !planned[id] && !doubtful {
			w.agent.underway[id] = &write{op: op, seen: w.agent.view[id].index}
		}
		planned[id] = true
	}
	w.agent.standing = w.standings(in.Claims)
	return plan
}

// checkTTL is the dead-man of entries; the servers have none.
func (w *world) checkTTL() time.Duration {
	if w.registry.catalog {
		return 0
	}
	return time.Hour
}

// standings are how the pods that leave stand in the registry.
func (w *world) standings(pods []registration.Claim) map[string]drain.Standing {
	standings := map[string]drain.Standing{}
	for _, pod := range pods {
		if !pod.Terminating {
			continue
		}
		s := drain.Standing{InService: map[string]string{}}
		seen := map[string]bool{}
		add := func(in service.Instance, inService bool) {
			if !seen[in.ID] {
				seen[in.ID] = true
				s.Instances = append(s.Instances, in)
			}
			if inService || w.agent.underway[in.ID] != nil || w.agent.unheard[in.ID] {
				s.InService[in.ID] = "not written yet"
			}
		}
		for _, id := range slices.Sorted(maps.Keys(w.agent.view)) {
			if e := w.agent.view[id]; own(e.Entry) && e.Instance.Pod.UID == pod.Pod.UID {
				add(e.Instance, !e.HasCheck || e.Instance.Health != service.Critical)
			}
		}
		for _, in := range pod.Instances {
			add(in, false)
		}
		for _, id := range slices.Sorted(maps.Keys(w.agent.underway)) {
			if op := w.agent.underway[id].op; op.Instance.Pod.UID == pod.Pod.UID {
				add(op.Instance, false)
			}
		}
		standings[pod.Pod.UID] = s
	}
	return standings
}

// land lets a write take effect, or not, before its answer is there.
func (w *world) land(id string, arrives bool) {
	write := w.agent.underway[id]
	if write.landed {
		return
	}
	write.landed, write.err = true, errRefused
	if arrives {
		write.err = w.registry.apply(write.op, write.seen)
		if !errors.Is(write.err, errRefused) {
			w.must(write.err)
		}
		write.index = w.registry.held[id].index
	}
}

// finish brings the answer to a write that has landed; lost means that it is
// not heard.
func (w *world) finish(id string, lost bool) {
	write := w.agent.underway[id]
	delete(w.agent.underway, id)
	if write.err != nil || lost {
		w.agent.doubt, w.agent.unheard[id] = true, true
		return
	}
	before, existed := w.agent.view[id]
	if after, exists := write.op.After(before.Entry, existed); exists {
		w.agent.view[id] = record{after, write.index}
	} else {
		delete(w.agent.view, id)
	}
}

// ask asks the servers about instances. The answers are the truth of this
// moment; some may not come.
func (w *world) ask(instances []service.Instance, answers func(id string) bool) question {
	q := question{proofs: map[string]gate.Proof{}, served: map[string]bool{}, at: w.node.clock}
	for _, in := range instances {
		proof := gate.Proof{Finding: gate.Absent, Index: uint64(w.registry.index), At: q.at}
		if e, ok := w.registry.servers[in.ID]; ok && passing(e.Entry) {
			proof.Finding = gate.Different
			if e.Instance.Pod.UID == in.Pod.UID && e.Instance.Address == in.Address && e.Instance.Port == in.Port {
				proof.Finding = gate.Passing
			}
		}
		q.served[in.ID] = proof.Finding == gate.Passing
		if answers(in.ID) {
			q.proofs[in.ID] = proof
		} else {
			q.proofs[in.ID] = gate.Proof{Detail: "no answer", At: q.at}
		}
	}
	return q
}

// gateInput is what is known of a pod's gate, without an answer of the servers.
func (w *world) gateInput(pod service.Pod) gate.Input {
	return gate.Input{Pod: pod, Declared: annotation.Parse(pod), Now: w.node.clock}
}

// askGate asks the servers about a pod that waits for them.
func (w *world) askGate(pod service.Pod, answers func(id string) bool) question {
	v := w.decideGate(pod, question{})
	return w.ask(v.NeedsProof, answers)
}

// decideGate decides in the light of an answer, and does what the verdict says.
func (w *world) decideGate(pod service.Pod, q question) gate.Verdict {
	in := w.gateInput(pod)
	in.Proofs = q.proofs
	v := gate.Decide(in)
	w.checkGate(in, q, v)
	if v.Open && pod.Gated() && w.api.answers {
		w.open(pod.Ref.UID)
	}
	return v
}

// open writes the condition. Both sources that answer show it at once: how late
// news may be is the business of the writer, which remembers what it wrote.
func (w *world) open(uid string) {
	if w.node.over[uid] {
		return
	}
	w.node.condition(w.node.change(uid), service.GateReachable, true)
	w.opened[uid], w.agent.opened[uid] = true, true
	for _, s := range []*source{w.api, w.kubelet} {
		if _, known := w.agent.shown[uid]; known && s.has(uid) {
			w.must(s.tell(uid))
		}
	}
}

// decideDrain decides whether a pod that asked may stop.
func (w *world) decideDrain(uid string, q question) drain.Verdict {
	in := drain.Input{Proofs: q.proofs, Now: w.node.clock}
	if s, ok := w.agent.standing[uid]; ok {
		in.Standing = &s
	}
	v := drain.Decide(in)
	w.checkDrain(uid, v)
	return v
}

// draw picks one of some strings, or none of none.
func draw(t *rapid.T, label string, from []string) (string, bool) {
	if len(from) == 0 {
		return "", false
	}
	return rapid.SampledFrom(from).Draw(t, label), true
}

// must fails on any error.
func (w *world) must(err error) {
	if err != nil {
		w.t.Fatal(err)
	}
}
