package world_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/podset"
	"fairway.dev/fairway/internal/registration"
)

// world is everything there is.
type world struct {
	t        *rapid.T // of the action under way
	node     *node
	kubelet  *source
	api      *source
	registry *registry
	agent    *agent
	backup   map[string]record // what the registry held once
	foreign  map[string]record // entries that are not ours, as their owners left them
	opened   map[string]bool   // UIDs of pods whose gate is open
	out      map[string]bool   // IDs that clients were proven not to be given any more
}

// TestInvariantsHoldInAnyWorld tries random worlds of pods, registry contents,
// failures and restarts. I1, I3, I4, I5 and I6 hold at every step, and once
// nothing happens any more the plan converges; checks_test.go says how.
//
// What goes wrong only in a row of rare events needs many worlds: these are some
// thousand. -rapid.checks and -rapid.steps ask for more.
func TestInvariantsHoldInAnyWorld(t *testing.T) {
	for name, catalog := range map[string]bool{"client agent": false, "servers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 10 {
				rapid.Check(t, func(t *rapid.T) {
					w := newWorld(t, catalog)
					for range 4 {
						t.Repeat(w.actions())
						w.calm(t)
					}
				})
			}
		})
	}
}

func newWorld(t *rapid.T, catalog bool) *world {
	n := newNode()
	return &world{
		t: t, node: n, kubelet: newSource(n, true), api: newSource(n, false),
		registry: newRegistry(catalog), agent: newAgent(),
		foreign: map[string]record{}, opened: map[string]bool{}, out: map[string]bool{},
	}
}

func (w *world) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		"":                     func(t *rapid.T) { w.t = t; w.checkAlways() },
		"a pod is created":     func(t *rapid.T) { w.node.create(t) },
		"a pod goes on":        w.onPod(w.node.progress),
		"a pod is edited":      w.onPod(w.node.edit),
		"a pod is deleted":     w.onPod(w.node.remove),
		"a pod wants to stop":  w.onPod(w.stop),
		"news":                 w.onPod(w.news),
		"a list":               w.list,
		"a source falls still": w.silence,
		"a pod is proven gone": w.onPod(w.confirm),
		"a look":               func(*rapid.T) { w.look() },
		"a pass":               func(*rapid.T) { w.pass() },
		"a write lands":        w.onWrite(func(t *rapid.T, id string) { w.land(id, rapid.IntRange(0, 3).Draw(t, "fate") > 0) }),
		"a write ends": w.onWrite(func(t *rapid.T, id string) {
			w.land(id, rapid.IntRange(0, 3).Draw(t, "fate") > 0)
			w.finish(id, rapid.IntRange(0, 3).Draw(t, "answer") == 0)
		}),
		"the servers are told":   w.sync,
		"a gate is decided":      w.onPod(w.judgeGate),
		"strangers":              w.meddle,
		"the registry is lost":   w.lose,
		"the agent starts anew":  w.startAnew,
		"the kubelet starts":     func(*rapid.T) { w.agent.settling = podset.Restarted(w.node.clock) },
		"time passes":            w.pause,
		"all is well":            func(*rapid.T) { w.quiet(); w.workOff() },
		"all is calm for a time": w.calm,
	}
	for name, action := range actions {
		actions[name] = func(t *rapid.T) { w.t = t; action(t) }
	}
	return actions
}

// onPod picks a pod that still matters to somebody.
func (w *world) onPod(act func(*rapid.T, string)) func(*rapid.T) {
	return func(t *rapid.T) {
		alive := slices.DeleteFunc(w.node.uids(), func(uid string) bool { return w.node.over[uid] && w.node.done[uid] && !w.named(uid) })
		if uid, ok := draw(t, "pod", alive); ok {
			act(t, uid)
		}
	}
}

