package agent

import (
	"fmt"
	"sync"
	"time"
)

// pulse shows that a loop is alive. A loop that waits for work is; one that is
// at work must show progress within the limit.
type pulse struct {
	name  string
	limit time.Duration

	mu   sync.Mutex
	busy bool
	last time.Time
}

func newPulse(name string, limit time.Duration) *pulse { return &pulse{name: name, limit: limit} }

// beat marks the start of work, or progress in it.
func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy, p.last = true, time.Now()
}

// rest marks the end of work.
func (p *pulse) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
}

// stuck says since when the loop shows no progress, or nothing if all is well.
func (p *pulse) stuck(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if silent := now.Sub(p.last); p.busy && silent > p.limit {
		return fmt.Sprintf("loop %s has made no progress for %s", p.name, silent.Round(time.Second))
	}
	return ""
}
