package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/drain"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/service"
)

const (
	// longestWait bounds a call whose caller sets no deadline.
	longestWait = 10 * time.Minute
	// recheck is how often a wait looks anew without being told of a change.
	recheck = 5 * time.Second
	// answerTime is how long before the caller's deadline a wait ends, so that
	// its answer still arrives. It is a tenth of the time at most.
	answerTime = 200 * time.Millisecond
)

// waits answers pods that ask about themselves: may I be sent requests, may I
// stop. Each call is a loop in the caller's goroutine that ends with it; it
// looks at what the publisher has done and asks the servers itself.
type waits struct {
	source  podSource
	prover  prover
	board   *board
	writer  podWriter
	log     *slog.Logger
	metrics *metrics
	// stopping is closed when this process stops, which callers outlive.
	stopping <-chan struct{}
}

// progress is what a call waits for, or that it has come.
type progress struct {
	done   bool
	failed bool // it will never come
	reason string
	text   string
	since  time.Time

	asks       []service.Instance
	retryAfter time.Duration
}

// drain takes the pod out of service and waits until the servers give none of
// it to clients, at most until ctx ends. tell is called with each change of
// what is waited for.
func (w *waits) drain(ctx context.Context, pod service.PodRef, tell func(progress) error) (progress, error) {
	start := time.Now()
	w.log.Info("a pod asks to be taken out of service", "pod", pod.String(), "uid", pod.UID)
	look := func(proofs map[string]gate.Proof, attempts int) progress {
		w.board.leave(pod.UID, start) // again each time: the publisher may have let it stay
		v := drain.Decide(drain.Input{
			Standing: w.board.standingOf(pod.UID), Blocked: w.board.why(), Proofs: proofs, Attempts: attempts, Now: time.Now(),
		})
		return progress{done: v.Out, reason: v.Reason, text: v.Message, asks: v.NeedsProof, retryAfter: v.RetryAfter}
	}
	var waiting string // counted under this reason
	count := func(reason string) {
		if waiting != "" {
			w.metrics.drainWaiting.WithLabelValues(waiting).Dec()
		}
		if waiting = reason; reason != "" {
			w.metrics.drainWaiting.WithLabelValues(reason).Inc()
		}
	}
	defer count("")
	until := waitUntil(ctx)
	note := func(p progress, ended string) {
		w.board.record.draining(nodeview.Drain{
			Pod: nodeview.Ref(pod), Asked: start, Out: p.done, Reason: p.reason, Message: p.text, Since: p.since, Until: until, Ended: ended,
		})
	}
	p, err := w.wait(ctx, look, w.prove, func(p progress) error {
		count(p.reason)
		note(p, "")
		return tell(p)
	})
	took := time.Since(start)
	switch {
	case err == nil:
		note(p, "out")
		w.metrics.drains.WithLabelValues("out").Inc()
		w.metrics.drainSeconds.Observe(took.Seconds())
		w.log.Info("a pod is out of service", "pod", pod.String(), "uid", pod.UID, "took", took.Round(time.Millisecond).String(), "proof", p.text)
	case w.stops():
		note(p, "broken-off")
		w.metrics.drains.WithLabelValues("broken-off").Inc()
	default: // in time, or the pod was killed before
		note(p, "not-confirmed")
		w.metrics.drains.WithLabelValues("not-confirmed").Inc()
		w.log.Warn("a pod was not confirmed out of service in time", "pod", pod.String(), "uid", pod.UID, "reason", p.reason, "detail", p.text)
		w.writer.Warn(pod, "DrainNotConfirmed", "not confirmed out of service after "+took.Round(time.Second).String()+": "+p.text)
	}
	return p, err
}

func (w *waits) stops() bool {
	select {
	case <-w.stopping:
		return true
	default:
		return false
	}
}

