package agent

import (
	"context"
	"errors"
	"maps"
	"time"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/registration"
)

const (
	// opTimeout leaves Consul the 7 s for which it tries to reach its leader
	// before it answers.
	opTimeout = 12 * time.Second
	// mostRenewals is how many of the writes at the same time may be renewals,
	// so that these never hold up a pod.
	mostRenewals = 4
)

// writes are the publisher's writes under way, and what became of those before.
// They belong to the publisher's loop; a write itself is a goroutine that makes
// one call and sends its outcome.
type writes struct {
	most     int // at the same time
	done     chan outcome
	underway map[string]registration.Op // by instance ID: one at a time each
	failures map[string]*failure        // the last write of an entry, if it failed; by instance ID
	renewed  map[string]time.Time       // when an entry's dead-man was last restarted, by instance ID
}

// outcome is how a write ended.
type outcome struct {
	op   registration.Op
	took time.Duration
	err  error
}

// failure is a write that failed, perhaps several times in a row.
type failure struct {
	op     registration.Op
	reason string
	// refused is false if the registry only could not be reached, or had to be
	// looked at again first.
	refused bool
	times   int
	next    time.Time // not to be tried before
}

// holds tells whether op is the one that failed, and is to wait. Another op is
// not held up by it: a pod that ends now must not wait for what was tried
// before.
func (f *failure) holds(op registration.Op, now time.Time) bool {
	return f != nil && now.Before(f.next) && f.op.Kind == op.Kind && f.op.Instance.Health == op.Instance.Health
}

func newWrites(most int) *writes {
	return &writes{
		most:     most,
		done:     make(chan outcome, most),
		underway: map[string]registration.Op{},
		failures: map[string]*failure{},
		renewed:  map[string]time.Time{},
	}
}

func (w *writes) renewals() (n int) {
	for _, op := range w.underway {
		if op.Kind == renew {
			n++
		}
	}
	return n
}

// launch starts what the plan asks for, the most urgent first, then renewals
// that are due. It returns when to look again if nothing happens before.
func (p *publisher) launch(ctx context.Context, plan registration.Plan, now time.Time) time.Time {
	next := now.Add(p.resync)
	planned := map[string]bool{}
	for _, op := range plan.Ops {
		id := op.Instance.ID
		_, busy := p.writes.underway[id]
		failed := p.writes.failures[id]
		switch {
		case busy, planned[id]: // one at a time, in order
		case failed.holds(op, now):
			next = earlier(next, failed.next)
		case len(p.writes.underway) < p.writes.most && ctx.Err() == nil:
			p.write(ctx, op)
		}
		planned[id] = true
	}
	next = earlier(next, p.launchRenewals(ctx, planned, now))
	if len(p.writes.underway) == 0 { // else the view is taken anew when they are done
		next = earlier(next, p.viewAt.Add(p.resync))
	}
	p.forget(planned)
	p.board.refuse(p.refused(plan))
	return next
}

// launchRenewals restarts the dead-man of entries for which that is due: all
// when the process has begun, each again after renewEvery, those that have
// lapsed, and those that the servers were found not to have although the
// registry holds them: a renewal makes the agent push them. It returns when the
// next is due.
//
// Without renewEvery only what has lapsed is renewed. What the servers do not
// have then means that the view is wrong, and it is taken anew.
func (p *publisher) launchRenewals(ctx context.Context, planned map[string]bool, now time.Time) time.Time {
	lost := p.board.takeLost()
	for id := range lost {
		delete(p.writes.renewed, id)
	}
	next := now.Add(max(p.renewEvery, p.resync))
	if p.renewEvery == 0 && len(lost) > 0 {
		p.doubt, next = true, now
	}
	for _, entry := range p.own() {
		id := entry.Instance.ID
		due := p.renewalDue(entry, now)
		_, busy := p.writes.underway[id]
		switch {
		case due.IsZero(), busy, planned[id], !entry.HasCheck: // what is written renews as well
		case now.Before(due):
			next = earlier(next, due)
		case p.writes.renewals() < mostRenewals && len(p.writes.underway) < p.writes.most && ctx.Err() == nil:
			p.write(ctx, registration.Op{Kind: renew, Instance: entry.Instance})
		}
	}
	return next
}

