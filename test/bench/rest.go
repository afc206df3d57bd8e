package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/timeline"
)

// atRest is what a process uses and writes while nothing happens.
type atRest struct {
	RestSeconds    float64 `json:"rest_seconds"`
	RestCPUPercent float64 `json:"rest_cpu_percent"` // of one core
	RSSMiB         float64 `json:"rss_mib"`
	PeakRSSMiB     float64 `json:"peak_rss_mib"`
	RestWrites     int     `json:"rest_writes"` // commands in Consul's log
	RestLog        logged  `json:"rest_log"`
}

// restFor is how long a row is watched at rest: as long as was asked for, else a
// minute, or five if promises are made of it.
func restFor(asked time.Duration, promised bool) time.Duration {
	switch {
	case asked > 0:
		return asked
	case promised:
		return 5 * time.Minute
	}
	return time.Minute
}

// settleFor is how long after the last change a process may still compare what
// the servers hold, and restart the dead-man of what it has registered.
const settleFor = 10 * time.Second

// settle returns when no check has changed at the leading server for settleFor.
func settle(ctx context.Context, servers []*api.Client) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	server, err := timeline.Leader(ctx, servers)
	if err != nil {
		return err
	}
	for index, last := uint64(0), uint64(1); index != last; {
		last = index
		_, meta, err := server.Health().State(api.HealthAny, (&api.QueryOptions{WaitIndex: index, WaitTime: settleFor}).WithContext(ctx))
		if err != nil {
			return fmt.Errorf("wait until Consul is at rest: %w", err)
		}
		index = meta.LastIndex
	}
	return nil
}

// rest watches a process for so long while nothing happens. alone is what Consul
// writes by itself.
func rest(ctx context.Context, lab *cluster.Cluster, p *process, d time.Duration, alone logged) (r atRest, err error) {
	if err := settle(ctx, lab.ConsulServers()); err != nil {
		return r, err
	}
	before, err := p.usage()
	if err != nil {
		return r, err
	}
	if r.RestLog, err = watchLog(ctx, lab, d); err != nil {
		return r, err
	}
	after, err := p.usage()
	if err != nil {
		return r, err
	}
	elapsed := after.at.Sub(before.at)
	r.RestSeconds = elapsed.Round(time.Second).Seconds()
	r.RestCPUPercent = round2(100 * (after.cpu - before.cpu).Seconds() / elapsed.Seconds())
	r.RSSMiB, r.PeakRSSMiB = after.rss, after.peak
	r.RestWrites = r.RestLog.beyond(alone)
	return r, nil
}
