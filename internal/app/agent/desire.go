package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// desire is that an instance be in service or out of it, and since when. It is
// for the metrics alone: nothing is decided from it.
type desire struct {
	serve bool
	since time.Time
}

// change is the label of a desire.
func (d desire) change() string {
	if d.serve {
		return publishIn
	}
	return publishOut
}

// serves tells whether clients may be given an entry.
func serves(entry registration.Entry, exists bool) bool {
	return exists && entry.InService()
}

// desire takes in what the pods ask for, also while the registry cannot be read,
// and counts what it is not known to hold so.
func (p *publisher) desire(pods []registration.Claim, now time.Time) {
	desired := map[string]desire{}
	for _, pod := range pods {
		for _, in := range pod.Instances {
			d := desire{serve: in.Health != service.Critical && !pod.Ended, since: now}
			if before, ok := p.desired[in.ID]; ok && before.serve == d.serve {
				d = before
			}
			desired[in.ID] = d
		}
	}
	p.desired = desired

	due, oldest := 0, map[string]time.Time{}
	for id, d := range desired {
		entry, exists := p.view[id]
		if serves(entry, exists) == d.serve {
			continue
		}
		due++
		if first := oldest[d.change()]; first.IsZero() || d.since.Before(first) {
			oldest[d.change()] = d.since
		}
	}
	p.metrics.entries.WithLabelValues("due").Set(float64(due))
	for _, change := range []string{publishIn, publishOut} {
		setSince(p.metrics.dueSince, change, oldest[change])
	}
}

// took notes that the registry took a write, if it did for an instance what its
// pod asks for and was not so before.
func (p *publisher) took(op registration.Op, before bool) {
	d, ok := p.desired[op.Instance.ID]
	serve := op.Kind != registration.Deregister && op.Instance.Health != service.Critical
	if ok && serve == d.serve && before != d.serve {
		p.metrics.publishSeconds.WithLabelValues(d.change()).Observe(time.Since(d.since).Seconds())
	}
}

// countFailures counts entries whose last write failed: those that the registry
// refuses and the others.
func (p *publisher) countFailures(refused map[string]string) {
	failing := 0
	for id := range p.writes.failures {
		if _, is := refused[id]; !is {
			failing++
		}
	}
	p.metrics.entries.WithLabelValues("failing").Set(float64(failing))
	p.metrics.entries.WithLabelValues("refused").Set(float64(len(refused)))
}

// setSince sets a gauge to a time, or takes its series away if there is none.
func setSince(vec *prometheus.GaugeVec, label string, at time.Time) {
	if at.IsZero() {
		vec.DeleteLabelValues(label)
		return
	}
	vec.WithLabelValues(label).Set(float64(at.UnixMilli()) / 1000)
}
