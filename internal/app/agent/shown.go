package agent

import (
	"strings"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

// shown is what the gatekeeper has written of one condition of one pod. It
// keeps it from writing the same again before the watch shows the first write,
// and from writing what changes faster than anybody can read.
type shown struct {
	want   service.Condition // as written last
	before service.Condition // what the pod showed then
	at     time.Time         // of the last write; zero if none

	differs  time.Time // since when the pod does not show what it should
	next     time.Time // when to look again without an event; zero: no need
	failures int
}

// due tells whether want must be written now.
func (s *shown) due(pod service.Pod, kind string, want service.Condition, now time.Time) bool {
	have := pod.Conditions[kind]
	if same(have, want) {
		*s = shown{}
		return false
	}
	if s.pending(pod, kind, now) && same(s.want, want) {
		s.next = s.at.Add(visible)
		return false
	}
	if s.differs.IsZero() {
		s.differs = now
	}
	if wait := s.differs.Add(settle); want.Status != service.ConditionTrue && now.Before(wait) {
		s.next = wait
		return false
	}
	return s.failures == 0 || !now.Before(s.next)
}

// pending tells whether the last write may just not be visible yet.
func (s *shown) pending(pod service.Pod, kind string, now time.Time) bool {
	return !s.at.IsZero() && now.Sub(s.at) < visible && same(pod.Conditions[kind], s.before)
}

// written notes a write.
func (s *shown) written(pod service.Pod, kind string, want service.Condition, now time.Time) {
	*s = shown{want: want, before: pod.Conditions[kind], at: now, next: now.Add(visible)}
}

// failed notes a write that failed, and tells whether it is the first in a row.
func (s *shown) failed(now time.Time) bool {
	const longest = 15 * time.Second
	s.failures++
	s.next = now.Add(min(longest, firstRetry<<min(s.failures, 10)))
	return s.failures == 1
}

// same compares what a person sees.
func same(a, b service.Condition) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}

// problems is the list of errors as one text that fits an Event.
func problems(errs []annotation.Error) string {
	const longest = 1000 // an Event's message may have 1024 bytes
	var text strings.Builder
	for i, err := range errs {
		one := err.String()
		if i > 0 {
			one = "; " + one
		}
		if text.Len()+len(one) > longest {
			text.WriteString("; and more")
			break
		}
		text.WriteString(one)
	}
	return strings.ToValidUTF8(text.String(), "?")
}
