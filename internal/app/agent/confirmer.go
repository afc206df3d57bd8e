package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

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
// lack of it. It is a loop of its own, because the API server may be slow to
// answer and the publisher must not wait for that.
type confirmer struct {
	source  podSource
	log     *slog.Logger
	metrics *metrics
	pulse   *pulse
	wake    trigger

	mu   sync.Mutex
	held map[service.PodRef]bool

	asked map[service.PodRef]*question // the loop's own
}

// question is how often and when a pod was asked about.
type question struct {
	next time.Time
	wait time.Duration
}

// hold replaces the entries that wait for proof.
func (c *confirmer) hold(held []registration.Held) {
	pods := make(map[service.PodRef]bool, len(held))
	for _, h := range held {
		if pod := h.Entry.Instance.Pod; pod.UID != "" && pod.Name != "" && pod.Namespace != "" {
			pods[pod] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = pods
	if len(pods) > 0 {
		c.wake.fire()
	}
}

// run works until ctx ends.
func (c *confirmer) run(ctx context.Context) error {
	c.asked = map[service.PodRef]*question{}
	for {
		c.pulse.beat()
		wait := c.pass(ctx)
		c.pulse.rest()

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
			c.pulse.beat()
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
		if !c.held[pod] {
			delete(c.asked, pod)
		}
	}
	var due []service.PodRef
	for pod := range c.held {
		q := c.asked[pod]
		if q == nil {
			q = &question{wait: confirmFirst}
			c.asked[pod] = q
			c.log.Info("an entry is kept: its pod is not on the list, and nothing proves that it is gone", "pod", pod.String(), "uid", pod.UID)
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
	gone, why, err := c.source.Confirm(ctx, pod)
	switch {
	case err != nil:
		c.metrics.confirmations.WithLabelValues("unknown").Inc()
		c.log.Debug("whether a pod is gone could not be found out", "pod", pod.String(), "err", err)
	case gone:
		c.metrics.confirmations.WithLabelValues("gone").Inc()
		c.log.Info("a pod is proven gone", "pod", pod.String(), "uid", pod.UID, "reason", why)
	default:
		c.metrics.confirmations.WithLabelValues("present").Inc()
	}
}
