package agent

import (
	"context"
	"maps"
	"time"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/registration"
)

const (
	// opTimeout leaves Consul's agent the 7 s for which it tries to reach a
	// server before it answers.
	opTimeout = 12 * time.Second
	// mostFlights bounds writes at the same time, mostRenewals how many of
	// them may be renewals, so that these never hold up a pod. An agent writes
	// one by one anyway; the others fill the time on the wire.
	mostFlights  = 16
	mostRenewals = 4
)

// flights are the publisher's writes under way, and what became of those
// before. They belong to the publisher's loop; a flight itself is a goroutine
// that makes one call and sends its landing.
type flights struct {
	landed  chan landing
	ops     map[string]registration.Op // under way, by instance ID: one at a time each
	trouble map[string]*trouble        // what failed, by instance ID
	renewed map[string]time.Time       // when an entry's dead-man was last restarted, by ID
}

// landing is how a write ended.
type landing struct {
	op   registration.Op
	took time.Duration
	err  error
}

// trouble is an entry whose last write failed.
type trouble struct {
	op     registration.Op
	reason string
	times  int
	next   time.Time // not to be tried before
}

// holds tells whether op is the one that failed, and is to wait. Another op is
// not held up by it: a pod that ends now must not wait for what was tried
// before.
func (t *trouble) holds(op registration.Op, now time.Time) bool {
	return t != nil && now.Before(t.next) && t.op.Kind == op.Kind && t.op.Instance.Health == op.Instance.Health
}

func newFlights() *flights {
	return &flights{
		landed:  make(chan landing, mostFlights),
		ops:     map[string]registration.Op{},
		trouble: map[string]*trouble{},
		renewed: map[string]time.Time{},
	}
}

func (f *flights) underway() int { return len(f.ops) }

func (f *flights) renewals() (n int) {
	for _, op := range f.ops {
		if op.Kind == renew {
			n++
		}
	}
	return n
}

// launch starts what the plan asks for, the most urgent first, then renewals
// that are due. It returns when to look again if nothing lands before.
func (p *publisher) launch(ctx context.Context, plan registration.Plan, now time.Time) time.Time {
	next := p.viewAt.Add(p.resync)
	planned := map[string]bool{}
	for _, op := range plan.Ops {
		id := op.Instance.ID
		_, flies := p.flights.ops[id]
		t := p.flights.trouble[id]
		switch {
		case flies, planned[id]: // one at a time, in order
		case t.holds(op, now):
			next = earlier(next, t.next)
		case p.flights.underway() < mostFlights && ctx.Err() == nil:
			p.fly(ctx, op)
		}
		planned[id] = true
	}
	next = earlier(next, p.launchRenewals(ctx, planned, now))
	p.forget(planned)
	p.board.refuse(p.refused(plan))
	return next
}

// launchRenewals restarts the dead-man of entries for which that is due: all
// when the process has begun, each again after renewEvery, and those that the
// servers were found not to have although the registry holds them: a renewal
// makes the agent push them. It returns when the next is due.
func (p *publisher) launchRenewals(ctx context.Context, planned map[string]bool, now time.Time) time.Time {
	for id := range p.board.takeLost() {
		delete(p.flights.renewed, id)
	}
	next := now.Add(p.renewEvery)
	for _, entry := range p.own() {
		id := entry.Instance.ID
		due := p.flights.renewed[id].Add(p.renewEvery)
		if t := p.flights.trouble[id]; t != nil && due.Before(t.next) {
			due = t.next // even if it was another kind of write that failed
		}
		_, flies := p.flights.ops[id]
		switch {
		case flies, planned[id], !entry.HasCheck: // what is written renews as well
		case now.Before(due):
			next = earlier(next, due)
		case p.flights.renewals() < mostRenewals && p.flights.underway() < mostFlights && ctx.Err() == nil:
			p.fly(ctx, registration.Op{Kind: renew, Instance: entry.Instance})
		}
	}
	return next
}

// fly makes one call. One that has begun is finished even if the process is
// asked to stop.
func (p *publisher) fly(ctx context.Context, op registration.Op) {
	p.flights.ops[op.Instance.ID] = op
	entry := p.view[op.Instance.ID]
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
		defer cancel()
		start := time.Now()
		var err error
		if op.Kind == renew {
			err = p.registry.Renew(ctx, []registration.Entry{entry})
		} else {
			err = p.registry.Apply(ctx, op)
		}
		p.flights.landed <- landing{op: op, took: time.Since(start), err: err}
	}()
}

// land takes in how a write ended.
func (p *publisher) land(l landing) {
	id := l.op.Instance.ID
	delete(p.flights.ops, id)
	p.metrics.op(l.op.Kind, l.took, l.err)
	if l.err != nil {
		p.crashed(l)
		return
	}
	delete(p.flights.trouble, id)
	switch l.op.Kind {
	case registration.Register:
		// Renewed, the registry keeps it even through its own restart. That
		// comes after what is more urgent.
		delete(p.flights.renewed, id)
	case registration.SetHealth, renew:
		p.flights.renewed[id] = time.Now()
	}
	if l.op.Kind == renew {
		return
	}
	before, existed := p.view[id]
	if after, exists := l.op.After(before, existed); exists {
		p.view[id] = after
	} else {
		delete(p.view, id)
	}
	p.board.applied(l.op)
	p.log.Info("registry changed", "op", l.op.Kind, "service", l.op.Instance.Name, "pod", l.op.Instance.Pod.String(),
		"health", l.op.Instance.Health, "reason", l.op.Reason, "id", id)
}

// crashed notes a failure, and logs it unless the entry failed for the same
// reason before. The registry may hold either state now, so the view is in
// doubt.
func (p *publisher) crashed(l landing) {
	p.doubt = true
	t := p.flights.trouble[l.op.Instance.ID]
	if t == nil {
		t = &trouble{}
		p.flights.trouble[l.op.Instance.ID] = t
	}
	reason := consul.Reason(l.err)
	if t.reason != reason {
		p.log.Warn("registry change failed; it is tried again", "op", l.op.Kind, "service", l.op.Instance.Name,
			"pod", l.op.Instance.Pod.String(), "reason", l.op.Reason, "err", l.err)
	}
	t.op, t.reason = l.op, reason
	t.next = time.Now().Add(min(p.resync, firstRetry<<min(t.times, 10)))
	t.times++
}

// forget drops what is remembered of entries that exist no more and that no
// pod asks for.
func (p *publisher) forget(planned map[string]bool) {
	lives := func(id string) bool {
		_, held := p.view[id]
		return held || planned[id]
	}
	maps.DeleteFunc(p.flights.renewed, func(id string, _ time.Time) bool { return !lives(id) })
	maps.DeleteFunc(p.flights.trouble, func(id string, _ *trouble) bool { return !lives(id) })
}

// refused says, by instance ID, what the registry does not take, and why.
func (p *publisher) refused(plan registration.Plan) map[string]string {
	refused := map[string]string{}
	for id, t := range p.flights.trouble {
		if t.op.Kind != renew {
			refused[id] = t.reason
		}
	}
	maps.Copy(refused, plan.Refused)
	return refused
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
