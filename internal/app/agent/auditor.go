package agent

import (
	"context"
	"log/slog"
	"time"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/service"
)

const (
	// auditTimeout leaves Consul the 7 s for which it tries to reach its leader.
	auditTimeout = 15 * time.Second
	// auditAfter is how long after a change the servers are asked whether they
	// hold it: by then the registry has told them.
	auditAfter = time.Second
	// auditPace is the shortest time between two answers of the watch. While
	// many entries change each of them is about all.
	auditPace = 100 * time.Millisecond
	// A difference that a push did not end is pushed again after the first of
	// these, then twice that, up to the second.
	pushFirst, pushLongest = time.Second, 30 * time.Second
)

// auditor compares what the servers hold with what the registry holds for
// them, and has the publisher push what they lack. What was told to the servers
// may be lost: a client agent only logs that, and a new leader may drop a node
// that it has not heard of. It is a loop of its own.
type auditor struct {
	watcher watcher
	board   *board
	log     *slog.Logger
	metrics *metrics
	pulse   *process.Pulse

	// The loop's own.
	audited map[string]standing // what was compared last
	wait    time.Duration       // before the next push of what still differs
}

// run works until ctx ends.
func (a *auditor) run(ctx context.Context) error {
	views := make(chan map[string]service.Health)
	go a.watch(ctx, views)
	due := time.Now()
	for {
		timer := time.NewTimer(max(0, time.Until(due)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-a.board.written:
			due = earlier(due, time.Now().Add(auditAfter))
		case view := <-views:
			when := time.Now().Add(auditAfter)
			if len(differing(a.audited, a.board.standings(), view)) > 0 {
				when = time.Now() // what was there has changed, and not through us
			}
			due = earlier(due, when)
		case <-timer.C:
			due = a.audit(ctx)
		}
		timer.Stop()
	}
}

// watch sends what the servers hold whenever that changes. That it cannot be
// found out is told to the publisher: the registry may have been started anew,
// and hold nothing.
func (a *auditor) watch(ctx context.Context, views chan<- map[string]service.Health) {
	var index uint64
	for ctx.Err() == nil {
		held, next, err := a.watcher.Next(ctx, index)
		if index = next; err != nil {
			a.board.record.serversAway(consul.Reason(err))
			a.board.distrust()
			pause(ctx, auditPace)
			continue
		}
		a.board.record.atServers(held.Health, time.Now())
		a.metrics.serversAnswered.SetToCurrentTime()
		if held.Disturbed {
			a.board.distrust() // somebody takes this node for dead, or asks whether it is
		}
		select {
		case views <- held.Health:
		case <-ctx.Done():
		}
		pause(ctx, auditPace)
	}
}

// audit compares once. It returns when the next comparison is due if nothing
// happens before.
func (a *auditor) audit(ctx context.Context) time.Time {
	a.pulse.Beat()
	defer a.pulse.Rest()
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	before := a.board.standings()
	held, _, err := a.watcher.Next(ctx, 0)
	if err != nil {
		a.board.record.serversAway(consul.Reason(err))
		a.metrics.audits.WithLabelValues("unknown").Inc()
		a.log.Debug("the servers could not be asked what they hold", "reason", consul.Reason(err), "err", err)
		return time.Now().Add(pushFirst)
	}
	servers := held.Health
	a.board.record.atServers(servers, time.Now())
	a.metrics.serversAnswered.SetToCurrentTime()
	a.audited = a.board.standings()
	lost := differing(before, a.audited, servers)
	a.metrics.differing.Set(float64(len(lost)))
	if len(lost) == 0 {
		a.metrics.audits.WithLabelValues("same").Inc()
		a.wait = 0
		return time.Now().Add(idle)
	}
	a.metrics.audits.WithLabelValues("different").Inc()
	for _, id := range lost {
		held := string(servers[id])
		if held == "" {
			held = "nothing"
		}
		a.log.Warn("the servers do not hold what they were told; it is pushed again", "id", id, "want", before[id].health, "have", held)
	}
	a.board.push(lost)
	a.wait = min(max(pushFirst, 2*a.wait), pushLongest)
	return time.Now().Add(a.wait)
}

// differing are the entries that the servers hold otherwise, or not at all,
// although they have been as they are since before the servers were asked.
func differing(before, after map[string]standing, servers map[string]service.Health) []string {
	var ids []string
	for id, was := range before {
		if !was.busy() && after[id] == was && servers[id] != was.health {
			ids = append(ids, id)
		}
	}
	return ids
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
