package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/timeline"
)

// syncWatch notes when the leading Consul server shows what is written under the
// virtual nodes of a cluster's Services. To read all instances again and again
// would take the cores from what is measured. So it only follows the indices, and
// reads the instances, each with the index of its last change, once they are there.
type syncWatch struct {
	server *api.Client
	stop   context.CancelFunc

	mu      sync.Mutex
	answers [export.Shards][]answer // of each virtual node, the oldest first
	problem error
	changed chan struct{} // has room for one value
}

// answer is what a question was answered with: all that was written up to the index.
type answer struct {
	index uint64
	at    time.Time
}

// quiet is how long nothing changes before the instances are read.
const quiet = 300 * time.Millisecond

// watchSync sees all that is written after it returns.
func watchSync(ctx context.Context, server *api.Client) (*syncWatch, error) {
	ctx, stop := context.WithCancel(ctx)
	w := &syncWatch{server: server, stop: stop, changed: make(chan struct{}, 1)}
	for shard := range export.Shards {
		if err := w.ask(ctx, shard); err != nil {
			stop()
			return nil, err
		}
	}
	for shard := range export.Shards {
		go func() {
			for ctx.Err() == nil {
				if err := w.ask(ctx, shard); err != nil && ctx.Err() == nil {
					w.mu.Lock()
					w.problem = err
					w.mu.Unlock()
					return
				}
			}
		}()
	}
	return w, nil
}

// ask waits for the next change under a virtual node; the first time not.
func (w *syncWatch) ask(ctx context.Context, shard int) error {
	w.mu.Lock()
	index := uint64(0)
	if before := w.answers[shard]; len(before) > 0 {
		index = before[len(before)-1].index
	}
	w.mu.Unlock()
	options := timeline.Blocking(ctx, index)
	options.Filter = `Status == "none"` // the index is all that is wanted
	_, meta, err := w.server.Health().Node(shardNode(shard), options)
	if err != nil {
		return fmt.Errorf("follow virtual node %d: %w", shard, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if meta.LastIndex > index {
		w.answers[shard] = append(w.answers[shard], answer{meta.LastIndex, time.Now()})
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	return nil
}

func shardNode(shard int) string { return catalog.NodeName(cluster.ClusterID, export.ShardName(shard)) }

// await waits until there are so many passing instances, and returns when the
// first and the last of them was seen.
func (w *syncWatch) await(ctx context.Context, instances int) (first, last time.Time, err error) {
	for {
		select {
		case <-w.changed:
			continue
		case <-time.After(quiet):
		case <-ctx.Done():
			return first, last, fmt.Errorf("wait for %d instances: %w", instances, context.Cause(ctx))
		}
		var n int
		if first, last, n, err = w.read(ctx); err != nil || n == instances {
			return first, last, err
		}
	}
}

// read counts the instances that pass, and says when the first and the last of them
// was seen.
func (w *syncWatch) read(ctx context.Context) (first, last time.Time, n int, err error) {
	for shard := range export.Shards {
		checks, _, err := w.server.Health().Node(shardNode(shard), timeline.Blocking(ctx, 0))
		w.mu.Lock()
		answers, problem := w.answers[shard], w.problem
		w.mu.Unlock()
		if err == nil {
			err = problem
		}
		if err != nil {
			return first, last, n, err
		}
		for _, check := range checks {
			at := firstWith(answers, check.ModifyIndex)
			if check.Status != api.HealthPassing || at.IsZero() {
				continue
			}
			n++
			if first.IsZero() || at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
		}
	}
	return first, last, n, nil
}

// firstWith is when what was written at an index was seen; zero if it was not yet.
func firstWith(answers []answer, index uint64) time.Time {
	for _, a := range answers {
		if a.index >= index {
			return a.at
		}
	}
	return time.Time{}
}
