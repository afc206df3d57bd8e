package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// record is what the loops have last done and heard, kept for people who ask:
// nothing is decided from it.
type record struct {
	mu      sync.Mutex
	pods    []nodeview.Pod
	entries func() []nodeview.Entry // nil before the first pass
	plan    nodeview.Plan
	servers nodeview.Servers
	drains  map[string]nodeview.Drain // by UID
	// succession is nil unless there is a successor.
	succession *nodeview.Succession
}

func newRecord() *record {
	return &record{
		servers: nodeview.Servers{Problem: "they were not asked yet"},
		drains:  map[string]nodeview.Drain{},
	}
}

// decided notes a pass of the publisher. entries is asked when somebody looks,
// which is seldom. left are the pods that have asked to be
// taken out; what else was noted of drains is forgotten.
func (r *record) decided(pods []nodeview.Pod, entries func() []nodeview.Entry, plan nodeview.Plan, left map[string]time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods, r.entries, r.plan = pods, entries, plan
	maps.DeleteFunc(r.drains, func(uid string, _ nodeview.Drain) bool { _, asked := left[uid]; return !asked })
}

// atServers notes what the servers hold. The map is not changed any more.
func (r *record) atServers(health map[string]service.Health, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers = nodeview.Servers{At: now, Health: health}
}

// serversAway notes that the servers could not be asked. What they said last
// is kept, with the time at which it was true.
func (r *record) serversAway(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers.Problem = why
}

// succeeds notes how far katalog-sync and Fairway have taken each other's place.
func (r *record) succeeds(s nodeview.Succession) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.succession = &s
}

// draining notes what a pod that asked to be taken out waits for.
func (r *record) draining(d nodeview.Drain) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drains[d.Pod.UID] = d
}

// fill writes what was noted into a view.
func (r *record) fill(v *nodeview.View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v.Pods, v.Plan, v.Servers, v.Succession = r.pods, r.plan, r.servers, r.succession
	if r.entries != nil {
		v.Entries = r.entries()
	}
	v.Drains = slices.SortedFunc(maps.Values(r.drains), func(a, b nodeview.Drain) int {
		return strings.Compare(a.Pod.String(), b.Pod.String())
	})
}

// note keeps what a pass has decided, and how the writes stand.
func (p *publisher) note(input registration.Input, plan registration.Plan, now time.Time) {
	shown := nodeview.Plan{
		Decided: now, Foreign: plan.Foreign, Held: kept(plan.Held), Replaced: kept(plan.Replaced),
		Writes: []nodeview.Write{}, Refused: []nodeview.Refused{},
	}
	for _, op := range plan.Ops {
		write := nodeview.Write{Kind: string(op.Kind), Entry: entryView(op.Instance), Reason: op.Reason}
		if busy, ok := p.writes.underway[op.Instance.ID]; ok {
			write.Underway = busy.Kind == op.Kind
		}
		if f := p.writes.failures[op.Instance.ID]; f != nil && f.op.Kind == op.Kind {
			write.Failed, write.Tries, write.Next = f.reason, f.times, f.next
		}
		shown.Writes = append(shown.Writes, write)
	}
	for _, f := range plan.Frozen {
		shown.Frozen = append(shown.Frozen, nodeview.Kept{Entry: heldView(p.view[f.Op.Instance.ID]), Reason: fmt.Sprintf(
			"%s; frozen since %s, as %s; waiting: %s", f.Op.Reason, f.Since.Format(time.TimeOnly), f.Reason, f.Waits)})
	}
	refused := p.refused(plan)
	for _, id := range slices.Sorted(maps.Keys(refused)) {
		shown.Refused = append(shown.Refused, nodeview.Refused{ID: id, Reason: refused[id]})
	}
	var pods []nodeview.Pod
	for _, pod := range input.Claims {
		if pod.Incomplete || len(pod.Instances) > 0 {
			pods = append(pods, nodeview.Pod{
				Pod: nodeview.Ref(pod.Pod), Health: pod.Health, Notes: pod.Notes, Incomplete: pod.Incomplete,
			})
		}
	}
	entries := func() []nodeview.Entry {
		var shown []nodeview.Entry
		for _, entry := range p.own(slices.Values(input.Entries)) {
			shown = append(shown, heldView(entry))
		}
		return shown
	}
	p.board.record.decided(pods, entries, shown, p.board.leavers())
}

func kept(held []registration.Held) []nodeview.Kept {
	shown := []nodeview.Kept{} // a list in JSON, also if it is empty
	for _, h := range held {
		shown = append(shown, nodeview.Kept{Entry: heldView(h.Entry), Reason: h.Reason})
	}
	return shown
}

func heldView(entry registration.Entry) nodeview.Entry {
	shown := entryView(entry.Instance)
	if !entry.HasCheck {
		shown.Health = ""
	}
	return shown
}

func entryView(in service.Instance) nodeview.Entry {
	shown := nodeview.Entry{ID: in.ID, Service: in.Name, Pod: nodeview.Ref(in.Pod), Port: in.Port, Health: in.Health}
	if in.Address.IsValid() {
		shown.Address = in.Address.String()
	}
	return shown
}

// viewer makes the view of the node.
func (a *Agent) viewer(board *board) func(now time.Time) nodeview.View {
	return func(now time.Time) nodeview.View {
		v := nodeview.View{
			Version: a.opts.Version, Node: a.opts.NodeName, Cluster: a.opts.ClusterID, Registry: a.opts.Registry,
			At: now, Blocked: board.why(), Sources: a.sources(),
		}
		board.record.fill(&v)
		return v
	}
}

// view is what the sources say of themselves.
func (n *nodePods) view() []nodeview.Source {
	var shown []nodeview.Source
	for _, s := range n.sources() {
		state := s.State()
		shown = append(shown, nodeview.Source{
			Name: s.name, Pods: len(state.Pods), Synced: state.Synced, Problem: state.Problem, Heard: state.Heard,
		})
	}
	return shown
}
