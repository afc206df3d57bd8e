package agent

import (
	"fmt"
	"log/slog"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

const (
	// allowRemovals is the annotation of the agent's own pod by which a person
	// lets removals pass, until the time that it names.
	allowRemovals = annotation.Native + "allow-removals-until"
	// longestAllowed bounds it, so that nobody is left without a breaker by an
	// annotation that was forgotten.
	longestAllowed = 24 * time.Hour
)

// breaker freezes removals that come in a mass (I1), and tells people what
// waits and how to let it pass (I7). It belongs to the publisher's loop.
type breaker struct {
	maxShare float64
	self     service.PodRef // the agent's own pod, without UID; zero if it is in none
	source   podSource
	evidence *confirmer
	writer   podWriter
	board    *board
	log      *slog.Logger
	metrics  *metrics

	state   registration.Breaker
	frozen  map[string]bool // what is frozen, by instance ID
	refused string          // the value of the annotation that was complained about
}

// restrain takes out of a plan what must wait.
func (b *breaker) restrain(plan registration.Plan, in registration.Input, pods []service.Pod, now time.Time) registration.Plan {
	self, allowed := b.allowed(pods, now)
	plan, b.state = b.state.Restrain(plan, in, registration.Evidence{
		Now: now, MaxShare: b.maxShare, AllowedUntil: allowed,
		Running: b.source.Running(), Answers: b.evidence.answered(),
	})
	b.evidence.await(plan.Held, plan.Frozen)
	b.tell(plan.Frozen, self)
	return plan
}

// allowed returns the agent's own pod, and until when removals may pass.
func (b *breaker) allowed(pods []service.Pod, now time.Time) (self service.PodRef, until time.Time) {
	for _, pod := range pods {
		if pod.Ref.Name != b.self.Name || pod.Ref.Namespace != b.self.Namespace {
			continue
		}
		self = pod.Ref
		value, set := pod.Annotations[allowRemovals]
		if !set {
			break
		}
		var err error
		if until, err = time.Parse(time.RFC3339, value); err == nil && until.Sub(now) > longestAllowed {
			err = fmt.Errorf("more than %s ahead", longestAllowed)
		}
		if err == nil {
			break
		}
		until = time.Time{}
		if b.refused != value {
			b.refused = value
			b.log.Warn("the annotation that lets removals pass is not understood", "annotation", allowRemovals, "value", value, "err", err)
			b.writer.Warn(self, "InvalidAnnotation", fmt.Sprintf("%s: %q: must be a time as 2006-01-02T15:04:05Z, %s ahead at most", allowRemovals, value, longestAllowed))
		}
	}
	return self, until
}

// tell says once what is frozen, and that nothing is any more.
func (b *breaker) tell(frozen []registration.Frozen, self service.PodRef) {
	b.metrics.frozen.Set(float64(len(frozen)))
	before := b.frozen
	b.frozen = make(map[string]bool, len(frozen))
	for _, f := range frozen {
		id := f.Op.Instance.ID
		b.frozen[id] = true
		if !before[id] {
			b.log.Warn("a removal is frozen", "service", f.Op.Instance.Name, "pod", f.Op.Instance.Pod.String(),
				"reason", f.Op.Reason, "frozen", f.Reason, "waits_for", f.Waits, "id", id)
		}
	}
	var text string
	if len(frozen) > 0 {
		text = fmt.Sprintf("%d removals are frozen: %s; waiting: %s", len(frozen), frozen[0].Reason, frozen[0].Waits)
	}
	b.board.freeze(text)
	switch {
	case self.UID == "":
	case len(before) == 0 && len(frozen) > 0:
		b.writer.Warn(self, "RemovalsFrozen", text+". To let them pass, annotate this pod with "+allowRemovals+"=TIME")
	case len(before) > 0 && len(frozen) == 0:
		b.writer.Note(self, "RemovalsResumed", "no removal is frozen any more")
	}
	if len(before) > 0 && len(frozen) == 0 {
		b.log.Info("no removal is frozen any more")
	}
}
