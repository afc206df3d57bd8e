// Package agent is the process that runs on every node: it reads the node's
// pods from its kubelet and the API server, publishes them to the node's Consul
// agent or to the Consul servers, and opens their readiness gates when the
// servers prove that clients are given them.
//
// Four loops do the work, and each owns its state: the publisher writes to
// Consul, the gatekeeper asks the servers and writes to pods, the confirmer
// looks for proof that missing pods are gone, the auditor compares what the
// servers hold with what they were told. A fifth, the successor, changes places
// with katalog-sync, if that is asked for. They leave each other notes on a board,
// and none waits for another.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/agentapi"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/consul/katalogsync"
	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
	"fairway.dev/fairway/internal/tokens"
)

const (
	userAgent = "fairway-agent"
	// stuckAfter is how long a loop at work may show no progress. Every single
	// step of a loop is bounded by much less.
	stuckAfter = 2 * time.Minute
)

// Agent is one agent process.
type Agent struct {
	opts Options
	log  *slog.Logger
	// outside is what the agent speaks to.
	outside  outside
	closers  []process.Step
	registry *prometheus.Registry
	// describe says in words where the pods come from, sources in values.
	describe func(now time.Time) string
	sources  func() []nodeview.Source
	// listening is called with the address of each server; for tests.
	listening func(server string, at net.Addr)
}

// outside is everything that an agent speaks to.
type outside struct {
	source   podSource
	registry registry
	prover   prover
	watcher  watcher
	writer   podWriter
	tokens   verifier       // nil if --grpc-listen is off
	katalog  katalogEntries // nil with RegistryCatalog
	lookup   lookup
	usage    func() consul.Usage // of all of it that is Consul's
}

// New makes an agent that speaks to Kubernetes and Consul as the options say.
// It contacts neither.
func New(opts Options, log *slog.Logger) (*Agent, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	api, err := kubernetesClient(opts)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	source, err := newNodePods(opts, api, log.With("component", "pods"))
	if err != nil {
		return nil, err
	}
	writer, err := kube.NewWriter(api, opts.NodeName)
	if err != nil {
		return nil, err
	}
	outside, closers, err := consulAdapters(opts)
	if err != nil {
		writer.Close()
		return nil, err
	}
	outside.source, outside.writer = source, writer
	if opts.GRPCListen != "" {
		if outside.tokens, err = tokenVerifier(opts, api, log); err != nil {
			writer.Close()
			return nil, err
		}
	}
	a := newAgent(opts, log, outside)
	a.registry.MustRegister(sourceCollector{source.sources()})
	a.describe, a.sources = source.Describe, source.view
	a.closers = append(closers, process.Step{Name: "events", Within: time.Second, Do: func(context.Context) error { writer.Close(); return nil }})
	return a, nil
}

func newAgent(opts Options, log *slog.Logger, outside outside) *Agent {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(process.ConsulUsage{Usage: outside.usage})
	return &Agent{
		opts: opts, log: log, outside: outside, registry: reg,
		describe: func(time.Time) string { return "" }, sources: func() []nodeview.Source { return nil },
		listening: func(string, net.Addr) {},
	}
}

func kubernetesClient(opts Options) (*kube.Client, error) {
	config, err := process.Kubernetes(opts.Kubeconfig, userAgent)
	if err != nil {
		return nil, err
	}
	// A node that starts all of its pods at once needs two patches and an Event
	// for each; the client's default of 5 a second would hold up their gates.
	config.QPS, config.Burst = 50, 200
	return kube.NewClient(config)
}

func tokenVerifier(opts Options, client *kube.Client, log *slog.Logger) (*tokens.Verifier, error) {
	return tokens.New(tokens.Options{
		Node: opts.NodeName,
		File: opts.SigningKeysFile,
		Log:  log.With("component", "tokens"),
		Fetch: func(ctx context.Context) (tokens.Published, error) {
			issuer, keys, err := kube.SigningKeys(ctx, client)
			return tokens.Published{Issuer: issuer, Keys: keys}, err
		},
	})
}

