package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/service"
)

const (
	proveTimeout  = 15 * time.Second
	writeTimeout  = 5 * time.Second
	writeParallel = 8
	// settle is how long a reason to wait must last before it is written to
	// the pod. What is over sooner is not worth a write to the API server, and
	// the opening of a gate must not queue behind it.
	settle = time.Second
	// visible is how long the watch may take to show our own write. If it has
	// not by then, the write is made again.
	visible = 5 * time.Second
	// patience is how long a ready pod may wait before an Event says so:
	// kubectl describe shows Events, and of a condition not even the reason.
	patience = 10 * time.Second
	// idle is the longest time between two passes.
	idle = time.Minute
)

// gatekeeper opens the gates of pods whose instances the servers return to
// clients, and shows on every pod what is waited for and what is wrong with
// its annotations. It is a loop of its own.
type gatekeeper struct {
	source  podSource
	changed <-chan struct{}
	prover  prover
	writer  podWriter
	board   *board
	gates   []string // those that it opens, Fairway's own first
	log     *slog.Logger
	metrics *metrics
	pulse   *process.Pulse

	pods map[string]*pod // by UID; the loop's own
}

// pod is what the gatekeeper remembers of one pod.
type pod struct {
	service.Pod
	declared annotation.Result

	attempts   int       // see gate.Input
	askAt      time.Time // the servers are not asked before
	due, asked bool      // in this pass: its time had come; there was something to ask
	readySince time.Time // when this process first saw the pod ready but for our gate
	warned     bool      // an Event said that it waits for long
	verdict    gate.Verdict
	shown      map[string]*shown // by type of condition
}

