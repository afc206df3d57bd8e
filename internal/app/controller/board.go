package controller

import (
	"strings"
	"sync"
)

// board is what the loops tell of themselves, for probes. A replica is ready if
// every loop can do its work.
type board struct {
	metrics *metrics

	mu    sync.Mutex
	loops []*report
}

// report is what one loop tells.
type report struct {
	board   *board
	blocked string // why the loop cannot do its work; empty if it can
	details string // what people should know in any case, such as what it holds back
}

func newBoard(metrics *metrics) *board { return &board{metrics: metrics} }

// loop gives a loop its place. It is blocked until it says otherwise.
func (b *board) loop(blocked string) *report {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &report{board: b, blocked: blocked}
	b.loops = append(b.loops, r)
	return r
}

func (r *report) block(why string) { r.set(why, r.details) }

func (r *report) unblock(details string) { r.set("", details) }

func (r *report) set(blocked, details string) {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.blocked, r.details = blocked, details
	ready := 1.0
	for _, loop := range r.board.loops {
		if loop.blocked != "" {
			ready = 0
		}
	}
	r.board.metrics.ready.Set(ready)
}

// says joins what the loops tell.
func (b *board) says() (blocked, details string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var why, more []string
	for _, loop := range b.loops {
		if loop.blocked != "" {
			why = append(why, loop.blocked)
		}
		if loop.details != "" {
			more = append(more, loop.details)
		}
	}
	return strings.Join(why, "; "), strings.Join(more, "\n")
}
