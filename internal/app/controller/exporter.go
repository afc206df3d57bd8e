package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
)

// exporter brings Consul to what the cluster's Services ask for. It is a loop that
// waits for no call: it decides from what it has seen of the API server and of the
// shards, starts what is to be done, and decides anew as each call ends. So what
// leaves service never queues behind what is slow. Every replica sees and decides;
// the one that leads writes.
type exporter struct {
	source  serviceSource
	shards  []*shard // by number
	ledger  *export.Ledger
	leader  *leadership
	leads   <-chan struct{} // leader.begins
	events  serviceEvents
	permits permission
	report  *report
	log     *slog.Logger
	metrics *exportMetrics
	pulse   *process.Pulse

	maxShare float64
	resync   time.Duration

	// The loop's own.
	calls     int         // under way
	ended     chan func() // calls that have ended, and what the loop does about it
	seen      bool        // the cluster, at least once
	answered  bool        // something was asked since the cluster was seen
	forgotten time.Time   // when proofs were last dropped
	underway  map[string]registration.Op
	failures  map[string]*failure
	due       map[string]time.Time        // since when, by instance ID
	asked     map[export.Object]*question // of export.Plan.Ask
	doubted   map[export.Object]*question // of export.Plan.Confirm
	confirmed map[export.Object]time.Time
	questions int // under way
	permitted permitted
	told      map[export.Object]stand
	untold    []untold
	frozen    map[export.Object]string      // what was told of removals, with the Services' UIDs
	refusals  map[export.Object]toldRefusal // of what was refused, until all is taken
}

// shard is one of the virtual nodes, as this loop knows it.
type shard struct {
	registry shardRegistry
	readAt   time.Time // zero if it is not known what it holds
	due      time.Time // when it is read again
	together bool      // it is read when all are
	doubt    bool      // a write failed, or somebody else may have written
	lapsed   bool      // the virtual node is not as it should be
	renewed  bool      // that was tried to put right since the last read
	reading  bool
	underway int // writes
	failures int // to read, in a row
	problem  string
	told     bool // how its Services stood at first
}

// newExporter makes an exporter that has seen nothing.
func newExporter(e exporter, registries []shardRegistry, policy export.Policy) *exporter {
	e.ledger = export.NewLedger(policy)
	writes := 0
	for _, registry := range registries {
		e.shards = append(e.shards, &shard{registry: registry, together: true})
		writes += registry.MostWrites()
	}
	e.ended = make(chan func(), writes) // so that what ends together is taken in together
	e.underway, e.failures = map[string]registration.Op{}, map[string]*failure{}
	e.asked, e.doubted = map[export.Object]*question{}, map[export.Object]*question{}
	e.confirmed, e.told = map[export.Object]time.Time{}, map[export.Object]stand{}
	return &e
}

