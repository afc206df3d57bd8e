package agent

import (
	"context"
	"errors"
	"maps"
	"time"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// opTimeout leaves Consul the 7 s for which it tries to reach its leader before
// it answers.
const opTimeout = 12 * time.Second

// writes are the publisher's writes under way, and what became of those before.
// They belong to the publisher's loop; a write itself is a goroutine that makes
// one call and sends its outcome.
type writes struct {
	most     int // at the same time
	done     chan outcome
	underway map[string]registration.Op // by instance ID: one at a time each
	failures map[string]*failure        // the last write of an entry, if it failed; by instance ID
	renewed  map[string]time.Time       // when an entry's dead-man was last restarted, by instance ID
	lost     map[string]bool            // what the servers do not hold as the registry does, by instance ID
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
		lost:     map[string]bool{},
	}
}

// background counts the writes under way that no client waits for, without
// upkeep.
func (w *writes) background() (n int) {
	for _, op := range w.underway {
		if op.Background() && !upkeep(op.Kind) {
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
	background := p.writes.background()
	for _, op := range plan.Ops {
		id := op.Instance.ID
		_, busy := p.writes.underway[id]
		failed := p.writes.failures[id]
		switch {
		case busy, planned[id]: // one at a time, in order
		case op.Kind == registration.Deregister && p.doubt: // it may be in service; once looked at, it is known (I4)
		case failed.holds(op, now):
			next = earlier(next, failed.next)
		case op.Background() && background >= p.registry.MostBackground(): // decided anew when one is done
		case len(p.writes.underway) < p.writes.most && ctx.Err() == nil:
			p.write(ctx, op)
			if op.Background() {
				background++
			}
		}
		planned[id] = true
	}
	next = earlier(next, p.launchUpkeep(ctx, planned, now))
	if len(p.writes.underway) == 0 { // else the view is taken anew when they are done
		next = earlier(next, p.viewAt.Add(p.resync))
	}
	p.forget(planned)
	refused := p.refused(plan)
	p.countFailures(refused)
	p.board.refuse(refused)
	return next
}

// write starts one call. One that has begun is finished even if the process is
// asked to stop.
func (p *publisher) write(ctx context.Context, op registration.Op) {
	p.writes.underway[op.Instance.ID] = op
	p.board.writing(op.Instance.ID)
	entry := p.view[op.Instance.ID]
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
		defer cancel()
		start := time.Now()
		var err error
		switch op.Kind {
		case renew:
			err = p.registry.Renew(ctx, []registration.Entry{entry})
		case push:
			err = p.registry.Push(ctx, entry)
		default:
			err = p.registry.Apply(ctx, op)
		}
		p.writes.done <- outcome{op: op, took: time.Since(start), err: err}
	}()
}

// finish takes in how a write ended.
func (p *publisher) finish(o outcome) {
	id := o.op.Instance.ID
	delete(p.writes.underway, id)
	delete(p.writes.lost, id) // the servers are asked again
	p.metrics.op(o.op.Kind, o.took, o.err)
	if o.err != nil {
		p.fail(o)
		return
	}
	if f := p.writes.failures[id]; f != nil && (!upkeep(o.op.Kind) || upkeep(f.op.Kind)) {
		delete(p.writes.failures, id) // upkeep says nothing of a write that failed
	}
	before, existed := p.view[id]
	switch {
	case o.op.Kind == registration.Register && (existed || o.op.Instance.Health != service.Critical):
		// Renewed, the registry keeps its health even through its own restart.
		// That comes after what is more urgent. What is new and critical is so
		// after a restart as well.
		delete(p.writes.renewed, id)
	case o.op.Kind != registration.Deregister:
		p.writes.renewed[id] = time.Now()
	}
	if upkeep(o.op.Kind) {
		p.board.wrote(id)
		if existed {
			before.Lapsed = false
			p.view[id] = before
		}
		return
	}
	p.took(o.op, serves(before, existed))
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
	p.board.wrote(o.op.Instance.ID)
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
// pod asks for, and failures of writes that nobody asks for any more.
func (p *publisher) forget(planned map[string]bool) {
	lives := func(id string) bool {
		_, held := p.view[id]
		return held || planned[id]
	}
	maps.DeleteFunc(p.writes.renewed, func(id string, _ time.Time) bool { return !lives(id) })
	maps.DeleteFunc(p.writes.lost, func(id string, _ bool) bool { return !lives(id) })
	maps.DeleteFunc(p.writes.failures, func(id string, f *failure) bool {
		return !lives(id) || !upkeep(f.op.Kind) && !planned[id]
	})
}

// refused says, by instance ID, what the registry does not take, and why.
func (p *publisher) refused(plan registration.Plan) map[string]string {
	refused := map[string]string{}
	for id, f := range p.writes.failures {
		if !upkeep(f.op.Kind) && f.refused {
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