// reachable waits until the servers give every instance of the pod to clients,
// whether or not the pod has the readiness gate.
func (w *waits) reachable(ctx context.Context, ref service.PodRef, tell func(progress) error) (progress, error) {
	look := func(proofs map[string]gate.Proof, attempts int) progress {
		pod, ok := w.pod(func(pod service.Pod) bool { return pod.Ref == ref })
		if !ok {
			return progress{reason: drain.WaitingForAgent, text: "the node's agent has not seen the pod yet"}
		}
		if !pod.Gated() {
			pod.Gates = append(slices.Clip(pod.Gates), service.Gate{Type: service.GateReachable})
		}
		_, refused := w.board.standing()
		v := gate.Decide(gate.Input{
			Pod: pod, Declared: annotation.Parse(pod), Proofs: proofs, Refused: refused, Attempts: attempts, Now: time.Now(),
		})
		return progress{
			done: v.Open, failed: v.Reason == gate.Terminating || v.Reason == gate.Ended,
			reason: v.Reason, text: v.Message, asks: v.NeedsProof, retryAfter: v.RetryAfter,
		}
	}
	return w.wait(ctx, look, w.askRegistered, tell)
}

// pod finds a pod of the node. What is not on the list is not known.
func (w *waits) pod(is func(service.Pod) bool) (service.Pod, bool) {
	pods, synced := w.source.Snapshot()
	if i := slices.IndexFunc(pods, is); synced && i >= 0 {
		return pods[i], true
	}
	return service.Pod{}, false
}

// askRegistered asks the servers about what is registered as passing; of the
// rest they would not know.
func (w *waits) askRegistered(ctx context.Context, instances []service.Instance) map[string]gate.Proof {
	held, _ := w.board.standing()
	yields := w.board.yields()
	proofs := map[string]gate.Proof{}
	var ask []service.Instance
	for _, in := range instances {
		if yields[in.ID] != "" { // the servers were seen to give katalog-sync's to clients
			proofs[in.ID] = gate.Proof{Finding: gate.Passing, At: time.Now()}
			continue
		}
		if held[in.ID] == service.Passing {
			ask = append(ask, in)
			continue
		}
		proofs[in.ID] = unpublished(w.board.why())
	}
	if len(ask) == 0 {
		return proofs
	}
	maps.Copy(proofs, w.prove(ctx, ask))
	return proofs
}

// prove asks the servers.
func (w *waits) prove(ctx context.Context, instances []service.Instance) map[string]gate.Proof {
	proofs := w.prover.Prove(ctx, instances)
	w.metrics.proven(proofs)
	return proofs
}

// waitUntil is the end of a wait for a caller.
func waitUntil(ctx context.Context) time.Time {
	now := time.Now()
	deadline, ok := ctx.Deadline()
	if longest := now.Add(longestWait); !ok || deadline.After(longest) {
		return longest
	}
	return deadline.Add(-min(answerTime, deadline.Sub(now)/10))
}

// wait looks until what is waited for has come, cannot come, or ctx ends. It
// looks anew when the publisher has made a pass, and asks the servers when what
// it sees needs proof, as often as the core says.
func (w *waits) wait(
	ctx context.Context,
	look func(proofs map[string]gate.Proof, attempts int) progress,
	ask func(context.Context, []service.Instance) map[string]gate.Proof,
	tell func(progress) error,
) (progress, error) {
	ctx, cancel := context.WithDeadline(ctx, waitUntil(ctx))
	defer cancel()
	var (
		told     progress
		attempts int
		askAt    time.Time
	)
	say := func(p progress) error {
		if p.reason == told.reason && p.text == told.text {
			return nil
		}
		p.since = time.Now()
		if p.reason == told.reason {
			p.since = told.since
		}
		told = p
		return tell(p)
	}
	for {
		turn := w.board.nextPass()
		now, next := time.Now(), recheck
		p := look(nil, attempts)
		switch {
		case len(p.asks) == 0:
			attempts, askAt = 0, time.Time{}
		case now.Before(askAt): // what was answered last still holds
			p, next = told, askAt.Sub(now)
		default:
			if attempts++; attempts == 1 { // the answer may take its time
				if err := say(p); err != nil {
					return told, err
				}
			}
			bounded, cancel := context.WithTimeout(ctx, proveTimeout)
			proofs := ask(bounded, p.asks)
			cancel()
			if ctx.Err() != nil { // the answer is about the end of our patience
				return told, context.Cause(ctx)
			}
			p = look(proofs, attempts)
			askAt, next = time.Now().Add(p.retryAfter), max(p.retryAfter, time.Millisecond)
		}
		if err := say(p); err != nil {
			return told, err
		}
		if p.done || p.failed {
			return told, nil
		}
		timer := time.NewTimer(min(next, recheck))
		select {
		case <-ctx.Done():
		case <-turn:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return told, context.Cause(ctx)
		}
	}
}
