package controller

import "sync"

// board is what the loops tell of themselves, for probes.
type board struct {
	metrics *metrics

	mu      sync.Mutex
	blocked string // why the loop cannot do its work; empty if it can
	frozen  string // what it holds back; empty if nothing
}

func newBoard(metrics *metrics) *board {
	return &board{metrics: metrics, blocked: "the virtual nodes have not been read from Consul yet"}
}

func (b *board) block(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blocked = why
	b.metrics.ready.Set(0)
}

func (b *board) unblock(frozen string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blocked, b.frozen = "", frozen
	b.metrics.ready.Set(1)
}

func (b *board) says() (blocked, frozen string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.blocked, b.frozen
}
