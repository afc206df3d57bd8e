package controller

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/kube/nodes"
	"fairway.dev/fairway/internal/nodelease"
	"fairway.dev/fairway/internal/service"
)

// cluster is what a controller sees of a cluster of three nodes, and a record of
// what it does.
type cluster struct {
	changed chan struct{}

	mu       sync.Mutex
	view     map[string]nodelease.Node
	kubelets nodelease.Kubelets
	renewing map[string]bool
	agents   map[string]bool // which answer at their ports
	consul   error           // why Consul does not answer
	leases   map[string]catalog.Lease
	exists   map[string]bool // which Nodes the API server has when it is asked
	refusal  error           // why the API server does not answer about a Node
	did      []string
	logged   strings.Builder
}

// newCluster makes one in which time is the test's, and lets it live.
func newCluster(t *testing.T) *cluster {
	c := &cluster{
		changed: make(chan struct{}, 1), view: map[string]nodelease.Node{}, renewing: map[string]bool{},
		agents: map[string]bool{}, leases: map[string]catalog.Lease{}, exists: map[string]bool{},
	}
	for _, node := range []string{"n1", "n2", "n3"} {
		c.view[node] = nodelease.Node{Name: node, Listed: true}
		c.renewing[node], c.agents[node], c.exists[node] = true, true, true
		c.leases[node] = catalog.Lease{Node: node, Status: service.Passing, Index: 1}
	}
	go func() { _ = c.Run(t.Context()) }()
	return c
}

func (c *cluster) Run(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		c.mu.Lock()
		for _, node := range slices.Sorted(maps.Keys(c.renewing)) {
			if c.renewing[node] {
				c.kubelets.Renewed(node, time.Now().String(), 40*time.Second, time.Now())
			}
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (c *cluster) Changed() <-chan struct{} { return c.changed }

func (c *cluster) View(_ func(string) bool, now time.Time) nodes.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	view := nodes.View{Synced: true, Observed: c.kubelets.Observed(now), News: c.kubelets.News(), Nodes: maps.Clone(c.view)}
	for name, node := range view.Nodes {
		node.Kubelet = c.kubelets.Of(name)
		view.Nodes[name] = node
	}
	return view
}

func (c *cluster) Confirm(_ context.Context, node string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exists[node] || c.refusal != nil {
		return false, c.refusal
	}
	if _, known := c.view[node]; !known {
		c.view[node] = nodelease.Node{Name: node, Deleted: time.Now()}
	}
	return true, nil
}

func (c *cluster) Answer(_ context.Context, _, node string, _ netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents[node]
}

func (c *cluster) List(context.Context) ([]catalog.Lease, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.leases)), c.consul
}

func (c *cluster) Read(_ context.Context, lease catalog.Lease) (catalog.Lease, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases[lease.Node], c.consul
}

func (c *cluster) write(deed string, lease catalog.Lease, status service.Health, output string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.leases[lease.Node]
	if c.consul != nil || now.Index != lease.Index {
		return errors.Join(c.consul, &consul.Error{Kind: consul.ErrConflict})
	}
	c.did = append(c.did, deed+" "+lease.Node)
	if deed == "remove" {
		delete(c.leases, lease.Node)
		return nil
	}
	c.leases[lease.Node] = catalog.Lease{Node: lease.Node, Status: status, Reason: output, Index: now.Index + 1}
	return nil
}

func (c *cluster) Ask(_ context.Context, lease catalog.Lease, question string) error {
	return c.write("ask", lease, service.Passing, question)
}

func (c *cluster) Expire(_ context.Context, lease catalog.Lease, reason string) error {
	return c.write("expire", lease, service.Critical, reason)
}

func (c *cluster) Remove(_ context.Context, lease catalog.Lease) error {
	return c.write("remove", lease, "", "")
}

// Write is the loop's log.
func (c *cluster) Write(text []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logged.Write(text)
}

// Note is events.
func (c *cluster) Note(node, reason, _ string) { c.tell("note", node, reason) }

// Warn is events.
func (c *cluster) Warn(node, reason, _ string) { c.tell("warn", node, reason) }

func (c *cluster) tell(words ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did = append(c.did, strings.Join(words, " "))
}

// change changes the cluster; nothing looks at it meanwhile.
func (c *cluster) change(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// expect compares what was done since it was last called.
func (c *cluster) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if diff := cmp.Diff(want, c.did); diff != "" {
		t.Errorf("%s (-want +done):\n%s", when, diff)
	}
	c.did = nil
}

// control starts a controller's loop on the cluster.
func (c *cluster) control(t *testing.T) (leader *leadership, board *board) {
	t.Helper()
	metrics := newMetrics(prometheus.NewRegistry())
	leader, board = unelected(slog.New(slog.DiscardHandler), metrics), newBoard(metrics)
	u := &undertaker{
		source: c, leases: c, agents: c, events: c, leader: leader, leads: leader.begins(), report: board.loop("nothing was read yet"),
		log: slog.New(slog.NewTextHandler(io.MultiWriter(c, t.Output()), nil)), metrics: metrics, pulse: process.NewPulse("nodes", stuckAfter),
		maxDead: 0.5, forget: time.Hour,
	}
	go func() { _ = u.run(t.Context()) }()
	return leader, board
}

func lead(t *testing.T, leader *leadership) (end func()) {
	term, cancel := context.WithCancel(t.Context())
	leader.begin(term)
	return func() {
		cancel()
		leader.end()
	}
}

// betweenRenewals is a time at which no kubelet renews its Lease.
const betweenRenewals = 61 * time.Second