// run works until ctx ends.
func (g *gatekeeper) run(ctx context.Context) error {
	g.pods = map[string]*pod{}
	for {
		g.pulse.Beat()
		wait := g.pass(ctx)
		g.pulse.Rest()

		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-g.changed:
		case <-g.board.published:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pass is one turn. It returns when the next is due if nothing happens before.
func (g *gatekeeper) pass(ctx context.Context) time.Duration {
	snapshot, synced := g.source.Snapshot()
	if !synced {
		return idle // the source tells when it is
	}
	g.remember(snapshot)
	waiting := g.waiting()
	proofs := g.prove(ctx, waiting)
	g.decide(waiting, proofs)
	g.show(ctx)
	g.count(waiting)
	return g.nextWait(waiting, time.Now())
}

// remember takes in the pods as they are now.
func (g *gatekeeper) remember(snapshot []service.Pod) {
	pods := make(map[string]*pod, len(snapshot))
	for _, now := range snapshot {
		p := g.pods[now.Ref.UID]
		if p == nil {
			p = &pod{shown: map[string]*shown{}}
		}
		if !reflect.DeepEqual(p.Pod, now) { // most pods are as they were
			p.Pod, p.declared = now, annotation.Parse(now)
		}
		pods[now.Ref.UID] = p
	}
	g.pods = pods
}

// waiting are the pods whose gate is not open, each with what the core says as
// long as nobody asks the servers.
func (g *gatekeeper) waiting() []*pod {
	_, refused := g.board.standing()
	var waiting []*pod
	for _, p := range g.pods {
		if !p.HasGate(g.gates...) || p.Terminating || p.Ended() || g.opened(p) {
			continue
		}
		now := time.Now()
		verdict := gate.Decide(gate.Input{
			Pod: p.Pod, Declared: p.declared, Gates: g.gates, Refused: refused, Attempts: p.attempts, Now: now,
		})
		if verdict.Open {
			continue
		}
		if health, _ := p.Status(p.declared.Excluded...); health != service.Passing {
			p.readySince = time.Time{}
		} else if p.readySince.IsZero() {
			p.readySince = now
		}
		if len(verdict.NeedsProof) == 0 {
			p.attempts, p.askAt = 0, time.Time{}
		}
		// Between two questions what was answered last still holds.
		if len(verdict.NeedsProof) == 0 || !now.Before(p.askAt) {
			p.verdict = verdict
		}
		waiting = append(waiting, p)
	}
	return waiting
}

// opened tells whether this process has opened the gates and the watch has not
// shown that yet.
func (g *gatekeeper) opened(p *pod) bool {
	closed := p.Closed(g.gates...)
	for _, kind := range closed {
		s := p.shown[kind]
		if s == nil || s.want.Status != service.ConditionTrue || !s.pending(p.Pod, kind, time.Now()) {
			return false
		}
	}
	return len(closed) > 0
}

// prove asks the servers about the instances that pods wait for, all in one go.
// It does not ask about what the registry does not hold as passing: that is
// known to be pointless, and the publisher tells when it changes.
func (g *gatekeeper) prove(ctx context.Context, waiting []*pod) map[string]gate.Proof {
	held, _ := g.board.standing()
	blocked := g.board.why()
	proofs := map[string]gate.Proof{}
	var ask []service.Instance
	now := time.Now()
	for _, p := range waiting {
		p.asked = false
		p.due = !now.Before(p.askAt)
		if !p.due {
			continue
		}
		for _, in := range p.verdict.NeedsProof {
			switch {
			case held[in.ID] != service.Passing:
				proofs[in.ID] = unpublished(blocked)
			default:
				ask = append(ask, in)
				p.asked = true
			}
		}
		if p.asked {
			p.attempts++
		}
	}
	if len(ask) == 0 {
		return proofs
	}
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	answers := g.prover.Prove(ctx, ask)
	g.metrics.proven(answers)
	maps.Copy(proofs, answers)
	g.pulse.Beat()
	return proofs
}

// unpublished is what is known of an instance that the registry does not hold
// as passing. blocked is why nothing can be published, empty if it can.
func unpublished(blocked string) gate.Proof {
	if blocked != "" {
		return gate.Proof{Detail: "not published: " + blocked}
	}
	return gate.Proof{Detail: "not registered as passing yet"}
}

// decide gives every waiting pod its verdict in the light of the proofs.
func (g *gatekeeper) decide(waiting []*pod, proofs map[string]gate.Proof) {
	_, refused := g.board.standing()
	for _, p := range waiting {
		if !p.due || len(p.verdict.NeedsProof) == 0 {
			continue
		}
		now := time.Now()
		p.verdict = gate.Decide(gate.Input{
			Pod: p.Pod, Declared: p.declared, Gates: g.gates, Proofs: proofs, Refused: refused, Attempts: p.attempts, Now: now,
		})
		p.askAt = time.Time{} // the publisher tells when there is something to ask
		if p.asked && !p.verdict.Open {
			p.askAt = now.Add(p.verdict.RetryAfter)
		}
	}
}

// show writes to the pods what has changed for them, several at a time.
func (g *gatekeeper) show(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(writeParallel)
	for _, p := range g.pods {
		if p.Terminating || p.Ended() {
			clear(p.shown) // nothing more is due
			continue
		}
		group.Go(func() error {
			// One pod's conditions are written one after the other, and a pod
			// belongs to one goroutine at a time.
			if p.verdict.Reason != "" {
				g.showGates(ctx, p)
			}
			g.showAnnotations(ctx, p)
			g.pulse.Beat()
			return nil
		})
	}
	_ = group.Wait()
}

// showGates writes the verdict to the gates that are not open, at once if it
// opens them. Those that are open never close again.
func (g *gatekeeper) showGates(ctx context.Context, p *pod) {
	closed := p.Closed(g.gates...)
	for _, kind := range g.gates {
		if !slices.Contains(closed, kind) {
			delete(p.shown, kind)
		}
	}
	if len(closed) == 0 {
		return
	}
	want := service.Condition{Status: service.ConditionFalse, Reason: p.verdict.Reason, Message: p.verdict.Message}
	if p.verdict.Open {
		want.Status = service.ConditionTrue
	}
	now := time.Now()
	if !p.readySince.IsZero() && !p.verdict.Open && !p.warned && now.Sub(p.readySince) >= patience {
		p.warned = true
		g.writer.Warn(p.Ref, p.verdict.Reason, "ready but for Fairway's gate for "+patience.String()+": "+p.verdict.Message)
	}
	written := false
	for _, kind := range closed {
		// What another's gate waits for is told by whoever it belongs to.
		if p.verdict.Open || kind == service.GateReachable {
			written = g.write(ctx, p, kind, want) || written
		}
	}
	if !written || !p.verdict.Open {
		return
	}
	g.metrics.gateOpened.Inc()
	var waited time.Duration
	if !p.readySince.IsZero() {
		waited = time.Since(p.readySince)
		g.metrics.gateWaitSeconds.Observe(waited.Seconds())
	}
	g.log.Info("gate opened", "pod", p.Ref.String(), "uid", p.Ref.UID, "waited", waited.Round(time.Millisecond).String(), "proof", p.verdict.Message)
	g.writer.Note(p.Ref, p.verdict.Reason, p.verdict.Message)
}

// showAnnotations writes whether the annotations were understood, once there
// was something to complain about.
func (g *gatekeeper) showAnnotations(ctx context.Context, p *pod) {
	const kind = service.ConditionAnnotations
	want := service.Condition{Status: service.ConditionTrue, Reason: "Valid", Message: "all annotations were understood"}
	if len(p.declared.Errors) > 0 {
		want = service.Condition{Status: service.ConditionFalse, Reason: gate.InvalidAnnotation, Message: problems(p.declared.Errors)}
	} else if p.Conditions[kind].Status != service.ConditionFalse {
		delete(p.shown, kind)
		return
	}
	if g.write(ctx, p, kind, want) && want.Status == service.ConditionFalse {
		g.log.Warn("annotations cannot be understood", "pod", p.Ref.String(), "reason", want.Message)
		g.writer.Warn(p.Ref, want.Reason, want.Message)
	}
}

// write writes a condition if the pod does not show it, and tells whether it
// did.
func (g *gatekeeper) write(ctx context.Context, p *pod, kind string, want service.Condition) bool {
	s := p.shown[kind]
	if s == nil {
		s = &shown{}
		p.shown[kind] = s
	}
	now := time.Now()
	if !s.due(p.Pod, kind, want, now) || ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := g.writer.SetCondition(ctx, p.Pod, kind, want)
	g.metrics.conditionWrites.WithLabelValues(result(err)).Inc()
	if err != nil {
		if s.failed(now) && !errors.Is(err, kube.ErrOtherPod) {
			g.log.Warn("a condition could not be written; it is tried again", "pod", p.Ref.String(), "condition", kind, "err", err)
		}
		return false
	}
	s.written(p.Pod, kind, want, time.Now())
	return true
}

func (g *gatekeeper) count(waiting []*pod) {
	pods, since := map[string]int{}, map[string]time.Time{}
	for _, p := range waiting {
		reason := p.verdict.Reason
		if p.verdict.Open && g.opened(p) {
			continue
		}
		pods[reason]++
		if first := since[reason]; !p.readySince.IsZero() && (first.IsZero() || p.readySince.Before(first)) {
			since[reason] = p.readySince
		}
	}
	for _, reason := range gate.Reasons() {
		g.metrics.gateWaiting.WithLabelValues(reason).Set(float64(pods[reason]))
		setSince(g.metrics.gateSince, reason, since[reason])
	}
	bad := 0
	for _, p := range g.pods {
		if len(p.declared.Errors) > 0 {
			bad++
		}
	}
	g.metrics.annotationErrors.Set(float64(bad))
}

// nextWait is how long until something is due that no event announces.
func (g *gatekeeper) nextWait(waiting []*pod, now time.Time) time.Duration {
	next := now.Add(idle)
	for _, p := range waiting {
		if !p.readySince.IsZero() && !p.warned {
			next = earlier(next, p.readySince.Add(patience))
		}
		if !p.askAt.IsZero() {
			next = earlier(next, p.askAt)
		}
	}
	for _, p := range g.pods {
		for _, s := range p.shown {
			if !s.next.IsZero() {
				next = earlier(next, s.next)
			}
		}
	}
	return max(time.Millisecond, next.Sub(now))
}
