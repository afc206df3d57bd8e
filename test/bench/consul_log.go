package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/timeline"
)

// logged is what the leading Consul server wrote to its log.
type logged struct {
	Seconds float64 `json:"seconds"`
	// Writes are the commands that change the catalog or anything else, Kinds
	// the same by kind. Coordinates are not among them: Consul's own agents send
	// theirs about four times a minute.
	Writes      int            `json:"writes"`
	Kinds       map[string]int `json:"kinds,omitempty"`
	Coordinates int            `json:"coordinates"`
	// Others change nothing that can be read: a checkpoint of the log each minute,
	// and the reaping of what is left of deleted keys, a quarter of an hour later.
	Others int `json:"others"`
}

// beyond is how many writes there are beyond what Consul writes by itself in
// the same time.
func (l logged) beyond(alone logged) int {
	if alone.Seconds == 0 {
		return l.Writes
	}
	return max(0, l.Writes-int(math.Ceil(float64(alone.Writes)*l.Seconds/alone.Seconds)))
}

// watchLog counts what the leading server writes, by the counters that it gives
// out every ten seconds.
func watchLog(ctx context.Context, lab *cluster.Cluster, d time.Duration) (logged, error) {
	l := logged{Kinds: map[string]int{}}
	server, err := timeline.Leader(ctx, lab.ConsulServers())
	if err != nil {
		return l, err
	}
	ctx, cancel := context.WithTimeout(ctx, d+time.Minute)
	defer cancel()
	stream, err := server.Agent().MetricsStream(ctx)
	if err != nil {
		return l, fmt.Errorf("follow what the Consul server writes: %w", err)
	}
	defer stream.Close()
	began := time.Now()
	decoder := json.NewDecoder(stream)
	for {
		var interval api.MetricsInfo
		if err := decoder.Decode(&interval); err != nil {
			return l, fmt.Errorf("follow what the Consul server writes: %w", err)
		}
		at, err := time.Parse("2006-01-02 15:04:05 -0700 MST", interval.Timestamp)
		if err != nil {
			return l, fmt.Errorf("follow what the Consul server writes: %w", err)
		}
		const length = 10 * time.Second
		if at.Before(began) {
			continue // it began before we did
		}
		l.add(interval)
		l.Seconds += length.Seconds()
		if l.Seconds >= d.Seconds() {
			return l, nil
		}
	}
}

func (l *logged) add(interval api.MetricsInfo) {
	for _, counter := range interval.Counters {
		if counter.Name == "consul.raft.apply" {
			l.Others += counter.Count
		}
	}
	for _, sample := range interval.Samples {
		kind, ok := strings.CutPrefix(sample.Name, "consul.fsm.")
		if !ok || kind == "tombstone" {
			continue
		}
		l.Others -= sample.Count
		if kind == "coordinate.batch-update" {
			l.Coordinates += sample.Count
			continue
		}
		l.Writes += sample.Count
		l.Kinds[kind] += sample.Count
	}
}
