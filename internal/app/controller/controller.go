// Package controller is the process that does what takes a view of the whole
// cluster. Several replicas run; each watches all that it decides from, and one,
// the holder of a Lease, writes.
//
// Each loop has a job of its own. The undertaker notices nodes that died, and hides
// their entries from clients: it is needed where pods are registered with the Consul
// servers, under virtual nodes that nobody else looks after. The exporter publishes
// the cluster's Services. The importer makes services of Consul Services of Kubernetes.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/discovery"
	"fairway.dev/fairway/internal/kube/imports"
	"fairway.dev/fairway/internal/kube/nodes"
)

const (
	userAgent = "fairway-controller"
	// stuckAfter is how long a loop at work may show no progress. Every single
	// step of a loop is bounded by much less.
	stuckAfter = 2 * time.Minute
)

// Controller is one controller process.
type Controller struct {
	opts     Options
	log      *slog.Logger
	registry *prometheus.Registry
	config   *rest.Config
	kube     kubernetes.Interface
	custom   dynamic.Interface // for objects of which the client has no types
	consul   *consul.Client
	// listening is called with the address of the HTTP port; for tests.
	listening func(at net.Addr)
}

// New makes a controller that speaks to Kubernetes and Consul as the options say.
// It contacts neither.
func New(opts Options, log *slog.Logger) (*Controller, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	config, err := process.Kubernetes(opts.Kubeconfig, userAgent)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	custom, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	servers, err := opts.ConsulOptions.Client(userAgent)
	if err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(process.ConsulUsage{Usage: servers.Usage})
	return &Controller{
		opts: opts, log: log, registry: reg, config: config, kube: client, custom: custom, consul: servers, listening: func(net.Addr) {},
	}, nil
}

// Run works until ctx ends, and then leaves everything as it is: it finishes the
// writes it is at, and only then lets another replica lead. It returns nil if ctx
// ended.
func (c *Controller) Run(ctx context.Context) (err error) {
	stop := &process.StopStack{Log: c.log}
	defer func() { err = errors.Join(err, stop.Run(context.WithoutCancel(ctx))) }()
	stop.Push(process.Step{Name: "log out of Consul", Within: 2 * time.Second, Do: c.consul.Logout})

	metrics := newMetrics(c.registry)
	board := newBoard(metrics)
	leader, err := newLeadership(c.opts, c.kube, board.says, c.log.With("component", "leader"), metrics)
	if err != nil {
		return err
	}
	loops, err := c.loops(leader, board, metrics, stop)
	if err != nil {
		return err
	}

	group, working := errgroup.WithContext(ctx)
	probes := process.Probes{Gatherer: c.registry, Ready: func(time.Time) (why, details string) {
		why, details = board.says()
		return why, strings.TrimSpace(leader.String() + "\n" + details)
	}}
	var parts []process.Part
	for _, loop := range loops {
		probes.Pulses, parts = append(probes.Pulses, loop.pulse), append(parts, loop.parts...)
	}
	at, serve, shutdown, err := process.Listen(working, c.opts.Listen, probes.Handler(working))
	if err != nil {
		return err
	}
	c.listening(at)
	stop.Push(shutdown)
	stop.Push(c.elect(ctx, leader))

	c.log.Info("starting", "cluster", c.opts.ClusterID, "consul", c.opts.ConsulAddress, "pod", c.opts.PodName)
	for _, part := range append(parts, serve) {
		group.Go(func() error { return part.Run(working) })
	}
	err = group.Wait()
	c.log.Info("stopping; everything stays as it is")
	return err
}

// loop is one job of the controller: what runs for it, and the pulse of its passes.
type loop struct {
	pulse *process.Pulse
	parts []process.Part
}

// loops makes those that are wanted.
func (c *Controller) loops(leader *leadership, board *board, metrics *metrics, stop *process.StopStack) ([]loop, error) {
	var loops []loop
	if c.opts.Nodes {
		loops = append(loops, c.nodes(leader, board, metrics, stop))
	}
	if c.opts.Export {
		exports, err := c.exports(leader, board, stop)
		if err != nil {
			return nil, err
		}
		loops = append(loops, exports)
	}
	if c.opts.Import {
		importing, err := c.importing(leader, board)
		if err != nil {
			return nil, err
		}
		loops = append(loops, importing)
	}
	return loops, nil
}

// nodes makes the loop that minds the cluster's nodes.
func (c *Controller) nodes(leader *leadership, board *board, metrics *metrics, stop *process.StopStack) loop {
	source, events := nodes.New(c.kube), nodes.NewEvents(c.kube)
	stop.Push(process.Step{Name: "events", Within: time.Second, Do: func(context.Context) error { events.Close(); return nil }})
	undertaker := &undertaker{
		source: source, leases: catalog.NewLeases(c.consul, c.opts.ClusterID), agents: process.NewAgents(c.opts.AgentPort), cluster: c.opts.ClusterID,
		events: events, leader: leader, leads: leader.begins(), report: board.loop("the virtual nodes have not been read from Consul yet"),
		log: c.log.With("component", "nodes"), metrics: metrics, pulse: process.NewPulse("nodes", stuckAfter),
		maxDead: c.opts.MaxDeadShare, forget: c.opts.ForgetNodesAfter,
	}
	return loop{undertaker.pulse, []process.Part{{Name: "node sources", Do: source.Run}, {Name: "nodes", Do: undertaker.run}}}
}

// importing makes the loop that imports services of Consul.
func (c *Controller) importing(leader *leadership, board *board) (loop, error) {
	source, err := imports.New(c.config, c.opts.ImportNamespaces)
	if err != nil {
		return loop{}, fmt.Errorf("kubernetes client for imports: %w", err)
	}
	services, err := discovery.New(c.consul, c.opts.ImportConnections)
	if err != nil {
		return loop{}, err
	}
	i := &importer{
		source: source, consul: services, leader: leader, leads: leader.begins(),
		report: board.loop("the ConsulImports have not been read yet"),
		log:    c.log.With("component", "imports"), metrics: newImportMetrics(c.registry), pulse: process.NewPulse("imports", stuckAfter),
		cluster: c.opts.ClusterID, maxLoss: c.opts.ImportMaxLossShare,
	}
	return loop{i.pulse, []process.Part{
		{Name: "import sources", Do: source.Run}, {Name: "services in Consul", Do: services.Run}, {Name: "imports", Do: i.run},
	}}, nil
}

// elect takes part in the election until the step is done: when all loops have
// ended, so that no write of theirs meets one of the next leader.
func (c *Controller) elect(ctx context.Context, leader *leadership) process.Step {
	ctx, resign := context.WithCancel(context.WithoutCancel(ctx))
	resigned := make(chan struct{})
	go func() {
		defer close(resigned)
		leader.run(ctx)
	}()
	return process.Step{Name: "resign", Within: 5 * time.Second, Do: func(ctx context.Context) error {
		resign()
		select {
		case <-resigned:
			return nil
		case <-ctx.Done():
			return ctx.Err() // the Lease runs out by itself
		}
	}}
}
