package controller

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/export"
)

// replica is a process that publishes Services.
type replica struct {
	t        testing.TB
	kube     *fakeKubernetes
	leader   *leadership
	board    *board
	registry *prometheus.Registry
	end      func()
}

// rights are those of a replica of a cluster, at a Consul. They outlive it, as in a
// cluster.
type rights struct {
	client  *consul.Client
	cluster string
}

func newRights(c *consultest.Cluster, cluster, rules string) rights {
	client, _ := c.Server.FairwayClient(c.Token(rules))
	return rights{client, cluster}
}

// publisher has the rights of one that publishes the Services of a cluster.
func publisher(c *consultest.Cluster, cluster string) rights {
	return newRights(c, cluster, strings.ReplaceAll(consultest.ExportRules, "east", cluster))
}

// start starts a replica. It leads when it is told to.
func (p rights) start(t testing.TB, kube *fakeKubernetes) *replica {
	t.Helper()
	return p.startEvery(t, kube, often)
}

// startEvery starts one that reads what stands in Consul so often.
func (p rights) startEvery(t testing.TB, kube *fakeKubernetes, resync time.Duration) *replica {
	t.Helper()
	registries, err := shardRegistries(p.client, p.cluster)
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{t: t, kube: kube, registry: prometheus.NewRegistry()}
	metrics, log := newMetrics(r.registry), slog.New(slog.DiscardHandler)
	r.leader, r.board = unelected(log, metrics), newBoard(metrics)
	e := newExporter(exporter{
		source: kube, leader: r.leader, leads: r.leader.begins(), events: kube, permits: kube, report: r.board.loop("nothing was read yet"),
		log: log, metrics: newExportMetrics(r.registry), pulse: process.NewPulse("export", stuckAfter),
		maxShare: 0.5, resync: resync,
	}, registries, exportPolicy(p.cluster))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.run(ctx) }()
	r.end = func() { cancel(); <-done; r.leader.end() }
	t.Cleanup(r.end)
	return r
}

func exportPolicy(cluster string) export.Policy {
	p := export.DefaultPolicy()
	p.Cluster = cluster
	return p
}

// leads makes the replica the leader.
func (r *replica) leads() *replica {
	term, end := context.WithCancel(context.Background())
	r.t.Cleanup(end)
	r.leader.begin(term)
	return r
}

// metric is the sum of a metric's series that have the labels.
func (r *replica) metric(name string, labels ...string) (sum float64) {
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			has := func(want string) bool {
				return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName()+"="+l.GetValue() == want })
			}
			if !slices.ContainsFunc(labels, func(want string) bool { return !has(want) }) {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// rests waits until all stands as is asked for, and was read again since.
func (r *replica) rests() {
	r.t.Helper()
	asked := float64(time.Now().UnixMilli()) / 1000
	consultest.Eventually(r.t, "the replica rests", func() error {
		if due := r.metric("fairway_export_instances", "state=due"); due > 0 {
			return fmt.Errorf("%v writes are due", due)
		}
		if r.metric("fairway_export_read_timestamp_seconds") < asked {
			why, _ := r.board.says()
			return fmt.Errorf("not read again: %s", why)
		}
		return nil
	})
}

// atServers is what clients are given of a service: how many instances pass, and how
// many there are.
func atServers(t testing.TB, c *consultest.Cluster, name string) (passing, all int) {
	t.Helper()
	entries, _, err := c.Management().Health().Service(name, "", false, &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Checks.AggregatedStatus() == api.HealthPassing {
			passing++
		}
	}
	return passing, len(entries)
}

func eventuallyAt(t testing.TB, c *consultest.Cluster, name string, passing, all int) {
	t.Helper()
	consultest.Eventually(t, fmt.Sprintf("%s has %d of %d", name, passing, all), func() error {
		if p, a := atServers(t, c, name); p != passing || a != all {
			return fmt.Errorf("it has %d of %d", p, a)
		}
		return nil
	})
}

// often is how often the tests' replicas read what stands in Consul.
const often = 500 * time.Millisecond
