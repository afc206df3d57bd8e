package agent

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

const (
	// observeTimeout leaves Consul the 7 s for which it tries to reach its
	// leader before it answers.
	observeTimeout = 15 * time.Second
	// firstRetry is the shortest wait after something failed.
	firstRetry = 250 * time.Millisecond
	// hurryFor is how long a registry that does not answer is asked in a hurry.
	hurryFor = 500 * time.Millisecond
)

// publisher brings the registry to what the pods ask for. It is a loop of its
// own that never waits for a write: it decides from its view of the registry,
// starts the writes, and decides anew as each is done. So a pod that ends now
// does not queue behind one that is slow to register.
type publisher struct {
	cluster, node string
	resync        time.Duration
	hurry         time.Duration // the wait until a registry that does not answer is asked again, for hurryFor; later it grows
	checkTTL      time.Duration // of entries whose pod asks for none; zero if entries have none at all

	source   podSource
	changed  <-chan struct{}
	registry registry
	board    *board
	breaker  *breaker
	// handsBack is true if entries may have to make way for katalog-sync's.
	handsBack bool
	log       *slog.Logger
	metrics   *metrics
	pulse     *process.Pulse

	// The loop's own.
	view     map[string]registration.Entry // by ID: as last observed, plus the writes done since
	viewAt   time.Time                     // when it was observed; zero if the registry is unknown
	doubt    bool                          // a write failed: the view must be taken anew
	desired  map[string]desire             // what pods ask for, by instance ID
	failedAt time.Time                     // when observations began to fail; zero if they do not
	retryAt  time.Time                     // no observation before
	wants    map[string]want               // what the pods asked for in the last pass, by UID
	writes   *writes
}

