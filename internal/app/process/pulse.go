package process

import (
	"fmt"
	"sync"
	"time"
)

// Pulse shows that a loop is alive. A loop that waits for work is; one that is
// at work must show progress within the limit.
type Pulse struct {
	name  string
	limit time.Duration

	mu   sync.Mutex
	busy bool
	last time.Time
}

// NewPulse makes the Pulse of a loop.
func NewPulse(name string, limit time.Duration) *Pulse { return &Pulse{name: name, limit: limit} }

// Beat marks the start of work, or progress in it.
func (p *Pulse) Beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy, p.last = true, time.Now()
}

// Rest marks the end of work.
func (p *Pulse) Rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
}

// Stuck says since when the loop shows no progress, or nothing if all is well.
func (p *Pulse) Stuck(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if silent := now.Sub(p.last); p.busy && silent > p.limit {
		return fmt.Sprintf("loop %s has made no progress for %s", p.name, silent.Round(time.Second))
	}
	return ""
}