// renewalDue is when to renew an entry, zero if never.
func (p *publisher) renewalDue(entry registration.Entry, now time.Time) time.Time {
	id := entry.Instance.ID
	due := p.writes.renewed[id].Add(p.renewEvery)
	switch {
	case entry.Lapsed:
		due = now
	case p.renewEvery == 0:
		return time.Time{}
	}
	if failed := p.writes.failures[id]; failed != nil && due.Before(failed.next) {
		due = failed.next // even if it was another kind of write that failed
	}
	return due
}

// write starts one call. One that has begun is finished even if the process is
// asked to stop.
func (p *publisher) write(ctx context.Context, op registration.Op) {
	p.writes.underway[op.Instance.ID] = op
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
		p.writes.done <- outcome{op: op, took: time.Since(start), err: err}
	}()
}

// finish takes in how a write ended.
func (p *publisher) finish(o outcome) {
	id := o.op.Instance.ID
	delete(p.writes.underway, id)
	p.metrics.op(o.op.Kind, o.took, o.err)
	if o.err != nil {
		p.fail(o)
		return
	}
	delete(p.writes.failures, id)
	switch o.op.Kind {
	case registration.Register:
		// Renewed, the registry keeps it even through its own restart. That
		// comes after what is more urgent.
		delete(p.writes.renewed, id)
	case registration.SetHealth, renew:
		p.writes.renewed[id] = time.Now()
	}
	before, existed := p.view[id]
	if o.op.Kind == renew {
		if existed {
			before.Lapsed = false
			p.view[id] = before
		}
		return
	}
	if after, exists := o.op.After(before, existed); exists {
		p.view[id] = after
	} else {
		delete(p.view, id)
	}
	p.board.applied(o.op)
	p.log.Info("registry changed", "op", o.op.Kind, "service", o.op.Instance.Name, "pod", o.op.Instance.Pod.String(),
		"health", o.op.Instance.Health, "reason", o.op.Reason, "id", id)
}

// fail notes a failure, and logs it unless the entry failed for the same
// reason before. The registry may hold either state now, so the view is in
// doubt.
func (p *publisher) fail(o outcome) {
	p.doubt = true
	f := p.writes.failures[o.op.Instance.ID]
	if f == nil {
		f = &failure{}
		p.writes.failures[o.op.Instance.ID] = f
	}
	reason := consul.Reason(o.err)
	if f.reason != reason {
		p.log.Warn("registry change failed; it is tried again", "op", o.op.Kind, "service", o.op.Instance.Name,
			"pod", o.op.Instance.Pod.String(), "reason", o.op.Reason, "err", o.err)
	}
	f.op, f.reason = o.op, reason
	f.refused = !errors.Is(o.err, consul.ErrUnavailable) && !errors.Is(o.err, consul.ErrConflict)
	f.next = time.Now().Add(min(p.resync, firstRetry<<min(f.times, 10)))
	f.times++
}

// forget drops what is remembered of entries that exist no more and that no
// pod asks for.
func (p *publisher) forget(planned map[string]bool) {
	lives := func(id string) bool {
		_, held := p.view[id]
		return held || planned[id]
	}
	maps.DeleteFunc(p.writes.renewed, func(id string, _ time.Time) bool { return !lives(id) })
	maps.DeleteFunc(p.writes.failures, func(id string, _ *failure) bool { return !lives(id) })
}

// refused says, by instance ID, what the registry does not take, and why.
func (p *publisher) refused(plan registration.Plan) map[string]string {
	refused := map[string]string{}
	for id, f := range p.writes.failures {
		if f.op.Kind != renew && f.refused {
			refused[id] = f.reason
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
