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
	written   trigger // wakes the auditor

	record *record // for people

	mu sync.Mutex
	// blocked is why nothing can be published at all; empty if it can.
	blocked string
	// frozen says what removals wait, empty if none does.
	frozen  string
	held    map[string]service.Health
	refused map[string]string
	// changes counts, by instance ID, the beginnings and ends of writes.
	changes map[string]int
	// lost are the instances to be pushed to the servers again, and distrusted
	// says that the registry may not be what it was.
	lost       map[string]bool
	distrusted bool
	// left is since when pods have asked to be taken out, by UID.
	left map[string]time.Time
	// leaving is how pods that leave stand in the registry, by UID.
	leaving map[string]drain.Standing
	// yielded says, by instance ID, why katalog-sync's entry stands in the place of
	// ours; nil until that is known.
	yielded map[string]string
	// turn is closed when the publisher has made another pass.
	turn chan struct{}
}

func newBoard() *board {
	return &board{
		published: newTrigger(),
		reassert:  newTrigger(),
		written:   newTrigger(),
		record:    newRecord(),
		changes:   map[string]int{},
		blocked:   "nothing has been looked at yet",
		held:      map[string]service.Health{},
		lost:      map[string]bool{},
		left:      map[string]time.Time{},
		turn:      make(chan struct{}),
	}
}

// freeze notes what removals wait, empty if none does.
func (b *board) freeze(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frozen = text
}

// freezes says what removals wait, empty if none does.
func (b *board) freezes() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.frozen
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
		b.written.fire()
	}
	b.held = held
	maps.DeleteFunc(b.changes, func(id string, n int) bool { _, ok := held[id]; return !ok && n%2 == 0 })
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
	b.changes[op.Instance.ID]++
	b.published.fire()
	b.written.fire()
}

// writing notes that a write of an entry begins, wrote that it has ended. Both
// mean that what the servers held before says nothing any more.
func (b *board) writing(id string) { b.change(id) }
func (b *board) wrote(id string)   { b.change(id) }

func (b *board) change(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes[id]++
}

// standing is an entry that the registry holds, as of one moment.
type standing struct {
	health  service.Health
	changes int // odd while a write is under way
}

func (s standing) busy() bool { return s.changes%2 != 0 }

// standings are the entries that the registry holds, by instance ID.
func (b *board) standings() map[string]standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	standings := make(map[string]standing, len(b.held))
	for id, health := range b.held {
		standings[id] = standing{health: health, changes: b.changes[id]}
	}
	return standings
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

// push asks the publisher to push instances to the servers again.
func (b *board) push(ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		b.lost[id] = true
	}
	b.reassert.fire()
}

// distrust asks the publisher to look at the registry again.
func (b *board) distrust() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.distrusted = true
	b.reassert.fire()
}

// takeDoubts returns what push and distrust have said since it was last called.
func (b *board) takeDoubts() (lost map[string]bool, distrusted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lost, distrusted = b.lost, b.distrusted
	b.lost, b.distrusted = map[string]bool{}, false
	return lost, distrusted
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

// yield replaces which instances are not to be registered, by ID, and why.
func (b *board) yield(reasons map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.yielded == nil || !maps.Equal(b.yielded, reasons) {
		b.reassert.fire()
	}
	b.yielded = reasons
}

// yields are the instances that are not to be registered, by ID, and why.
func (b *board) yields() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.yielded)
}

// handedBack tells whether yield was ever called.
func (b *board) handedBack() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.yielded != nil
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