// A node that dies is asked, expired and told of by the leader alone; one that
// comes to lead goes on where the other was.
func TestLeaderHidesDeadNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		first, _ := c.control(t)
		second, _ := c.control(t)
		end := lead(t, first)
		time.Sleep(betweenRenewals)
		c.expect(t, "all is well")

		c.change(func() { c.renewing["n2"], c.agents["n2"] = false, false })
		time.Sleep(29*time.Second + time.Second/2)
		c.expect(t, "it is late", "ask n2")
		end() // and its pod with it
		lead(t, second)
		time.Sleep(11 * time.Second)
		c.expect(t, "it is dead", "expire n2", "warn n2 EntriesHidden")
		time.Sleep(time.Hour)
		c.expect(t, "it stays dead")

		c.change(func() {
			c.renewing["n2"], c.agents["n2"] = true, true
			c.leases["n2"] = catalog.Lease{Node: "n2", Status: service.Passing, Index: 9} // as its agent does
		})
		time.Sleep(2 * time.Minute)
		c.expect(t, "it is back", "note n2 EntriesShown")
	})
}

// Who does not lead writes nothing, and to begin or to cease to lead is no reason
// to write.
func TestI2LeaderChangeWritesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		first, _ := c.control(t)
		second, _ := c.control(t)
		for range 5 {
			end := lead(t, first)
			time.Sleep(7 * time.Second)
			end()
			end = lead(t, second)
			time.Sleep(13 * time.Second)
			end()
		}
		c.change(func() { c.renewing["n2"], c.agents["n2"] = false, false })
		time.Sleep(10 * time.Minute)
		c.expect(t, "nobody leads")
	})
}

// A kubelet that is dead, and an API server or a Consul that is away, cost no
// healthy node anything.
func TestI2ControlPlaneAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader, board := c.control(t)
		lead(t, leader)
		time.Sleep(betweenRenewals)
		c.change(func() { c.renewing["n1"] = false })
		time.Sleep(10 * time.Minute)
		c.expect(t, "a kubelet is dead")

		c.change(func() { clear(c.renewing) })
		time.Sleep(10 * time.Minute)
		c.expect(t, "all kubelets are silent")
		c.change(func() { c.renewing["n1"], c.renewing["n2"], c.renewing["n3"] = true, true, true })
		time.Sleep(time.Minute)
		c.expect(t, "the API server is back")

		c.change(func() {
			c.renewing["n3"], c.agents["n3"] = false, false
			c.consul = &consul.Error{Kind: consul.ErrUnavailable}
		})
		time.Sleep(10 * time.Minute)
		c.expect(t, "Consul is away, and a node dead")
		if why, _ := board.says(); !strings.Contains(why, "could not be read from Consul") {
			t.Errorf("it says %q", why)
		}
		c.change(func() { c.consul = nil })
		time.Sleep(9 * time.Second)
		c.expect(t, "Consul is back", "ask n3")
		time.Sleep(time.Minute)
		c.expect(t, "and the agent has had its time", "expire n3", "warn n3 EntriesHidden")
	})
}

// An agent that cannot be reached at its port is asked in Consul, and believed.
func TestI2AgentBehindAWall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader, _ := c.control(t)
		lead(t, leader)
		time.Sleep(betweenRenewals)
		c.change(func() { c.renewing["n2"], c.agents["n2"] = false, false })
		time.Sleep(29*time.Second + time.Second/2)
		for range 10 {
			c.expect(t, "asked once a minute", "ask n2")
			c.change(func() {
				lease := c.leases["n2"]
				lease.Reason, lease.Index = "", lease.Index+1 // as its agent does
				c.leases["n2"] = lease
			})
			time.Sleep(time.Minute + 2*time.Second)
		}
	})
}

// A node is removed from Consul an hour after its Node was deleted, if that is
// what the API server says when it is asked, and it was hidden before.
func TestI1DeletedNodeIsRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader, _ := c.control(t)
		lead(t, leader)
		time.Sleep(betweenRenewals)
		c.change(func() {
			delete(c.view, "n2") // which may be a lie
			delete(c.view, "n3")
			c.renewing["n2"], c.agents["n2"] = false, false
			c.renewing["n3"], c.agents["n3"], c.exists["n3"] = false, false, false
		})
		c.change(func() { c.refusal = errors.New("no right to") })
		c.changed <- struct{}{}
		time.Sleep(6 * time.Second)
		c.change(func() {
			if says := "it could not be asked for that Node: no right to"; strings.Count(c.logged.String(), says) != 2 {
				t.Errorf("the log does not say once of each %q:\n%s", says, c.logged.String())
			}
			c.refusal = nil
		})
		time.Sleep(26 * time.Second)
		c.expect(t, "one of them is deleted", "ask n3", "expire n3", "warn n3 EntriesHidden")
		time.Sleep(58 * time.Minute)
		c.expect(t, "not for long")
		time.Sleep(2 * time.Minute)
		c.expect(t, "an hour later", "remove n3")
		time.Sleep(time.Hour)
		c.expect(t, "the other is not proven to be gone")
	})
}

// What comes into doubt before its virtual node was listed is found all the same.
func TestNewNodeThatDies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader, _ := c.control(t)
		lead(t, leader)
		lease := c.leases["n2"]
		c.change(func() { delete(c.leases, "n2") })
		time.Sleep(betweenRenewals)
		c.change(func() { c.renewing["n2"], c.agents["n2"], c.leases["n2"] = false, false, lease })
		time.Sleep(41 * time.Second)
		c.expect(t, "it is dead", "ask n2", "expire n2", "warn n2 EntriesHidden")
	})
}