// named tells whether a source or an entry still names the pod.
func (w *world) named(uid string) bool {
	_, shown := w.agent.shown[uid]
	return shown || slices.ContainsFunc(slices.Collect(maps.Values(w.registry.held)), func(r record) bool { return r.Instance.Pod.UID == uid })
}

func (w *world) onWrite(act func(*rapid.T, string)) func(*rapid.T) {
	return func(t *rapid.T) {
		if id, ok := draw(t, "write", slices.Sorted(maps.Keys(w.agent.underway))); ok {
			act(t, id)
		}
	}
}

func (w *world) pause(t *rapid.T) {
	w.node.clock = w.node.clock.Add(rapid.SampledFrom([]time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second}).Draw(t, "pause"))
}

func (w *world) sources(t *rapid.T) *source {
	if rapid.Bool().Draw(t, "kubelet") {
		return w.kubelet
	}
	return w.api
}

func (w *world) news(t *rapid.T, uid string) { w.must(w.sources(t).tell(uid)) }

// list is a list as it may come: whole, in part or empty.
func (w *world) list(t *rapid.T) {
	listed := everything
	switch rapid.SampledFrom([]string{"whole", "whole", "in part", "empty"}).Draw(t, "list") {
	case "in part":
		listed = func(uid string) bool { return rapid.Bool().Draw(t, uid) }
	case "empty":
		listed = func(string) bool { return false }
	}
	w.must(w.sources(t).list(listed))
}

func (w *world) silence(t *rapid.T) { w.sources(t).silence() }

// confirm asks the API server about a pod that is missing.
func (w *world) confirm(_ *rapid.T, uid string) {
	if w.node.over[uid] {
		w.api.store.Prove(uid, "the API server does not have it")
	}
}

// sync tells the servers, of one entry or of all.
func (w *world) sync(t *rapid.T) {
	if w.registry.catalog {
		return
	}
	ids := w.registry.ids()
	if id, ok := draw(t, "entry", ids); ok && rapid.Bool().Draw(t, "one") {
		ids = []string{id}
	}
	for _, id := range ids {
		w.registry.sync(id)
	}
}

// stop is a deletion and the pod's preStop hook: it asks to be taken out, and
// whether it may stop.
func (w *world) stop(t *rapid.T, uid string) {
	if w.node.pods[uid].DeletionTimestamp == nil {
		w.node.change(uid).DeletionTimestamp = &metav1.Time{Time: w.node.clock}
	}
	w.agent.left[uid] = true
	if rapid.Bool().Draw(t, "heard") {
		w.pass()
	}
	if v := w.decideDrain(uid, question{}); len(v.NeedsProof) > 0 {
		q := w.ask(v.NeedsProof, w.answers(t))
		w.slowly(t)
		w.decideDrain(uid, q)
	}
}

// judgeGate is one turn of a pod that waits at its gate.
func (w *world) judgeGate(t *rapid.T, uid string) {
	pod, ok := w.agent.shown[uid]
	if !ok {
		return
	}
	q := w.askGate(pod, w.answers(t))
	w.slowly(t)
	if pod, ok := w.agent.shown[uid]; ok {
		w.decideGate(pod, q)
	}
}

// answers tells which questions are answered.
func (w *world) answers(t *rapid.T) func(id string) bool {
	return func(id string) bool { return rapid.IntRange(0, 2).Draw(t, "answer about "+id) > 0 }
}

// slowly is what may happen between an answer and the decision on it.
func (w *world) slowly(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "slow") == 0 {
		w.pause(t)
		w.pass()
	}
}

// meddle is what others do in the registry: to our entries, or with their own.
// A client agent cannot refuse a write for what has changed since its caller
// looked, so there the agent looks before it does anything.
func (w *world) meddle(t *rapid.T) {
	id, ok := draw(t, "entry", slices.Sorted(maps.Keys(w.registry.held)))
	if !ok || !w.registry.catalog && len(w.agent.underway) > 0 {
		return
	}
	before := w.registry.held[id]
	switch {
	case own(before.Entry):
		w.registry.meddle(t, id)
	case rapid.Bool().Draw(t, "given up"):
		w.registry.index++
		delete(w.registry.held, id)
	default:
		before.Instance.Port++
		w.registry.put(before.Entry)
	}
	w.others()
	if !w.registry.catalog {
		w.agent.doubt = true
		clear(w.agent.standing)
	}
	clear(w.out)
}

