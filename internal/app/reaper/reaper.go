// Package reaper is the process beside Consul's servers that hides what dead clusters
// have published.
package reaper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/clusterlease"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
)

const (
	userAgent = "fairway-reaper"
	// callWithin bounds a call to Consul. It leaves Consul the 7 s for which it tries
	// to reach its leader.
	callWithin = 9 * time.Second
	// stuckAfter is how long the loop at work may show no progress.
	stuckAfter = 2 * time.Minute
	// mostProbes is how many nodes of a cluster are asked at each look, and atOnce how
	// many at the same time: of those that are off each takes its time not to answer.
	mostProbes = 32
	atOnce     = 32
)

// leases are those of all clusters. An error of List means that they are not known.
// The writes fail if a lease has changed since it was read.
type leases interface {
	List(ctx context.Context) (map[string][]catalog.Lease, error)
	Ask(ctx context.Context, cluster string, lease catalog.Lease, question string) error
	Expire(ctx context.Context, cluster string, lease catalog.Lease, reason string) error
}

// agents are the clusters' agents, at their ports.
type agents interface {
	Answer(ctx context.Context, cluster, node string, address netip.Addr) bool
}

// Reaper is one reaper process.
type Reaper struct {
	opts     Options
	log      *slog.Logger
	registry *prometheus.Registry
	consul   *consul.Client
}

// New makes a reaper that speaks to Consul as the options say. It does not contact it.
func New(opts Options, log *slog.Logger) (*Reaper, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	client, err := opts.ConsulOptions.Client(userAgent)
	if err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(process.ConsulUsage{Usage: client.Usage})
	return &Reaper{opts, log, reg, client}, nil
}

// Run works until ctx ends, and then leaves everything as it is. It returns nil if
// ctx ended.
func (r *Reaper) Run(ctx context.Context) (err error) {
	stop := &process.StopStack{Log: r.log}
	defer func() { err = errors.Join(err, stop.Run(context.WithoutCancel(ctx))) }()
	stop.Push(process.Step{Name: "log out of Consul", Within: 2 * time.Second, Do: r.consul.Logout})

	l := newLooker(catalogLeases{r.consul}, process.NewAgents(r.opts.AgentPort), r.opts, newMetrics(r.registry), r.log)
	group, working := errgroup.WithContext(ctx)
	probes := process.Probes{Gatherer: r.registry, Pulses: []*process.Pulse{l.pulse}, Ready: func(time.Time) (why, details string) { return l.says() }}
	_, serve, shutdown, err := process.Listen(working, r.opts.Listen, probes.Handler(working))
	if err != nil {
		return err
	}
	stop.Push(shutdown)
	r.log.Info("starting", "consul", r.opts.ConsulAddress, "dead_after", r.opts.DeadAfter.String(), "answer_within", r.opts.AnswerWithin.String())
	for _, part := range []process.Part{serve, {Name: "clusters", Do: l.run}} {
		group.Go(func() error { return part.Run(working) })
	}
	err = group.Wait()
	r.log.Info("stopping; everything stays as it is")
	return err
}

// catalogLeases are the leases in Consul's catalog.
type catalogLeases struct{ client *consul.Client }

func (c catalogLeases) List(ctx context.Context) (map[string][]catalog.Lease, error) {
	return catalog.ListAll(ctx, c.client)
}

func (c catalogLeases) Ask(ctx context.Context, cluster string, lease catalog.Lease, question string) error {
	return catalog.NewLeases(c.client, cluster).Ask(ctx, lease, question)
}

func (c catalogLeases) Expire(ctx context.Context, cluster string, lease catalog.Lease, reason string) error {
	return catalog.NewLeases(c.client, cluster).Expire(ctx, lease, reason)
}

// looker is the loop that looks at all clusters.
type looker struct {
	leases  leases
	agents  agents
	opts    Options
	metrics *metrics
	log     *slog.Logger
	pulse   *process.Pulse

	// The loop's own.
	memory map[string]clusterlease.Memory // by cluster
	heard  map[string]string              // the node whose agent has answered last
	turn   int                            // which nodes are asked next

	mu      sync.Mutex
	blocked string
	stood   map[string]clusterlease.Decision
}

func newLooker(leases leases, agents agents, opts Options, metrics *metrics, log *slog.Logger) *looker {
	return &looker{
		leases: leases, agents: agents, opts: opts, metrics: metrics, log: log, pulse: process.NewPulse("clusters", stuckAfter),
		memory: map[string]clusterlease.Memory{}, heard: map[string]string{}, blocked: "the leases have not been read from Consul yet",
	}
}

