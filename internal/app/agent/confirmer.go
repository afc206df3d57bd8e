package agent

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

const (
	confirmTimeout  = 5 * time.Second
	confirmParallel = 8
	confirmFirst    = time.Second      // wait after the first question
	confirmLongest  = 30 * time.Second // and after many
)

// confirmer looks for proof that pods are gone whose entries are held for the
// lack of it, and asks a second time where removals are frozen. It is a loop of
// its own, because the API server may be slow to answer and the publisher must
// not wait for that.
type confirmer struct {
	source  podSource
	answer  trigger // wakes the publisher
	log     *slog.Logger
	metrics *metrics
	pulse   *process.Pulse
	wake    trigger

	mu   sync.Mutex
	open map[service.PodRef]time.Time // the pods to ask about, and not before when
	// answers are the last ones about those pods, by UID.
	answers map[string]registration.Answer

	asked map[service.PodRef]*question // the loop's own
}

// question is how often and when a pod was asked about.
type question struct {
	next time.Time
	wait time.Duration
}

// await replaces what is waited for.
func (c *confirmer) await(held []registration.Held, frozen []registration.Frozen) {
	open := make(map[service.PodRef]time.Time, len(held)+len(frozen))
	add := func(pod service.PodRef, from time.Time) {
		if pod.UID != "" && pod.Name != "" && pod.Namespace != "" {
			open[pod] = from
		}
	}
	for _, f := range frozen {
		add(f.Op.Instance.Pod, f.Since.Add(registration.AskAfter))
	}
	for _, h := range held {
		add(h.Entry.Instance.Pod, time.Time{})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = open
	maps.DeleteFunc(c.answers, func(uid string, _ registration.Answer) bool {
		for pod := range open {
			if pod.UID == uid {
				return false
			}
		}
		return true
	})
	if len(open) > 0 {
		c.wake.fire()
	}
}

// answered returns the last answers about what is waited for, by UID.
func (c *confirmer) answered() map[string]registration.Answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.answers)
}

// run works until ctx ends.
func (c *confirmer) run(ctx context.Context) error {
	c.asked = map[service.PodRef]*question{}
	for {
		c.pulse.Beat()
		wait := c.pass(ctx)
		c.pulse.Rest()

		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-c.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pass asks about the pods that are due and returns when the next one is.
func (c *confirmer) pass(ctx context.Context) time.Duration {
	now := time.Now()
	var group errgroup.Group
	group.SetLimit(confirmParallel)
	for _, pod := range c.due(now) {
		group.Go(func() error {
			c.confirm(ctx, pod)
			c.pulse.Beat()
			return nil
		})
	}
	_ = group.Wait()

	next := time.Now().Add(confirmLongest)
	for _, q := range c.asked {
		if q.next.Before(next) {
			next = q.next
		}
	}
	return max(0, time.Until(next))
}

// due returns the pods to ask about now, and notes when to ask again. What is
// not held any more is forgotten.
func (c *confirmer) due(now time.Time) []service.PodRef {
	c.mu.Lock()
	defer c.mu.Unlock()
	for pod := range c.asked {
		if _, open := c.open[pod]; !open {
			delete(c.asked, pod)
		}
	}
	var due []service.PodRef
	for pod, from := range c.open {
		q := c.asked[pod]
		if q == nil {
			q = &question{wait: confirmFirst}
			c.asked[pod] = q
			if from.IsZero() {
				c.log.Info("an entry is kept: its pod is not on the list, and nothing proves that it is gone", "pod", pod.String(), "uid", pod.UID)
			}
		}
		if q.next.Before(from) { // asked before, but that does not count
			q.next, q.wait = from, confirmFirst
		}
		if now.Before(q.next) {
			continue
		}
		q.next = now.Add(q.wait)
		q.wait = min(2*q.wait, confirmLongest)
		due = append(due, pod)
	}
	return due
}

func (c *confirmer) confirm(ctx context.Context, pod service.PodRef) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	answer := registration.Answer{Asked: time.Now()}
	found, why, err := c.source.Confirm(ctx, pod)
	switch {
	case err != nil:
		c.metrics.confirmations.WithLabelValues("unknown").Inc()
		c.log.Debug("whether a pod is gone could not be found out", "pod", pod.String(), "err", err)
		return
	case found == nil:
		answer.Gone = true
		c.metrics.confirmations.WithLabelValues("gone").Inc()
		c.log.Info("a pod is proven gone", "pod", pod.String(), "uid", pod.UID, "reason", why)
	default:
		answer.Declares = annotation.Parse(*found).Services
		c.metrics.confirmations.WithLabelValues("present").Inc()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.open[pod]; open {
		c.answers[pod.UID] = answer
		c.answer.fire()
	}
}