// run works until ctx ends and every write under way is done.
func (p *publisher) run(ctx context.Context) error {
	p.writes = newWrites(p.registry.MostWrites())
	for {
		p.pulse.Beat()
		wait := p.pass(ctx)
		p.board.passed()
		p.pulse.Rest()

		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			for len(p.writes.underway) > 0 {
				p.finish(<-p.writes.done)
			}
			return ctx.Err()
		case <-p.changed:
		case <-p.board.reassert:
		case o := <-p.writes.done:
			p.finish(o)
			for range len(p.writes.done) { // those that have ended meanwhile
				p.finish(<-p.writes.done)
			}
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pass is one turn. It returns when the next is due if nothing happens before.
func (p *publisher) pass(ctx context.Context) time.Duration {
	start := time.Now()
	lost, distrusted := p.board.takeDoubts()
	maps.Copy(p.writes.lost, lost)
	p.doubt = p.doubt || distrusted || len(lost) > 0
	pods, synced := p.source.Snapshot()
	if !synced {
		p.blocked("the list of the node's pods is not complete yet", nil)
		return p.resync // the source tells when it is
	}
	p.metrics.synced.Set(1)
	states := p.states(pods)
	p.desire(states, start)
	if p.handsBack && !p.board.handedBack() {
		p.blocked("it is not known yet what katalog-sync has registered", nil)
		return p.resync // the successor tells when it is
	}
	if wait, ok := p.look(ctx, start); !ok {
		return wait
	}
	input := p.input(states)
	plan := p.breaker.restrain(registration.Decide(input), input, pods, start)
	p.count(input, plan)
	next := p.launch(ctx, plan, start)
	p.note(input, plan, start)
	p.board.stand(p.leaving(input.Claims))
	p.metrics.passSeconds.Observe(time.Since(start).Seconds())
	return max(0, time.Until(next))
}

// look takes the view anew if it is due. It tells whether the view can be
// decided from, and if not, when to try again. While writes are under way it
// would see some before and some after, so it waits for them; and if that
// takes too long, no more are started until they are done.
func (p *publisher) look(ctx context.Context, now time.Time) (time.Duration, bool) {
	age := now.Sub(p.viewAt)
	switch {
	case !p.doubt && age < p.resync:
		return 0, true
	case len(p.writes.underway) > 0:
		return p.resync, !p.viewAt.IsZero() && age < 2*p.resync
	case now.Before(p.retryAt):
		return p.retryAt.Sub(now), false
	}
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	entries, err := p.registry.Observe(ctx)
	if err != nil {
		p.metrics.observeFailures.Inc()
		if !p.viewAt.IsZero() || p.failedAt.IsZero() {
			p.viewAt, p.failedAt = time.Time{}, now
		}
		// What comes back may have lost all it held, and will tell the servers
		// so: then there is little time to register again.
		wait := min(p.resync, max(p.hurry, now.Sub(p.failedAt)/(hurryFor/p.hurry)))
		p.retryAt = now.Add(wait)
		p.blocked(consul.Reason(err), err)
		return wait, false
	}
	p.view = make(map[string]registration.Entry, len(entries))
	for _, entry := range entries {
		p.view[entry.Instance.ID] = entry
	}
	p.viewAt, p.doubt, p.failedAt = now, false, time.Time{}
	p.metrics.registryRead.SetToCurrentTime()
	if p.board.block("") {
		p.log.Info("publishing: the pods and the registry can be read")
	}
	return 0, true
}

// blocked says, once, that and why nothing is published.
func (p *publisher) blocked(why string, err error) {
	if !p.board.block(why) {
		return
	}
	attrs := []any{"reason", why}
	if err != nil {
		attrs = append(attrs, "err", err)
	}
	p.log.Warn("nothing is published for now, and nothing is taken away", attrs...)
	p.board.published.fire()
}

// states are the pods with what each asks for.
func (p *publisher) states(pods []service.Pod) []registration.Claim {
	states := make([]registration.Claim, 0, len(pods))
	gated, declared := 0, 0
	left := p.leavers(pods, time.Now())
	wants := make(map[string]want, len(pods))
	for _, pod := range pods {
		pod.Terminating = pod.Terminating || left[pod.Ref.UID]
		want := p.want(pod)
		wants[pod.Ref.UID] = want
		states = append(states, want.state)
		if want.declared {
			declared++
		}
		if pod.Gated() {
			gated++
		}
	}
	p.wants = wants
	p.metrics.pods.WithLabelValues("all").Set(float64(len(pods)))
	p.metrics.pods.WithLabelValues("declared").Set(float64(declared))
	p.metrics.pods.WithLabelValues("gated").Set(float64(gated))
	return states
}

// input is the picture from which to decide.
func (p *publisher) input(pods []registration.Claim) registration.Input {
	input := registration.Input{
		Cluster: p.cluster, Node: p.node, Claims: pods, Yielded: p.board.yields(),
		Entries: make([]registration.Entry, 0, len(p.view)),
	}
	keep := make(map[string]bool, len(p.view))
	for _, entry := range p.view {
		input.Entries = append(input.Entries, entry)
		keep[entry.Instance.Pod.UID] = true
	}
	input.Gone = p.source.Gone(keep)
	return input
}

// want is what a pod asks for, as long as it is as it is.
type want struct {
	pod      service.Pod
	declared bool
	state    registration.Claim
}

// want is what the pod asks for. Most pods are as they were in the last pass,
// and there is a pass for each change of any.
func (p *publisher) want(pod service.Pod) want {
	if last, ok := p.wants[pod.Ref.UID]; ok && reflect.DeepEqual(last.pod, pod) {
		return last
	}
	parsed := annotation.Parse(pod)
	return want{pod: pod, declared: parsed.Declared, state: registration.Want(pod, parsed, p.cluster, p.node, p.checkTTL)}
}

func (p *publisher) count(input registration.Input, plan registration.Plan) {
	desired := 0
	for _, pod := range input.Claims {
		desired += len(pod.Instances)
	}
	p.metrics.entries.WithLabelValues("desired").Set(float64(desired))
	p.metrics.entries.WithLabelValues("observed").Set(float64(len(input.Entries) - plan.Foreign))
	p.metrics.entries.WithLabelValues("held").Set(float64(len(plan.Held)))
	p.metrics.entries.WithLabelValues("replaced").Set(float64(len(plan.Replaced)))
	p.metrics.entries.WithLabelValues("foreign").Set(float64(plan.Foreign))
	p.board.observed(input.Entries)
}

// own are those of the entries that are of this cluster and node, by ID.
func (p *publisher) own(entries iter.Seq[registration.Entry]) []registration.Entry {
	var own []registration.Entry
	for entry := range entries {
		if p.owns(entry) {
			own = append(own, entry)
		}
	}
	slices.SortFunc(own, func(a, b registration.Entry) int { return strings.Compare(a.Instance.ID, b.Instance.ID) })
	return own
}

func (p *publisher) owns(entry registration.Entry) bool {
	return entry.Cluster == p.cluster && entry.Node == p.node
}

// handOver is the last thing a publisher does: it renews the checks, so that
// the next process has their whole TTL to begin. If that fails, what is left of
// the TTL has to do, and does.
func (p *publisher) handOver(ctx context.Context) error {
	entries, err := p.registry.Observe(ctx)
	if err != nil {
		return err
	}
	own := slices.DeleteFunc(entries, func(e registration.Entry) bool { return !p.owns(e) })
	return p.registry.Renew(ctx, own)
}
