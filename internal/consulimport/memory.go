package consulimport

import "time"

// Memory is what one pass must know of those before it. The zero value has seen
// nothing; to lose it makes some waits begin anew, and nothing disappears.
type Memory struct {
	records map[Ref]record
	breaker breaker
}

// record is what is remembered of one Service.
type record struct {
	origin  Origin
	index   uint64    // Consul's, the highest that was seen since it last began anew
	reset   time.Time // since when the index is lower than it was; zero if it is not
	unknown time.Time // since when Consul's answer is of no use; zero if it is of use
	absent  time.Time // when the first of the answers without any instance was there; zero if the last had one
	nothing time.Time // since when it is proven that no instance is meant; zero if one is
	held    time.Time // since when something is held; zero if nothing is
}

// recall is what is remembered of a claim's Service, brought up to date with a
// new answer, and whether Consul is known at all.
func (w *world) recall(m Memory, c claim) (record, string) {
	r := m.records[c.ref]
	if r.origin != c.origin {
		r = record{origin: c.origin}
	}
	answer := w.Answers[c.origin]
	if why := answer.unknown(); why != "" {
		if r.unknown.IsZero() {
			r.unknown = w.Now
		}
		r.absent, r.nothing = time.Time{}, time.Time{} // what was not seen in one go begins anew
		return r, why
	}
	r.unknown = time.Time{}
	r.index = max(r.index, w.mark(c))
	if answer.Index < r.index && r.reset.IsZero() {
		r.reset = w.Now
	}
	switch {
	case len(answer.Instances) > 0:
		r.absent = time.Time{}
	case r.absent.IsZero():
		r.absent = w.Now
	}
	return r, ""
}

// mark is the highest index with which something was written for a claim.
func (w *world) mark(c claim) uint64 {
	mark := uint64(0)
	if s, ok := w.services[c.ref]; ok && s.Origin == c.origin {
		mark = s.Mark
	}
	for _, s := range w.slices[c.ref] {
		if s.Origin == c.origin {
			mark = max(mark, s.Mark)
		}
	}
	return mark
}

// confirmed tells whether a second answer has said, asked for long enough after
// the first was there, that Consul has nothing of the service.
func (r record) confirmed(answer Answer) bool {
	return !r.absent.IsZero() && !answer.Asked.Before(r.absent.Add(ConfirmAfter))
}

// wentBack is why something is held. It names no index: that moves on, and after
// a restart the one before is not known any more.
const wentBack = "Consul's index is lower than it was: Consul was wiped, or restored from a backup; " +
	"what it has not shown since is kept until it is seen again or its removal is allowed"
