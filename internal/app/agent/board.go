package agent

import (
	"maps"
	"sync"
	"time"

	"fairway.dev/fairway/internal/drain"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// trigger wakes a loop. Many calls before the loop looks are one.
type trigger chan struct{}

func newTrigger() trigger { return make(trigger, 1) }

func (t trigger) fire() {
	select {
	case t <- struct{}{}:
	default:
	}
}

// board is where the publisher writes what the gatekeeper and /readyz read, so
// that none of them waits for another.
type board struct {
	published trigger // wakes the gatekeeper
	reassert  trigger // wakes the publisher

	mu sync.Mutex
	// blocked is why nothing can be published at all; empty if it can.
	blocked string
	held    map[string]service.Health
	refused map[string]string
	// lost are the instances to be pushed to the servers again.
	lost map[string]bool
	// left is since when pods have asked to be taken out, by UID.
	left map[string]time.Time
	// leaving is how pods that leave stand in the registry, by UID.
	leaving map[string]drain.Standing
	// turn is closed when the publisher has made another pass.
	turn chan struct{}
}

func newBoard() *board {
	return &board{
		published: newTrigger(),
		reassert:  newTrigger(),
		blocked:   "nothing has been looked at yet",
		held:      map[string]service.Health{},
		lost:      map[string]bool{},
		left:      map[string]time.Time{},
		turn:      make(chan struct{}),
	}
}

// block notes why nothing can be published, empty if it can, and tells whether
// that is news.
func (b *board) block(why string) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed = b.blocked != why
	b.blocked = why
	if changed {
		b.published.fire()
	}
	return changed
}

func (b *board) why() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.blocked
}

// observed replaces what the registry is known to hold.
func (b *board) observed(entries []registration.Entry) {
	held := make(map[string]service.Health, len(entries))
	for _, entry := range entries {
		if entry.HasCheck {
			held[entry.Instance.ID] = entry.Instance.Health
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !maps.Equal(b.held, held) {
		b.published.fire()
	}
	b.held = held
}

// applied notes one op that the registry took, and wakes the gatekeeper: a pod
// need not wait until the ops of all others are through.
func (b *board) applied(op registration.Op) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if op.Kind == registration.Deregister {
		delete(b.held, op.Instance.ID)
	} else {
		b.held[op.Instance.ID] = op.Instance.Health
	}
	delete(b.refused, op.Instance.ID)
	b.published.fire()
}

// refuse replaces what the registry did not take, and why.
func (b *board) refuse(refused map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !maps.Equal(b.refused, refused) {
		b.published.fire()
	}
	b.refused = maps.Clone(refused)
}

// standing is what the registry holds and what it refused.
func (b *board) standing() (held map[string]service.Health, refused map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.held), maps.Clone(b.refused)
}

// push asks the publisher to push an instance to the servers again.
func (b *board) push(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost[id] = true
	b.reassert.fire()
}

// takeLost returns what push asked for since it was last called.
func (b *board) takeLost() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	lost := b.lost
	b.lost = map[string]bool{}
	return lost
}

// leave asks the publisher to take a pod out of service, until stays takes
// that back. Asking again changes nothing.
func (b *board) leave(uid string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, asked := b.left[uid]; !asked {
		b.left[uid] = now
		b.reassert.fire()
	}
}

// leavers are the pods that have asked to be taken out, and since when.
func (b *board) leavers() map[string]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.left)
}

// stays ends what leave asked for.
func (b *board) stays(uid string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.left, uid)
}

// stand replaces how the pods that leave stand in the registry.
func (b *board) stand(leaving map[string]drain.Standing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaving = leaving
}

// standingOf is how a pod that leaves stands in the registry, nil if nothing
// was done about it yet.
func (b *board) standingOf(uid string) *drain.Standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	if standing, ok := b.leaving[uid]; ok {
		return &standing
	}
	return nil
}

// passed tells all who wait that the publisher has made a pass.
func (b *board) passed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.turn)
	b.turn = make(chan struct{})
}

// nextPass is closed when the publisher has made another pass. Who looks at the
// board after asking for it misses nothing.
func (b *board) nextPass() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.turn
}