func (l *looker) run(ctx context.Context) error {
	tick := time.NewTicker(l.opts.lookEvery())
	defer tick.Stop()
	for {
		l.pulse.Beat()
		l.look(ctx)
		l.pulse.Rest()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// says is what the loop tells probes and people.
func (l *looker) says() (blocked, details string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for _, cluster := range slices.Sorted(maps.Keys(l.stood)) {
		if d := l.stood[cluster]; d.State != clusterlease.Alive {
			lines = append(lines, fmt.Sprintf("cluster %s is %s: %s", cluster, strings.ToLower(string(d.State)), d.Says))
		}
	}
	return l.blocked, strings.Join(lines, "\n")
}

func (l *looker) look(ctx context.Context) {
	reading, cancel := context.WithTimeout(ctx, callWithin)
	all, err := l.leases.List(reading)
	cancel()
	if err != nil {
		l.blind(err)
		return
	}
	l.metrics.read.SetToCurrentTime()
	stood := map[string]clusterlease.Decision{}
	memory := map[string]clusterlease.Memory{}
	l.heard = l.probeAll(ctx, all)
	if ctx.Err() != nil {
		return // what did not answer may have been cut short
	}
	for cluster, held := range all {
		l.pulse.Beat()
		stood[cluster], memory[cluster] = clusterlease.Decide(clusterlease.Input{
			Now: time.Now(), Every: l.opts.lookEvery(), DeadAfter: l.opts.DeadAfter, AnswerWithin: l.opts.AnswerWithin, Leases: leasesOf(held), Answered: l.heard[cluster] != "",
		}, l.memory[cluster])
		l.carryOut(ctx, cluster, held, stood[cluster])
	}
	l.turn++
	l.memory = memory
	l.tell(stood)
}

// blind notes that Consul could not be read.
func (l *looker) blind(err error) {
	for cluster, memory := range l.memory {
		l.memory[cluster] = memory.Blind()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	why := "the leases could not be read from Consul: " + consul.Reason(err)
	if l.blocked != why {
		l.log.Warn("the leases could not be read; nobody is taken for dead", "err", err)
	}
	l.blocked = why
}

// probeAll asks the agents of all clusters, and returns by cluster the node whose agent
// answers. Clusters do not wait for each other: a look that took long would not count.
func (l *looker) probeAll(ctx context.Context, all map[string][]catalog.Lease) map[string]string {
	heard, mu := map[string]string{}, sync.Mutex{}
	var group errgroup.Group
	for cluster, held := range all {
		group.Go(func() error {
			if node := l.probe(ctx, cluster, held); node != "" {
				mu.Lock()
				defer mu.Unlock()
				heard[cluster] = node
			}
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	return heard
}

// probe asks agents of a cluster at their ports until one answers: first the one that
// did so last, then others, at each look the next. It returns the node, if any.
func (l *looker) probe(ctx context.Context, cluster string, held []catalog.Lease) (answers string) {
	var nodes []catalog.Lease
	for _, lease := range held {
		if !lease.Placeless() && lease.Address.IsValid() {
			nodes = append(nodes, lease)
		}
	}
	last := slices.IndexFunc(nodes, func(n catalog.Lease) bool { return n.Node == l.heard[cluster] })
	if last >= 0 && l.agents.Answer(ctx, cluster, nodes[last].Node, nodes[last].Address) {
		return nodes[last].Node
	}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	var (
		group errgroup.Group
		mu    sync.Mutex
	)
	group.SetLimit(atOnce)
	for i := range min(mostProbes, len(nodes)) {
		node := nodes[(l.turn*mostProbes+i)%len(nodes)]
		group.Go(func() error {
			if ctx.Err() == nil && l.agents.Answer(ctx, cluster, node.Node, node.Address) {
				mu.Lock()
				defer mu.Unlock()
				answers = node.Node
				enough()
			}
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	return answers
}

func leasesOf(held []catalog.Lease) []clusterlease.Lease {
	leases := make([]clusterlease.Lease, 0, len(held))
	for _, l := range held {
		if l.Index == 0 && !l.Placeless() {
			continue // a node that is being made, or was by hand: nobody keeps a lease there
		}
		leases = append(leases, clusterlease.Lease{Name: l.ConsulNode, Status: l.Status, Says: l.Reason, Index: l.Index})
	}
	return leases
}

func (l *looker) carryOut(ctx context.Context, cluster string, held []catalog.Lease, d clusterlease.Decision) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, lease := range held {
		op, write, text := "", l.leases.Ask, ""
		switch {
		case slices.Contains(d.Ask, lease.ConsulNode):
			op, text = opAsk, clusterlease.Question+d.Says
		case slices.Contains(d.Expire, lease.ConsulNode):
			op, write, text = opExpire, l.leases.Expire, clusterlease.Verdict+"all of cluster "+cluster+" is dead: "+d.Says
		default:
			continue
		}
		group.Go(func() error {
			// A write that was begun is finished: nobody else knows how it ended.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
			defer cancel()
			err := write(ctx, cluster, lease, text)
			result := resultOK
			switch {
			case errors.Is(err, consul.ErrConflict): // another reaper has done it, or it was answered
				result = resultConflict
				l.log.Debug("a lease was written by somebody else meanwhile", "op", op, "cluster", cluster, "node", lease.Node)
			case err != nil:
				result = resultError
				l.log.Warn("write about a lease failed", "op", op, "cluster", cluster, "node", lease.Node, "reason", consul.Reason(err), "err", err)
			}
			l.metrics.writes.WithLabelValues(op, result).Inc()
			return nil
		})
	}
	_ = group.Wait() // none returns an error
}

// tell tells people how the clusters stand, and what has changed. That a cluster is
// silent for a while, and asked, is how it goes where agents are not reached at their
// ports.
func (l *looker) tell(stood map[string]clusterlease.Decision) {
	l.metrics.stand(stood)
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.stood
	l.stood, l.blocked = stood, ""
	for cluster, d := range stood {
		was := before[cluster].State
		if was == d.State || was == "" && d.State == clusterlease.Alive {
			continue
		}
		level := slog.LevelDebug
		switch {
		case d.State == clusterlease.Dead:
			level = slog.LevelWarn
		case d.State == clusterlease.Expired, was == clusterlease.Expired:
			level = slog.LevelInfo
		}
		l.log.Log(context.Background(), level, "cluster", "cluster", cluster, "state", string(d.State), "before", string(was), "reason", d.Says)
	}
}
