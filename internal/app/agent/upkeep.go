package agent

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/registration"
)

// What is done to entries that stay as they are, counted beside the kinds of
// Op.
const (
	renew registration.Kind = "renew" // restarts the dead-man
	push  registration.Kind = "push"  // makes the servers hold what the registry holds
)

// mostUpkeep is how many of the writes at the same time may be upkeep, so that
// it never holds up a pod.
const mostUpkeep = 4

func upkeep(kind registration.Kind) bool { return kind == renew || kind == push }

func (w *writes) upkeep() (n int) {
	for _, op := range w.underway {
		if upkeep(op.Kind) {
			n++
		}
	}
	return n
}

// launchUpkeep restarts the dead-man of entries for which that is due: all
// when the process has begun, each again after a third of its TTL, and those
// that have lapsed. And it pushes those that the servers were found not to hold.
// It returns when the next is due.
func (p *publisher) launchUpkeep(ctx context.Context, planned map[string]bool, now time.Time) time.Time {
	next := now.Add(p.resync)
	var ops []registration.Op
	for _, entry := range p.view {
		if !p.owns(entry) {
			continue
		}
		id := entry.Instance.ID
		kind, due := p.upkeepDue(entry, now)
		failed := p.writes.failures[id]
		// An edit that the registry refused leaves the entry as it is, and must not
		// cost it its dead-man.
		refused := failed != nil && failed.op.Kind == registration.Register && now.Before(failed.next)
		if failed != nil && !refused && due.Before(failed.next) {
			due = failed.next // even if it was another kind of write that failed
		}
		_, busy := p.writes.underway[id]
		switch {
		case kind == "", busy, planned[id] && !refused, !entry.HasCheck: // what is written renews as well
		case now.Before(due):
			next = earlier(next, due)
		default:
			ops = append(ops, registration.Op{Kind: kind, Instance: entry.Instance})
		}
	}
	slices.SortFunc(ops, func(a, b registration.Op) int { return strings.Compare(a.Instance.ID, b.Instance.ID) })
	for _, op := range ops {
		if p.writes.upkeep() < mostUpkeep && len(p.writes.underway) < p.writes.most && ctx.Err() == nil {
			p.write(ctx, op)
		}
	}
	return next
}

// upkeepDue is what is to be done to an entry that stays as it is, if
// anything, and when.
func (p *publisher) upkeepDue(entry registration.Entry, now time.Time) (kind registration.Kind, due time.Time) {
	ttl := cmp.Or(entry.Instance.CheckTTL, p.checkTTL)
	switch {
	case p.writes.lost[entry.Instance.ID]:
		return push, now
	case entry.Lapsed:
		return renew, now
	case ttl == 0:
		return "", now
	}
	return renew, p.writes.renewed[entry.Instance.ID].Add(ttl / 3)
}
