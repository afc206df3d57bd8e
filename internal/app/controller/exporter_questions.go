package controller

import (
	"context"
	"fmt"
	"maps"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
)

const (
	// mostQuestions are on their way to the API server at the same time.
	mostQuestions = 8
	// longestSilence is the longest wait between two questions about one object.
	longestSilence = 30 * time.Second

	// allowRemovals is the annotation of the controller's Lease by which a person
	// lets removals pass, until the time that it names. The Lease is there as long as
	// a controller is, whichever replica leads, and whether or not the Service still
	// is that the removals are about.
	allowRemovals = annotation.Native + "allow-removals-until"
	// longestAllowed bounds it, so that nobody is left without a breaker by an
	// annotation that was forgotten.
	longestAllowed = 24 * time.Hour
	// permissionEvery is how often it is looked for, while something is frozen.
	permissionEvery = 2 * time.Second
)

// How a question ended.
const (
	questionAnswered = "answered"
	questionUnknown  = "unknown"
)

// question is one that is put again until it has an answer.
type question struct {
	underway bool
	times    int
	next     time.Time // not before
}

// permitted is until when a person lets removals pass.
type permitted struct {
	question
	until   time.Time
	problem string // why what a person wrote lets none pass
}

// inquire asks the API server what the plan waits for. It returns when to look again
// if nothing happens before.
func (e *exporter) inquire(ctx context.Context, plan export.Plan, now time.Time) (next time.Time) {
	next = now.Add(e.resync)
	keep(e.asked, plan.Ask)
	for _, object := range plan.Ask {
		next = earlier(next, e.put(ctx, e.asked, object, now, func(ctx context.Context) (func(), error) {
			err := e.source.Ask(ctx, object)
			return func() { e.answered = true }, err
		}))
	}
	next = earlier(next, e.confirm(ctx, plan, now))
	if len(plan.Frozen) > 0 || now.Before(e.permitted.until) {
		next = earlier(next, e.askPermission(ctx, now))
	}
	return next
}

// confirm asks once more for the Services of which removals are frozen, as late as
// the answer counts.
func (e *exporter) confirm(ctx context.Context, plan export.Plan, now time.Time) (next time.Time) {
	next = now.Add(e.resync)
	keep(e.doubted, plan.Confirm)
	keep(e.confirmed, plan.Confirm)
	since := map[export.Object]time.Time{} // of the last removal that was frozen
	for _, frozen := range plan.Frozen {
		svc := serviceObject(frozen.Op.Instance)
		since[svc] = later(since[svc], frozen.Since)
	}
	for _, svc := range plan.Confirm {
		q := e.doubted[svc]
		if q == nil {
			q = &question{}
			e.doubted[svc] = q
		}
		if early := since[svc].Add(registration.AskAfter); q.next.Before(early) {
			q.next, q.times = early, 0
		}
		next = earlier(next, e.put(ctx, e.doubted, svc, now, func(ctx context.Context) (func(), error) {
			asked := time.Now()
			same, err := e.source.Confirm(ctx, svc)
			return func() {
				if same {
					e.confirmed[svc] = asked
				}
			}, err
		}))
	}
	return next
}

// keep drops what is about other objects.
func keep[V any](of map[export.Object]V, objects []export.Object) {
	if len(of) == 0 {
		return
	}
	wanted := make(map[export.Object]bool, len(objects))
	for _, object := range objects {
		wanted[object] = true
	}
	maps.DeleteFunc(of, func(object export.Object, _ V) bool { return !wanted[object] })
}

// put puts a question if it is time, and returns when it is if not. then is done by
// the loop if there was an answer.
func (e *exporter) put(ctx context.Context, all map[export.Object]*question, object export.Object, now time.Time,
	ask func(ctx context.Context) (then func(), err error),
) time.Time {
	q := all[object]
	if q == nil {
		q = &question{}
		all[object] = q
	}
	switch {
	case q.underway || e.questions >= mostQuestions || ctx.Err() != nil:
		return now.Add(e.resync) // the end of one is a turn
	case now.Before(q.next):
		return q.next
	}
	q.underway = true
	e.questions++
	e.call(ctx, func(ctx context.Context) func() {
		then, err := ask(ctx)
		return func() {
			q.underway = false
			e.questions--
			q.times++
			q.next = time.Now().Add(backoff(q.times, longestSilence))
			result := questionAnswered
			if err != nil {
				result = questionUnknown
				e.log.Debug("the API server could not be asked", "object", object.String(), "err", err)
			} else {
				then()
			}
			e.metrics.questions.WithLabelValues(result).Inc()
		}
	})
	return now.Add(e.resync)
}

// askPermission looks whether a person lets removals pass.
func (e *exporter) askPermission(ctx context.Context, now time.Time) time.Time {
	p := &e.permitted
	switch {
	case p.underway || ctx.Err() != nil:
		return now.Add(e.resync)
	case now.Before(p.next):
		return p.next
	}
	p.underway = true
	e.call(ctx, func(ctx context.Context) func() {
		value, err := e.permits.allowance(ctx)
		return func() {
			p.underway = false
			p.next = time.Now().Add(permissionEvery)
			if err != nil {
				e.log.Debug("the Lease could not be read, which may let removals pass", "err", err)
				return
			}
			before := p.problem
			p.problem = ""
			if p.until, err = allowedUntil(value, time.Now()); err != nil {
				p.problem = fmt.Sprintf("annotation %s=%q of Lease %s lets none pass: %v", allowRemovals, value, leaseName, err)
			}
			if p.problem != before && err != nil {
				e.log.Warn("what a person wrote lets no removal pass", "reason", p.problem)
			}
		}
	})
	return now.Add(e.resync)
}

// allowedUntil reads the value of the annotation; an empty one allows nothing.
func allowedUntil(value string, now time.Time) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	until, err := time.Parse(time.RFC3339, value)
	if err == nil && until.Sub(now) > longestAllowed {
		err = fmt.Errorf("more than %s ahead", longestAllowed)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("must be a time as 2006-01-02T15:04:05Z, %s ahead at most: %w", longestAllowed, err)
	}
	return until, nil
}
