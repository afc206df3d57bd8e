package controller

import (
	"context"
	"errors"
	"maps"
	"time"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
)

// firstRetry is the shortest wait after something failed.
const firstRetry = 250 * time.Millisecond

// againWithin is how soon it is seen that Consul answers again.
const againWithin = 10 * time.Second

// backoff is the wait after a number of failures in a row.
func backoff(failures int, most time.Duration) time.Duration {
	return min(most, firstRetry<<min(max(failures-1, 0), 10))
}

// failure is a write that failed, perhaps several times in a row.
type failure struct {
	op     registration.Op
	reason string
	// refused is true if Consul does not take it, rather than that it could not be
	// asked, or had to be read again.
	refused bool
	times   int
	next    time.Time // not to be tried before
}

// holds tells whether op is the one that failed, and is to wait. Another op is not
// held up by it.
func (f *failure) holds(op registration.Op, now time.Time) bool {
	return f != nil && now.Before(f.next) && f.op.Kind == op.Kind && f.op.Instance.Health == op.Instance.Health
}

// takes tells whether an op can be written to the shard now. While it is in doubt
// what the shard holds, nothing is written but what leaves service.
func (s *shard) takes(op registration.Op, now time.Time, resync time.Duration) bool {
	if s.readAt.IsZero() || s.reading || now.Sub(s.readAt) >= 2*resync {
		return false // what is under way ends, and the shard is read
	}
	return op.Leaves || !s.doubt && s.underway < s.registry.MostWrites()
}

// launch starts what the plan asks for, the most urgent first, at most one write for
// each entry at a time. It returns when to look again if nothing happens before.
func (e *exporter) launch(ctx context.Context, plan export.Plan, now time.Time) (next time.Time) {
	next = now.Add(e.resync)
	due := make(map[string]time.Time, len(plan.Ops))
	for _, op := range plan.Ops {
		id := op.Instance.ID
		if _, twice := due[id]; twice { // one after the other
			continue
		}
		if due[id] = now; !e.due[id].IsZero() {
			due[id] = e.due[id]
		}
		if _, busy := e.underway[id]; busy {
			continue
		}
		shard, failed := e.shardOf(op), e.failures[id]
		switch {
		case failed.holds(op, now):
			next = earlier(next, failed.next)
		case shard.takes(op, now, e.resync):
			e.write(ctx, shard, op)
		}
	}
	e.due = due
	maps.DeleteFunc(e.failures, func(id string, f *failure) bool {
		return due[id].IsZero() && now.After(f.next) // nobody asks for it any more
	})
	for _, shard := range e.shards {
		if shard.lapsed && !shard.renewed && shard.underway == 0 && shard.takes(registration.Op{}, now, e.resync) {
			e.renew(ctx, shard)
		}
	}
	return next
}

func (e *exporter) shardOf(op registration.Op) *shard {
	ref := op.Instance.Endpoint
	return e.shards[export.ShardOf(ref.Namespace, ref.Service)]
}

// writing is the context of a write that is begun now, if this replica may begin
// one. What was sent is finished, even if the process is asked to stop: nobody else
// knows how it ended. What was not sent by the end of the lead never is.
func (e *exporter) writing(ctx context.Context) (term context.Context, may bool) {
	term = e.leader.now()
	return term, term != nil && ctx.Err() == nil
}

func (e *exporter) write(ctx context.Context, shard *shard, op registration.Op) {
	term, may := e.writing(ctx)
	if !may {
		return
	}
	e.underway[op.Instance.ID] = op
	shard.underway++
	e.call(term, func(ctx context.Context) func() {
		start := time.Now()
		err := shard.registry.Apply(ctx, op)
		took := time.Since(start)
		return func() {
			delete(e.underway, op.Instance.ID)
			shard.underway--
			e.metrics.wrote(op.Kind, took, err)
			if err != nil {
				shard.doubt = true // it may hold either state now
				e.fail(op, err)
				return
			}
			delete(e.failures, op.Instance.ID)
			e.took(op)
			e.ledger.Wrote(op)
			e.log.Info("Consul changed", "op", string(op.Kind), "service", op.Instance.Name, "endpoint", op.Instance.Endpoint.String(),
				"health", string(op.Instance.Health), "reason", op.Reason)
		}
	})
}

// fail notes a failure, and logs it unless the entry failed for the same reason
// before.
func (e *exporter) fail(op registration.Op, err error) {
	f := e.failures[op.Instance.ID]
	if f == nil {
		f = &failure{}
		e.failures[op.Instance.ID] = f
	}
	reason := consul.Reason(err)
	if f.reason != reason {
		e.log.Warn("a change in Consul failed; it is tried again", "op", string(op.Kind), "service", op.Instance.Name,
			"endpoint", op.Instance.Endpoint.String(), "reason", op.Reason, "err", err)
	}
	f.op, f.reason, f.times = op, reason, f.times+1
	f.refused = !errors.Is(err, consul.ErrUnavailable) && !errors.Is(err, consul.ErrConflict)
	f.next = time.Now().Add(backoff(f.times, e.resync))
}

// renew puts a virtual node right that somebody else has changed. If that fails, it is
// tried again when the shard is next read.
func (e *exporter) renew(ctx context.Context, shard *shard) {
	term, may := e.writing(ctx)
	if !may {
		return
	}
	shard.underway++
	e.call(term, func(ctx context.Context) func() {
		err := shard.registry.Renew(ctx, []registration.Entry{{}})
		return func() {
			shard.underway--
			shard.renewed, shard.lapsed = true, err != nil
			if err != nil {
				e.log.Warn("a virtual node is not as it should be, and could not be put right", "reason", consul.Reason(err), "err", err)
			}
		}
	})
}

// unread notes that a shard could not be read: nothing is known of it, so nothing is
// written there, and nothing taken away.
func (e *exporter) unread(number int, now time.Time, err error) {
	shard := e.shards[number]
	reason := consul.Reason(err)
	if shard.problem != reason {
		e.log.Warn("a shard could not be read; nothing is written there for now, and nothing taken away",
			"shard", number, "reason", reason, "err", err)
	}
	shard.readAt, shard.problem = time.Time{}, reason
	shard.failures++
	shard.due = now.Add(backoff(shard.failures, min(e.resync, againWithin)))
	e.metrics.readFailures.Inc()
}

// retryAt is when a shard that could not be read may be read again.
func (s *shard) retryAt() time.Time {
	if s.failures == 0 {
		return time.Time{}
	}
	return s.due
}
