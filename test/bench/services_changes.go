package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/lab/timeline"
)

const (
	// changeEvery is the time between two changes.
	changeEvery = 100 * time.Millisecond
	// changes is how many are made at least before their times are summed up.
	changes = 300
	// mostChanged is how many Services are changed at the most, each some times.
	mostChanged = 150
)

// change makes object i as it is to be, or undoes that, and says how long it took
// until that was seen.
type change func(ctx context.Context, i int, undo bool) (time.Duration, error)

// paced changes some objects one after another at a steady pace, however long each
// takes, then undoes that in the same way, until there are enough changes.
func paced(ctx context.Context, objects int, do change) (quantiles, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	tick := time.NewTicker(changeEvery)
	defer tick.Stop()
	var (
		mu   sync.Mutex
		took []time.Duration
	)
	for undo := false; undo || len(took) < changes; undo = !undo {
		var group errgroup.Group
		tick.Reset(changeEvery)
		for i := range objects {
			group.Go(func() error {
				d, err := do(ctx, i, undo)
				mu.Lock()
				defer mu.Unlock()
				took = append(took, d)
				return err
			})
			<-tick.C
		}
		if err := group.Wait(); err != nil {
			return quantiles{}, err
		}
	}
	return summarize(took), nil
}

// exportChanges makes endpoints not ready, and ready again. Answers that lack
// another instance of the same Service are counted.
func (b *servicesBench) exportChanges(ctx context.Context) (q quantiles, dropped int, err error) {
	server, err := timeline.Leader(ctx, b.servers)
	if err != nil {
		return q, 0, err
	}
	var lacking atomic.Int64
	q, err = paced(ctx, min(b.published.n, mostChanged), func(ctx context.Context, i int, undo bool) (time.Duration, error) {
		want := endpointsPerService - 1
		if undo {
			want = endpointsPerService
		}
		_, meta, err := server.Health().Service(serviceName(i), "", true, timeline.Blocking(ctx, 0))
		if err != nil {
			return 0, err
		}
		var seen time.Time
		var group errgroup.Group
		group.Go(func() (err error) {
			seen, err = awaitPassing(ctx, server, serviceName(i), meta.LastIndex, want, &lacking)
			return err
		})
		sent := time.Now()
		if err := b.published.ready(ctx, i, undo); err != nil {
			return 0, err
		}
		err = group.Wait()
		return seen.Sub(sent), err
	})
	return q, int(lacking.Load()), err
}

// awaitPassing waits until a server returns so many passing instances of a service
// and says when it did. Answers with fewer than all but one are counted.
func awaitPassing(ctx context.Context, server *api.Client, name string, index uint64, want int, lacking *atomic.Int64) (time.Time, error) {
	for {
		entries, meta, err := server.Health().Service(name, "", true, timeline.Blocking(ctx, index))
		at := time.Now()
		if err != nil {
			return at, fmt.Errorf("wait for %d passing instances of %s: %w", want, name, err)
		}
		if len(entries) < endpointsPerService-1 {
			lacking.Add(1)
		}
		if len(entries) == want {
			return at, nil
		}
		index = meta.LastIndex
	}
}

// importChanges makes instances in Consul critical, and passing again.
func (b *servicesBench) importChanges(ctx context.Context) (q quantiles, dropped int, err error) {
	server, err := timeline.Leader(ctx, b.servers)
	if err != nil {
		return q, 0, err
	}
	watch, err := watchImports(ctx, b.kube)
	if err != nil {
		return q, 0, err
	}
	defer watch.stop()
	for i := range importedServices {
		if _, err := watch.await(ctx, importedName(i), instancesPerService); err != nil {
			return q, 0, err
		}
	}
	watch.count()
	q, err = paced(ctx, importedServices, func(ctx context.Context, i int, undo bool) (time.Duration, error) {
		health, want := api.HealthCritical, instancesPerService-1
		if undo {
			health, want = api.HealthPassing, instancesPerService
		}
		sent := time.Now()
		if err := registerInstance(ctx, server, i, 0, health); err != nil {
			return 0, err
		}
		seen, err := watch.await(ctx, importedName(i), want)
		return seen.Sub(sent), err
	})
	return q, watch.count(), err
}
