package consulimport

import (
	"fmt"
	"maps"
	"time"
)

const (
	// leastLosses is how many Services that lose everything make a mass,
	// whatever share they are.
	leastLosses = 3
	// lossWindow is the time within which losses count together.
	lossWindow = time.Minute
	// calmAfter is how long there must be no mass before the last that are
	// frozen of one are let go.
	calmAfter = 15 * time.Second
)

// breaker freezes losses that come in a mass (I1): each may be proven, but what
// proves them may be wrong about all, such as Consul servers that are cut off
// from the machines and call all of them dead. A loss is a Service that loses
// all its endpoints, for whatever reason. To go on with the endpoints
// that were there harms nobody: there are no better ones.
//
// Up to two losses within a minute pass in any case, and so do those up to a
// share of all Services that have endpoints. What is frozen is let go when its
// instances pass again, when a person allows it, or when so few are left that
// they are no mass any more.
type breaker struct {
	passed map[Ref]time.Time // in the window
	frozen map[Ref]time.Time // since when
	mass   time.Time         // when there last was one
}

// restrain freezes the verdicts that must wait, and returns the next breaker.
func (b breaker) restrain(w *world, verdicts []*verdict) breaker {
	next := breaker{passed: maps.Clone(b.passed), frozen: map[Ref]time.Time{}, mass: b.mass}
	maps.DeleteFunc(next.passed, func(_ Ref, at time.Time) bool { return w.Now.Sub(at) >= lossWindow })
	if next.passed == nil {
		next.passed = map[Ref]time.Time{}
	}

	lost, all := map[Ref]bool{}, map[Ref]bool{}
	for ref := range next.passed {
		lost[ref], all[ref] = true, true
	}
	var doubted []*verdict
	for _, v := range verdicts {
		if v.endpoints() > 0 {
			all[v.ref] = true
		}
		switch _, passed := next.passed[v.ref]; {
		case !v.loses || w.allowed(v.in):
		case passed: // and has come back meanwhile, or is still to be written
			next.passed[v.ref] = w.Now
		default:
			lost[v.ref] = true
			doubted = append(doubted, v)
		}
	}
	mass := len(lost) >= leastLosses && float64(len(lost)) > w.MaxShare*float64(len(all))
	if mass {
		next.mass = w.Now
	}
	for _, v := range doubted {
		since, wasFrozen := b.frozen[v.ref]
		switch {
		case mass && !wasFrozen:
			since = w.Now
		case mass:
		case wasFrozen && w.Now.Before(next.mass.Add(calmAfter)):
		default:
			if len(v.kept) == 0 { // else it is not lost yet
				next.passed[v.ref] = w.Now
			}
			continue
		}
		next.frozen[v.ref] = since
		v.freeze(fmt.Sprintf("%d of the %d Services with endpoints would lose all of them at once; they keep them "+
			"until their instances pass again, it is no mass any more, or their removal is allowed", len(lost), len(all)))
	}
	return next
}