// consulAdapters are what speaks to Consul, and what is to be done at the end.
func consulAdapters(opts Options) (outside, []process.Step, error) {
	client, err := opts.ConsulOptions.Client(userAgent)
	if err != nil {
		return outside{}, nil, err
	}
	if opts.Registry == RegistryCatalog {
		address, err := netip.ParseAddr(opts.NodeAddress)
		if err != nil {
			return outside{}, nil, fmt.Errorf("node address: %w", err)
		}
		registry, err := catalog.New(catalog.Options{
			Client: client, Cluster: opts.ClusterID, Node: opts.NodeName, Address: address,
		})
		if err != nil {
			return outside{}, nil, err
		}
		// A client agent would go on using the token, the servers do not.
		return sides(registry, client, registry), []process.Step{{Name: "log out of Consul", Within: 2 * time.Second, Do: client.Logout}}, nil
	}
	identity := consul.NewIdentity(client)
	registry, err := agentapi.New(agentapi.Options{Client: client, Identity: identity, CheckTTL: opts.CheckTTL})
	if err != nil {
		return outside{}, nil, err
	}
	o := sides(registry, client, identity)
	o.katalog = katalogsync.New(client, identity)
	return o, nil, nil
}

// sides are the adapters for the entries under one Consul node.
func sides(registry registry, client *consul.Client, node health.Node) outside {
	prover := health.NewProver(client, node)
	return outside{
		registry: registry, prover: prover, lookup: prover, watcher: health.NewWatcher(client, node), usage: client.Usage,
	}
}

// Run works until ctx ends, and then leaves everything as it is for the next
// process: it finishes the write it is at, hands the entries' dead-man over,
// and takes nothing out. It returns nil if ctx ended.
func (a *Agent) Run(ctx context.Context) (err error) {
	stop := &process.StopStack{Log: a.log}
	defer func() { err = errors.Join(err, stop.Run(context.WithoutCancel(ctx))) }()
	for _, closer := range a.closers {
		stop.Push(closer)
	}

	group, ctx := errgroup.WithContext(ctx)
	loops := a.loops()
	at, serve, shutdown, err := process.Listen(ctx, a.opts.Listen, a.handler(ctx, loops))
	if err != nil {
		return err
	}
	a.listening("http", at)
	stop.Push(shutdown)
	stop.Push(process.Step{Name: "hand over checks", Within: 5 * time.Second, Do: loops.publisher.handOver})

	a.log.Info("starting", "node", a.opts.NodeName, "cluster", a.opts.ClusterID,
		"pod_source", a.opts.PodSource, "registry", a.opts.Registry, "consul", a.opts.ConsulAddress)
	parts := []process.Part{
		serve,
		{Name: "pods", Do: a.outside.source.Run},
		{Name: "publisher", Do: loops.publisher.run},
		{Name: "confirmer", Do: loops.confirmer.run},
		{Name: "gatekeeper", Do: loops.gatekeeper.run},
		{Name: "auditor", Do: loops.auditor.run},
	}
	if loops.successor != nil {
		parts = append(parts, process.Part{Name: "successor", Do: loops.successor.run})
	}
	servers, err := a.podServers(ctx, loops.waits)
	if err != nil {
		return err
	}
	for _, part := range append(parts, servers...) {
		group.Go(func() error { return part.Run(ctx) })
	}
	err = group.Wait()
	a.log.Info("stopping; entries and gates stay as they are")
	return err
}

// loops are the loops of an agent, and what answers pods.
type loops struct {
	publisher  *publisher
	confirmer  *confirmer
	gatekeeper *gatekeeper
	auditor    *auditor
	successor  *successor // nil unless --katalog-sync asks for it
	waits      *waits
}