// run works until ctx ends and every call under way has ended.
func (e *exporter) run(ctx context.Context) error {
	for {
		e.pulse.Beat()
		start := time.Now()
		wait := e.pass(ctx)
		took := time.Since(start)
		e.pulse.Rest()

		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			for e.calls > 0 {
				e.end(<-e.ended)
			}
			return ctx.Err()
		case <-e.source.Changed():
		case <-e.leads:
			for _, shard := range e.shards {
				shard.doubt, shard.together = true, true // another has written
			}
		case then := <-e.ended:
			e.end(then)
			e.gather(ctx, took)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// gather takes in calls that end within a time: as long as a turn takes, so that a
// registration of everything, in which a turn has much to plan, does not keep a core
// from doing anything else. What changes in the cluster does not wait for that.
func (e *exporter) gather(ctx context.Context, within time.Duration) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		select {
		case then := <-e.ended:
			e.end(then)
		case <-e.source.Changed():
			return
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// call makes a call that may take its time. What it returns is done by the loop.
func (e *exporter) call(ctx context.Context, do func(ctx context.Context) (then func())) {
	e.calls++
	go func() {
		ctx, cancel := context.WithTimeout(ctx, callWithin)
		defer cancel()
		e.ended <- do(ctx)
	}()
}

func (e *exporter) end(then func()) {
	e.calls--
	then()
}

// pass is one turn. It returns when the next is due if nothing happens before.
func (e *exporter) pass(ctx context.Context) time.Duration {
	now := time.Now()
	next := e.readShards(ctx, now)
	problem, ok := e.see(now)
	if !ok {
		e.report.block(problem)
		return time.Until(next) // the source tells when it has more
	}
	plan := e.ledger.Plan(export.Evidence{
		Now: now, MaxShare: e.maxShare, AllowedUntil: e.permitted.until, Confirmed: e.confirmed,
	})
	next = earlier(next, e.launch(ctx, plan, now))
	next = earlier(next, e.inquire(ctx, plan, now))
	e.tell(plan, problem)
	e.metrics.passSeconds.Observe(time.Since(now).Seconds())
	return max(0, time.Until(next))
}

// see takes in the cluster. It is not ok before the cluster has been seen as a
// whole; problem says what keeps it from being seen now.
func (e *exporter) see(now time.Time) (problem string, ok bool) {
	changed, all := e.source.Changes() // first: what changes now shows in the View, and is told of later
	view := e.source.View()
	switch {
	case !view.Synced:
		e.seen = false
		if view.Problem == "" {
			return "the lists of Services and of what belongs to them are not complete yet", false
		}
		return "the lists of Services and of what belongs to them are not complete yet: " + view.Problem, false
	case !e.seen || all:
		e.ledger.See(view.Cluster)
	case len(changed) > 0 || e.answered:
		e.ledger.SeeChanges(view.Cluster, changed)
	}
	e.seen, e.answered = true, false
	if now.Sub(e.forgotten) >= e.resync {
		e.forgotten = now
		e.forget(view.Cluster)
	}
	return view.Problem, true
}

// forget drops what is remembered of objects that nobody needs any more.
func (e *exporter) forget(cluster export.Cluster) {
	named := e.ledger.Named()
	e.source.Forget(func(object export.Object) bool { return named[object] })
	there := make(map[export.Object]bool, len(cluster.Services))
	for _, svc := range cluster.Services {
		there[svc.Object()] = true
	}
	maps.DeleteFunc(e.told, func(svc export.Object, _ stand) bool { return !there[svc] })
}

// readShards starts to read those of which nothing is known, or not whether it is
// still true. A shard that is written to would be seen before some writes and after
// others, so it is read when none is under way.
func (e *exporter) readShards(ctx context.Context, now time.Time) (next time.Time) {
	next = now.Add(e.resync)
	for number, shard := range e.shards {
		switch {
		case shard.reading || shard.underway > 0 || ctx.Err() != nil: // the end of a call is a turn
		case now.Before(shard.due) && !shard.doubt || now.Before(shard.retryAt()):
			next = earlier(next, later(shard.retryAt(), shard.due))
		default:
			e.read(ctx, number)
		}
	}
	return next
}

func (e *exporter) read(ctx context.Context, number int) {
	shard := e.shards[number]
	shard.reading = true
	e.call(ctx, func(ctx context.Context) func() {
		entries, changed, err := shard.registry.Refresh(ctx)
		return func() {
			now := time.Now()
			shard.reading = false
			if err != nil {
				e.unread(number, now, err)
				return
			}
			if shard.failures > 0 {
				e.readAgain(now)
			}
			shard.due = now.Add(e.resync)
			if shard.together { // from then on one after the other
				shard.due = now.Add(e.resync * time.Duration(number+1) / time.Duration(len(e.shards)))
			}
			shard.readAt, shard.together, shard.doubt, shard.failures, shard.problem, shard.renewed = now, false, false, 0, "", false
			if !changed {
				return
			}
			shard.lapsed = false
			for _, entry := range entries {
				shard.lapsed = shard.lapsed || entry.Lapsed
			}
			e.ledger.Read(number, entries)
		}
	})
}

// readAgain has all shards read now: Consul answers again, and what stands there of
// them may be another's word, such as that the cluster is dead.
func (e *exporter) readAgain(now time.Time) {
	for _, shard := range e.shards {
		shard.failures, shard.due, shard.together = 0, now, true
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// blocked says why not all that is to be written can be, if so.
func (e *exporter) blocked() string {
	unread, why := 0, ""
	for _, shard := range e.shards {
		if shard.readAt.IsZero() {
			unread++
			if shard.problem != "" {
				why = ": " + shard.problem
			}
		}
	}
	if unread == 0 {
		return ""
	}
	return fmt.Sprintf("%d of the %d shards with the entries of Services could not be read from Consul yet%s", unread, len(e.shards), why)
}
