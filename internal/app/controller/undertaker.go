package controller

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/nodelease"
)

const (
	// listEvery is how often all virtual nodes are read. Those that are looked at
	// for a reason are read one by one, at each look.
	listEvery = time.Minute
	// listAgain is how soon they are read again after that failed.
	listAgain = 2 * time.Second
	// callWithin bounds a call to Consul or the API server. It leaves Consul the
	// 7 s for which it tries to reach its leader.
	callWithin = 9 * time.Second
	// atOnce is how many nodes are spoken of at the same time.
	atOnce = 32
)

// undertaker notices nodes that died: it looks at what Kubernetes, their agents
// and Consul say of them, has nodelease decide, and carries that out if this
// replica leads. It is a loop of its own.
type undertaker struct {
	source  nodeSource
	leases  leases
	agents  agents
	events  events
	leader  *leadership
	leads   <-chan struct{} // leader.begins
	report  *report
	log     *slog.Logger
	metrics *metrics
	pulse   *process.Pulse

	cluster string // its id
	maxDead float64
	forget  time.Duration

	// The loop's own.
	held   map[string]catalog.Lease // by node; nil before the first list
	listed time.Time
	doubts map[string]nodelease.Agent    // of the nodes in doubt
	stood  map[string]nodelease.Decision // the last decisions
	// unasked says why the API server could not be asked for a Node, by its name.
	unasked sync.Map
}