func (a *Agent) loops() loops {
	var (
		o       = a.outside
		metrics = newMetrics(a.registry)
		board   = newBoard()
	)
	a.registry.MustRegister(publishing(board))
	checkTTL := a.opts.CheckTTL
	if a.opts.Registry == RegistryCatalog {
		checkTTL = 0 // the servers have no TTL that runs out
	}
	// A client agent that comes back without its data has the servers forget all
	// it held within 3 s, at any moment of these; one that is not there costs
	// next to nothing to ask. The servers are asked by all agents.
	hurry := 2 * time.Millisecond
	if a.opts.Registry == RegistryCatalog {
		hurry = 25 * time.Millisecond
	}
	confirmer := &confirmer{
		source: o.source, log: a.log.With("component", "confirmer"),
		metrics: metrics, pulse: process.NewPulse("confirmer", stuckAfter), wake: newTrigger(), answer: board.reassert,
		answers: map[string]registration.Answer{},
	}
	publisher := &publisher{
		cluster: a.opts.ClusterID, node: a.opts.NodeName, resync: a.opts.Resync, hurry: hurry, checkTTL: checkTTL,
		source: o.source, changed: o.source.Subscribe(), registry: o.registry, board: board,
		breaker: &breaker{
			maxShare: a.opts.MaxRemovalShare, self: service.PodRef{Namespace: a.opts.PodNamespace, Name: a.opts.PodName},
			source: o.source, evidence: confirmer, writer: o.writer, board: board, log: a.log.With("component", "breaker"), metrics: metrics,
		},
		handsBack: a.opts.KatalogSync == succession.Predecessor,
		log:       a.log.With("component", "publisher"), metrics: metrics, pulse: process.NewPulse("publisher", stuckAfter),
	}
	gatekeeper := &gatekeeper{
		source: o.source, changed: o.source.Subscribe(), prover: o.prover, writer: o.writer, board: board,
		gates: []string{service.GateReachable},
		log:   a.log.With("component", "gatekeeper"), metrics: metrics, pulse: process.NewPulse("gatekeeper", stuckAfter),
	}
	auditor := &auditor{
		watcher: o.watcher, board: board,
		log: a.log.With("component", "auditor"), metrics: metrics, pulse: process.NewPulse("auditor", stuckAfter),
	}
	waits := &waits{
		source: o.source, prover: o.prover, board: board, writer: o.writer,
		log: a.log.With("component", "drain"), metrics: metrics,
	}
	l := loops{publisher, confirmer, gatekeeper, auditor, nil, waits}
	if a.opts.KatalogSync != succession.Apart {
		gatekeeper.gates = append(gatekeeper.gates, service.GateKatalog)
		l.successor = &successor{
			mode: a.opts.KatalogSync, cluster: a.opts.ClusterID, node: a.opts.NodeName, checkTTL: checkTTL, resync: a.opts.Resync,
			source: o.source, changed: o.source.Subscribe(), theirs: o.katalog, servers: o.lookup, writer: o.writer, board: board,
			log: a.log.With("component", "successor"), metrics: metrics, pulse: process.NewPulse("successor", stuckAfter),
		}
	}
	return l
}

// handler serves the probes, and the view of the node for people.
func (a *Agent) handler(ctx context.Context, l loops) http.Handler {
	board := l.publisher.board
	pulses := []*process.Pulse{l.publisher.pulse, l.confirmer.pulse, l.gatekeeper.pulse, l.auditor.pulse}
	if l.successor != nil {
		pulses = append(pulses, l.successor.pulse)
	}
	mux := process.Probes{Gatherer: a.registry, Pulses: pulses, Ready: func(now time.Time) (why, details string) {
		return board.why(), strings.TrimSpace(a.describe(now) + "\n" + board.freezes())
	}}.Handler(ctx)
	view := a.viewer(board)
	mux.HandleFunc("GET "+nodeview.Path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(view(time.Now()))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Who asks whether this node lives must not take another's answer for it.
		w.Header().Set(nodeview.HeaderCluster, a.opts.ClusterID)
		w.Header().Set(nodeview.HeaderNode, a.opts.NodeName)
		mux.ServeHTTP(w, r)
	})
}