// others notes the entries that are not ours, as they are now.
func (w *world) others() {
	clear(w.foreign)
	for id, r := range w.registry.held {
		if !own(r.Entry) {
			w.foreign[id] = r
		}
	}
}

// lose makes the registry lose what it held: a client agent all of it, the
// servers what has come since a backup.
func (w *world) lose(t *rapid.T) {
	if rapid.Bool().Draw(t, "only a backup") {
		w.backup = maps.Clone(w.registry.held)
		return
	}
	clear(w.registry.held)
	if w.registry.catalog {
		for _, id := range slices.Sorted(maps.Keys(w.backup)) {
			w.registry.put(w.backup[id].Entry)
		}
	}
	w.others()
	clear(w.out)
}

// startAnew is another process of the agent. What the old one had sent has
// arrived or never will.
func (w *world) startAnew(t *rapid.T) {
	for _, id := range slices.Sorted(maps.Keys(w.agent.underway)) {
		w.land(id, rapid.Bool().Draw(t, "arrives"))
	}
	w.agent = newAgent()
	w.kubelet, w.api = newSource(w.node, true), newSource(w.node, false)
	clear(w.out)
}

// mostPasses are what a quiet world needs: one brings in, one takes out what
// that replaces and what was proven gone in the first, one removes.
const mostPasses = 4

// calm is a while in which nothing happens and everything works.
func (w *world) calm(t *rapid.T) {
	w.t = t
	w.quiet()
	passes := 0
	for ; w.workOff(); passes++ {
		if passes == mostPasses {
			t.Fatalf("I6: not at rest after %d passes: %+v", mostPasses, w.pass().Ops)
		}
	}
	w.serve()
	w.checkRest()
}

// quiet ends all trouble and lets everybody hear of everything.
func (w *world) quiet() {
	for _, id := range slices.Sorted(maps.Keys(w.agent.underway)) {
		w.land(id, true)
		w.finish(id, false)
	}
	w.node.clock = w.node.clock.Add(time.Minute) // a kubelet that has started has probed
	for uid := range w.node.over {
		w.node.done[uid] = true
	}
	for _, s := range []*source{w.api, w.kubelet} {
		w.must(s.list(everything))
		for _, uid := range w.node.uids() {
			w.must(s.tell(uid))
		}
	}
	w.agent.doubt = true
}

// workOff makes one pass and carries out all that it asks for. It tells whether
// that was anything.
func (w *world) workOff() bool {
	plan := w.pass()
	for _, held := range plan.Held {
		if uid := held.Entry.Instance.Pod.UID; w.node.over[uid] {
			w.api.store.Prove(uid, "the API server does not have it")
		}
	}
	for _, op := range plan.Ops {
		if id := op.Instance.ID; w.agent.underway[id] != nil { // one at a time, in order
			w.land(id, true)
			w.finish(id, false)
		}
	}
	for _, id := range w.registry.ids() {
		if !w.registry.catalog {
			w.registry.sync(id)
		}
	}
	waits := slices.ContainsFunc(plan.Held, func(h registration.Held) bool { return w.node.over[h.Entry.Instance.Pod.UID] })
	return len(plan.Ops) > 0 || waits
}

// serve lets every pod that waits ask once.
func (w *world) serve() {
	for _, uid := range slices.Sorted(maps.Keys(w.agent.shown)) {
		w.decideGate(w.agent.shown[uid], w.askGate(w.agent.shown[uid], everything))
	}
	w.pass() // shows the open gates
}
