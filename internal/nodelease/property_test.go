package nodelease

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/service"
)

// world is a cluster as it really is, in steps of a second, and one controller
// that looks at it.
type world struct {
	t     *rapid.T
	now   time.Time
	nodes []*machine
	// away are the control plane, which else takes renewals and shows them, Consul,
	// and the controller itself.
	apiAway, consulAway, paused int
	// walled is for how long the controller reaches no agent.
	walled int

	kubelets Kubelets
	agents   map[string]Agent
}

// retry is after how many seconds a kubelet tries again that could not renew.
const retry = 7

// machine is one node.
type machine struct {
	name           string
	kubelet, agent bool // whether they run
	cutOff         bool // from the API server and the controller, not from Consul
	next           int  // seconds until its kubelet renews
	renewals       int
	shown          int // the renewal that the API server has
	lease          Lease
	able           int // for how many seconds its kubelet has been able to renew
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: now, agents: map[string]Agent{}}
	for i := range rapid.IntRange(2, 6).Draw(t, "nodes") {
		w.nodes = append(w.nodes, &machine{
			name: fmt.Sprintf("n%d", i), kubelet: true, agent: true, next: i % 10,
			lease: Lease{Held: true, Status: service.Passing, Index: 1},
		})
	}
	return w
}

// step lets a second pass, in which perhaps something happens.
func (w *world) step(calm bool) {
	w.now = w.now.Add(time.Second)
	for _, left := range []*int{&w.apiAway, &w.consulAway, &w.paused, &w.walled} {
		*left = max(0, *left-1)
	}
	if !calm {
		w.happen()
	}
	for _, m := range w.nodes {
		m.live(w)
	}
	if w.paused == 0 {
		w.look()
	}
}

func (w *world) happen() {
	what := rapid.IntRange(0, 199).Draw(w.t, "event")
	m := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(w.t, "node")]
	long := rapid.IntRange(1, 180).Draw(w.t, "seconds")
	switch what {
	case 0, 1:
		m.kubelet = !m.kubelet
	case 2, 3:
		m.agent = !m.agent
	case 4:
		m.kubelet, m.agent = false, false
	case 5:
		m.kubelet, m.agent = true, true
	case 6:
		m.cutOff = !m.cutOff
	case 7:
		w.apiAway = long
	case 8:
		w.consulAway = long
	case 9:
		w.paused = long
	case 10:
		w.walled = long
	}
}

// live is what a machine does in a second.
func (m *machine) live(w *world) {
	m.next, m.able = m.next-1, m.able+1
	if !m.kubelet || m.cutOff || w.apiAway > 0 {
		m.able = 0
	}
	if m.kubelet && !m.cutOff && m.next <= 0 {
		if w.apiAway == 0 {
			m.renewals++
			m.shown, m.next = m.renewals, 10
		} else {
			m.next = retry
		}
	}
	if m.agent && w.consulAway == 0 && (m.lease.Asked || m.lease.Status != service.Passing) {
		m.lease.Asked, m.lease.Status = false, service.Passing
		m.lease.Index++
	}
}

// look is a pass of the controller. It checks each decision against the truth.
func (w *world) look() {
	if w.apiAway == 0 {
		for _, m := range w.nodes {
			w.kubelets.Renewed(m.name, fmt.Sprint(m.shown), 40*time.Second, w.now)
		}
	}
	in := Input{Now: w.now, Observed: w.kubelets.Observed(w.now), MaxDead: 0.5, Forget: time.Hour}
	for _, m := range w.nodes {
		if agent, doubted := w.agents[m.name]; doubted {
			agent = agent.Probed(m.agent && !m.cutOff && w.walled == 0, w.now)
			if w.consulAway > 0 {
				agent = agent.Unread()
			} else {
				agent = agent.Read(m.lease, w.now)
			}
			w.agents[m.name] = agent
		}
		in.Nodes = append(in.Nodes, Node{
			Name: m.name, Listed: true, Kubelet: w.kubelets.Of(m.name), Agent: w.agents[m.name], Lease: m.lease,
		})
	}
	for i, d := range Decide(in).Decisions {
		w.act(w.nodes[i], d)
	}
}

func (w *world) act(m *machine, d Decision) {
	if _, doubted := w.agents[m.name]; d.Act.Doubtful() && !doubted {
		w.agents[m.name] = Agent{}
	} else if !d.Act.Doubtful() {
		delete(w.agents, m.name)
	}
	switch {
	case d.Act == Expire && w.consulAway == 0:
		// The promise: whoever is called dead is, and of that much is known.
		if m.agent {
			w.t.Fatalf("%s is called dead, and its agent lives: %s", m.name, d.Says)
		}
		if m.able > retry {
			w.t.Fatalf("%s is called dead, and its kubelet can renew its Lease: %s", m.name, d.Says)
		}
		m.lease.Status, m.lease.Asked = service.Critical, false
		m.lease.Index++
	case d.Act == Ask && w.consulAway == 0:
		m.lease.Asked = true
		m.lease.Index++
	case d.Act == Remove || d.Act == Confirm:
		w.t.Fatalf("%s: %s of a Node that is listed", m.name, d.Act)
	}
}

// Whatever is away, for however long and in whatever order: no node is called
// dead whose agent lives, or whose kubelet does.
func TestI2NoLivingNodeIsCalledDead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(60, 600).Draw(t, "steps") {
			w.step(false)
		}
	})
}

// A node that died alone is hidden while nothing else is away, within the time
// for which its kubelet's Lease was good and a moment; and one that lives again
// is shown again, and stays.
func TestDeadNodeIsHiddenInTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(15, 90).Draw(t, "calm steps") {
			w.step(true)
		}
		victim := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "victim")]
		victim.kubelet, victim.agent = false, false
		for range 42 {
			w.step(true)
		}
		for _, m := range w.nodes {
			if hidden := m.lease.Status == service.Critical; hidden != (m == victim) {
				t.Fatalf("42 s after %s died, %s is hidden: %v", victim.name, m.name, hidden)
			}
		}
		index := victim.lease.Index
		for range rapid.IntRange(1, 300).Draw(t, "dead steps") {
			w.step(true)
		}
		if victim.lease.Index != index {
			t.Fatalf("the lease of a dead node was written again")
		}
		victim.kubelet, victim.agent = true, true
		for range 300 {
			w.step(true)
			if victim.lease.Status != service.Passing {
				t.Fatalf("a node that is back is hidden")
			}
		}
		if victim.lease.Index != index+1 {
			t.Fatalf("%d writes of the lease of a node that is back; want 1", victim.lease.Index-index)
		}
	})
}

// A kubelet that is dead while its agent lives costs Consul nothing.
func TestI6DeadKubeletCostsNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.nodes[0].kubelet = false
		for range 600 {
			w.step(true)
		}
		for _, m := range w.nodes {
			if m.lease.Index != 1 {
				t.Fatalf("the lease of %s was written", m.name)
			}
		}
	})
}