// run works until ctx ends.
func (u *undertaker) run(ctx context.Context) error {
	for {
		u.pulse.Beat()
		wait := u.pass(ctx)
		u.pulse.Rest()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-u.source.Changed():
		case <-u.leads:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pass is one turn. It returns when the next is due if nothing happens before.
func (u *undertaker) pass(ctx context.Context) time.Duration {
	start := time.Now()
	if err := u.list(ctx); err != nil {
		for node, agent := range u.doubts {
			u.doubts[node] = agent.Unread()
		}
		u.report.block("the virtual nodes could not be read from Consul: " + consul.Reason(err))
		u.log.Debug("the virtual nodes could not be read", "err", err)
		return listAgain
	}
	u.listen(ctx)
	now := time.Now()
	view := u.source.View(func(node string) bool { return u.held[node].Node != "" }, now)
	if !view.Synced {
		u.report.block("the lists of nodes and of their Leases are not complete yet")
		return listAgain
	}
	if u.outdated(view.Nodes, now) {
		u.listed = time.Time{} // and the next pass is at once
		return 0
	}
	u.metrics.kubeletsHeard.Set(float64(view.News.UnixMilli()) / 1000)
	plan := nodelease.Decide(nodelease.Input{
		Now: now, Observed: view.Observed, Nodes: u.nodes(view.Nodes), MaxDead: u.maxDead, Forget: u.forget,
	})
	u.tell(plan)
	u.carryOut(ctx, plan)
	return plan.Next - time.Since(start) // an agent that is gone takes its time not to answer
}

// list reads all virtual nodes if that is due.
func (u *undertaker) list(ctx context.Context) error {
	if u.held != nil && time.Since(u.listed) < listEvery {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	all, err := u.leases.List(ctx)
	if err != nil {
		return err
	}
	u.held = make(map[string]catalog.Lease, len(all))
	for _, lease := range all {
		u.held[lease.Node] = lease
	}
	u.listed = time.Now()
	u.metrics.leasesRead.SetToCurrentTime()
	return nil
}

// outdated tells whether a node has come into doubt since all virtual nodes were
// read, which did not have one then.
func (u *undertaker) outdated(known map[string]nodelease.Node, now time.Time) bool {
	for name, node := range known {
		late := node.Kubelet.LateSince()
		if _, held := u.held[name]; !held && !node.Kubelet.Heard.IsZero() && u.listed.Before(late) && !now.Before(late) {
			return true
		}
	}
	return false
}

// listen asks the agents of the nodes in doubt at their ports, and reads the
// leases of those and of all that have expired.
func (u *undertaker) listen(ctx context.Context) {
	type word struct {
		answers bool
		lease   catalog.Lease
		err     error
	}
	words, mu := map[string]word{}, sync.Mutex{}
	var group errgroup.Group
	group.SetLimit(atOnce)
	for node, d := range u.stood {
		lease, held := u.held[node]
		if !held || !d.Act.Doubtful() && d.Reason != nodelease.Expired {
			continue
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, callWithin)
			defer cancel()
			var w word
			if d.Act.Doubtful() {
				w.answers = u.agents.Answer(ctx, u.cluster, node, lease.Address)
			}
			w.lease, w.err = u.leases.Read(ctx, lease)
			mu.Lock()
			defer mu.Unlock()
			words[node] = w
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	now := time.Now()
	before := u.doubts
	u.doubts = map[string]nodelease.Agent{}
	for node, w := range words {
		if w.err == nil {
			u.held[node] = w.lease
		}
		if !u.stood[node].Act.Doubtful() {
			continue
		}
		agent := before[node].Probed(w.answers, now)
		if w.err != nil {
			u.log.Debug("a lease could not be read", "node", node, "err", w.err)
			agent = agent.Unread()
		} else {
			agent = agent.Read(leaseOf(w.lease), now)
		}
		u.doubts[node] = agent
	}
}

// nodes joins what Kubernetes knows with what Consul and the agents say.
func (u *undertaker) nodes(known map[string]nodelease.Node) []nodelease.Node {
	var all []nodelease.Node
	for name := range u.held {
		if _, ok := known[name]; !ok {
			known[name] = nodelease.Node{Name: name}
		}
	}
	for name, node := range known {
		if lease, held := u.held[name]; held {
			node.Lease = leaseOf(lease)
		}
		node.Agent = u.doubts[name]
		if why, ok := u.unasked.Load(name); ok && !node.Listed {
			node.Unasked = why.(string)
		}
		all = append(all, node)
	}
	return all
}

func leaseOf(lease catalog.Lease) nodelease.Lease {
	return nodelease.Lease{Held: lease.Index != 0, Status: lease.Status, Asked: lease.Asked(), Index: lease.Index}
}

// carryOut does what is to be done. Only the leader writes, all ask.
func (u *undertaker) carryOut(ctx context.Context, plan nodelease.Plan) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, d := range plan.Decisions {
		if d.Act == nodelease.Nothing || d.Act == nodelease.Listen || d.Act != nodelease.Confirm && !u.leader.leads() {
			continue
		}
		lease := u.held[d.Node]
		group.Go(func() error {
			// A write that was begun is finished: nobody else knows how it ended.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
			defer cancel()
			u.act(ctx, d, lease)
			return nil
		})
	}
	_ = group.Wait() // none returns an error
}

func (u *undertaker) act(ctx context.Context, d nodelease.Decision, lease catalog.Lease) {
	var err error
	switch d.Act {
	case nodelease.Confirm:
		if _, err := u.source.Confirm(ctx, d.Node); err != nil {
			u.unasked.Store(d.Node, err.Error())
		} else {
			u.unasked.Delete(d.Node)
		}
		return
	case nodelease.Ask:
		err = u.leases.Ask(ctx, lease, "Fairway asks the node's agent whether it lives: "+d.Says)
	case nodelease.Expire:
		err = u.leases.Expire(ctx, lease, d.Says)
	case nodelease.Remove:
		// Once more, since it cannot be taken back.
		deleted, unproven := u.source.Confirm(ctx, d.Node)
		if unproven != nil || !deleted {
			u.log.Warn("a node is not removed: it is not proven that it was deleted", "node", d.Node, "err", unproven)
			return
		}
		err = u.leases.Remove(ctx, lease)
	default:
		return
	}
	result := resultOK
	if err != nil {
		result = resultError
		u.log.Warn("write about a node failed", "op", string(d.Act), "node", d.Node, "reason", consul.Reason(err), "err", err)
	} else {
		u.log.Info("wrote about a node", "op", string(d.Act), "node", d.Node, "consul_node", lease.ConsulNode, "reason", d.Says)
	}
	u.metrics.nodeWrites.WithLabelValues(string(d.Act), result).Inc()
	if err == nil && d.Act == nodelease.Expire {
		u.events.Warn(d.Node, "EntriesHidden", "Clients are no longer given what Fairway has published of this node: "+d.Says)
	}
}

// tell tells people how the nodes stand, and what has changed.
func (u *undertaker) tell(plan nodelease.Plan) {
	u.metrics.stand(plan)
	before := u.stood
	u.stood = make(map[string]nodelease.Decision, len(plan.Decisions))
	frozen := 0
	for _, d := range plan.Decisions {
		u.stood[d.Node] = d
		if d.Reason == nodelease.Frozen {
			frozen++
		}
		was, known := before[d.Node]
		same := was.Reason == d.Reason && (d.Reason != nodelease.Unknown || was.Says == d.Says)
		if same || !known && d.Reason == nodelease.Alive {
			continue
		}
		u.log.Info("node", "node", d.Node, "state", string(d.Reason), "before", string(was.Reason), "reason", d.Says)
		if !u.leader.leads() {
			continue
		}
		switch {
		case d.Reason == nodelease.Frozen:
			u.events.Warn(d.Node, "NodesFrozen", d.Says+". If this node is off, say so: kubectl taint nodes "+d.Node+" node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
		case was.Reason == nodelease.Expired && d.Reason != nodelease.Gone:
			u.events.Note(d.Node, "EntriesShown", "Clients are given again what Fairway has published of this node: its agent is back")
		}
	}
	frozenSays := ""
	if frozen > 0 {
		frozenSays = fmt.Sprintf("%d nodes are frozen: %s at once", frozen, plan.Mass)
	}
	u.report.unblock(frozenSays)
}
