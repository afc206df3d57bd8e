package controller

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consulimport"
)

const (
	// importRest keeps a loop that is never left alone from being all the process
	// does: a pass looks at everything, and is followed by so many times its length.
	importRest = 2
	// importAgain is how soon lists that were not complete are looked at again.
	importAgain = time.Second
	// importEvery is the longest time between two passes.
	importEvery = time.Minute
)

// importer makes Services of what ConsulImports ask for: it looks at what there is
// in Kubernetes and at what Consul says, has consulimport decide, and carries that
// out if this replica leads. It is a loop of its own.
type importer struct {
	source  importSource
	consul  consulServices
	leader  *leadership
	leads   <-chan struct{} // leader.begins
	report  *report
	log     *slog.Logger
	metrics *importMetrics
	pulse   *process.Pulse

	cluster string
	maxLoss float64

	// The loop's own.
	memory  consulimport.Memory
	backlog backlog
	held    map[consulimport.Ref]consulimport.Held // what people were told of
}

// run works until ctx ends.
func (i *importer) run(ctx context.Context) error {
	for {
		i.pulse.Beat()
		start := time.Now()
		wait := i.pass(ctx)
		rest := importRest * time.Since(start)
		i.pulse.Rest()
		if !pause(ctx, rest) {
			return ctx.Err()
		}
		timer := time.NewTimer(wait - rest)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-i.source.Changed():
		case <-i.consul.Changed():
		case <-i.leads:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pause waits, and tells whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// pass is one turn. It returns when the next is due if nothing happens before.
func (i *importer) pass(ctx context.Context) time.Duration {
	view := i.source.View()
	if view.Missing != "" {
		i.report.block(view.Missing)
		return importAgain
	}
	listings, answers := i.consul.View()
	now := time.Now()
	plan, memory := consulimport.Decide(consulimport.Input{
		Cluster: i.cluster, Now: now, MaxShare: i.maxLoss,
		Imports: view.Imports, Services: view.Services, Slices: view.Slices,
		Listings: listings, Answers: answers, Refused: i.backlog.refused(),
	}, i.memory)
	i.memory = memory
	i.consul.Follow(plan.Listings, plan.Answers, plan.Again)
	i.metrics.decided(plan, now)
	i.tell(plan, view.Silent)
	wait := importEvery
	if plan.Next > 0 {
		wait = min(wait, plan.Next)
	}
	if !i.leader.leads() {
		i.backlog = nil // how it stands is the leader's to know
		return wait
	}
	return min(wait, i.carryOut(ctx, view, plan))
}

// tell tells people what is held, what is not any more, and what cannot be watched.
func (i *importer) tell(plan consulimport.Plan, silent string) {
	before := i.held
	i.held = make(map[consulimport.Ref]consulimport.Held, len(plan.Held))
	counts := map[string]int{}
	for _, h := range plan.Held {
		i.held[h.Service] = h
		counts[h.Reason]++
		if before[h.Service].Reason == h.Reason {
			continue
		}
		level := slog.LevelInfo
		if h.Reason == consulimport.ReasonIndexWentBack || h.Reason == consulimport.ReasonFrozen {
			level = slog.LevelWarn // a person may have to look
		}
		i.log.Log(context.Background(), level, "endpoints stay as they are", "service", h.Service.String(), "import", h.Import.String(),
			"reason", h.Reason, "endpoints", h.Endpoints, "message", h.Message)
	}
	for service, h := range before {
		if _, holds := i.held[service]; !holds {
			i.log.Info("endpoints are as Consul has them again", "service", service.String(), "before", h.Reason)
		}
	}
	var details []string
	if silent != "" {
		details = append(details, "the API server is not heard of all that imports need: "+silent)
	}
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		details = append(details, numberOf(counts[reason], "imported Service stays as it is", "imported Services stay as they are")+": "+reason)
	}
	i.report.unblock(strings.Join(details, "\n"))
}
