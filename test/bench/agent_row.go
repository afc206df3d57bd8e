package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/consul/api"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/app/agent"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/images"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

const (
	// coldStarts is how often the start is timed.
	coldStarts = 3
	// samples is how many pods come and go at least before their times are
	// summed up; objects only.
	samples = 300
	// containerRounds is the same for containers, in rolling updates.
	containerRounds = 3
	// stepTimeout bounds each step of a row.
	stepTimeout = 3 * time.Minute
)

// The values of agentRow.PodsAre.
const (
	objectPods    = "API objects"
	containerPods = "containers"
)

// agentBench measures agents on the one node of a lab.
type agentBench struct {
	lab     *cluster.Cluster
	kube    kubernetes.Interface
	node    string
	servers []*api.Client     // one for each Consul server, for all who ask
	program string            // path of the agent's binary
	tokens  map[string]string // files with the Consul token, by registry
}

func newAgentBench(ctx context.Context, lab *cluster.Cluster) (*agentBench, error) {
	kube, err := kubernetes.NewForConfig(lab.RESTConfig())
	if err != nil {
		return nil, err
	}
	set, err := images.Ensure(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	if err := lab.LoadImage(ctx, set.Sample); err != nil {
		return nil, err
	}
	b := &agentBench{lab: lab, kube: kube, node: lab.Nodes()[0], servers: lab.ConsulServers()}
	if b.program, err = build(ctx, "fairway-agent"); err != nil {
		return nil, err
	}
	b.tokens, err = writeTokens(lab)
	return b, err
}

// rowSpec says what a row is about.
type rowSpec struct {
	registry   string
	pods       int
	containers bool
	rest       time.Duration
}

// fleet is the pods of a node.
type fleet interface {
	// start makes the pods, and returns when they are as ready as they get
	// without an agent.
	start(ctx context.Context) error
	// uids names the pods that are there.
	uids(ctx context.Context) ([]string, error)
	// update replaces each pod, a few at a time.
	update(ctx context.Context, w *witness) error
	// burst ends all pods at once, then makes as many anew at once.
	burst(ctx context.Context, w *witness) error
	remove(ctx context.Context) error
	apps() []workload.App
}

func (b *agentBench) fleet(s rowSpec) (f fleet, kind string, rounds int) {
	if s.containers {
		return newContainers(b.kube, s.pods), containerPods, containerRounds
	}
	return newObjects(b.kube, s.pods), objectPods, (samples + s.pods - 1) / s.pods
}

// measure measures one row. alone is what Consul writes by itself.
func (b *agentBench) measure(ctx context.Context, s rowSpec, alone logged) (row agentRow, err error) {
	fleet, kind, rounds := b.fleet(s)
	row = agentRow{Registry: s.registry, Pods: s.pods, ServicesPerPod: servicesPerPod, PodsAre: kind, Load: loadAverage()}
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%s, %d %s: %s\n", s.registry, s.pods, kind, fmt.Sprintf(format, args...))
	}
	if !s.containers {
		// Without it nobody else changes the pods, which no kubelet knows.
		undo, stopErr := b.lab.Stop(ctx, "cp/kube-controller-manager")
		if stopErr != nil {
			return row, stopErr
		}
		defer func() { err = errors.Join(err, undo(context.WithoutCancel(ctx))) }()
	}
	floor := agentFloor
	if s.registry == agent.RegistryCatalog {
		floor = catalogFloor
	}
	if row.Floor, err = floor(ctx, b.lab, gatePods); err != nil {
		return row, err
	}
	say("floor %s ms; starting the pods", row.Floor)
	if err = fleet.start(ctx); err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, fleet.remove(context.WithoutCancel(ctx))) }()

	process, err := b.startCold(ctx, s, fleet, &row)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, process.stop(), b.emptyConsul(context.WithoutCancel(ctx), fleet)) }()
	if err := settle(ctx, b.servers); err != nil {
		return row, err
	}
	say("cold starts %v ms; %d rolling updates", row.ColdStarts, rounds)
	update, err := b.rounds(ctx, fleet, rounds, fleet.update)
	if err != nil {
		return row, err
	}
	row.ReadyToPassing, row.TerminatingToOut, row.Dropped = update.ReadyToPassing, update.TerminatingToOut, update.Dropped
	say("ready to passing %s ms, terminating to out %s ms; %d bursts", row.ReadyToPassing, row.TerminatingToOut, rounds)
	if row.Burst, err = b.rounds(ctx, fleet, rounds, fleet.burst); err != nil {
		return row, err
	}
	say("ready to passing %s ms, terminating to out %s ms; at rest for %s", row.Burst.ReadyToPassing, row.Burst.TerminatingToOut, s.rest)
	row.atRest, err = rest(ctx, b.lab, process, s.rest, alone)
	return row, err
}

// startCold times the start of the agent with Consul empty, several times. The
// last process runs on.
func (b *agentBench) startCold(ctx context.Context, s rowSpec, fleet fleet, row *agentRow) (*process, error) {
	p, err := again(coldStarts, func() (*process, error) {
		p, took, err := b.coldStart(ctx, s, fleet)
		row.ColdStarts = append(row.ColdStarts, milliseconds(took))
		return p, err
	})
	row.ColdStart = middle(row.ColdStarts)
	return p, err
}

func (b *agentBench) coldStart(ctx context.Context, s rowSpec, fleet fleet) (*process, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := b.emptyConsul(ctx, fleet); err != nil {
		return nil, 0, err
	}
	uids, err := fleet.uids(ctx)
	if err != nil {
		return nil, 0, err
	}
	w, err := follow(ctx, b.kube, b.servers, fleet.apps())
	if err != nil {
		return nil, 0, err
	}
	defer w.stop()
	process, err := b.startAgent(s)
	if err != nil {
		return nil, 0, err
	}
	if err := w.await(ctx, timeline.Passing, uids...); err != nil {
		return nil, 0, errors.Join(err, process.stop())
	}
	var last time.Time
	for _, pod := range w.pods() {
		if at := pod.At[timeline.Passing]; at.After(last) {
			last = at
		}
	}
	return process, last.Sub(process.started), nil
}

// rounds does something to the fleet several times, and sums up what the pods
// went through.
func (b *agentBench) rounds(ctx context.Context, fleet fleet, n int, do func(context.Context, *witness) error) (pair, error) {
	var pods []timeline.Pod
	for range n {
		round, err := func() ([]timeline.Pod, error) {
			ctx, cancel := context.WithTimeout(ctx, stepTimeout)
			defer cancel()
			w, err := follow(ctx, b.kube, b.servers, fleet.apps())
			if err != nil {
				return nil, err
			}
			defer w.stop()
			err = do(ctx, w)
			return w.pods(), err
		}()
		if err != nil {
			return pair{}, err
		}
		pods = append(pods, round...)
	}
	return pair{
		ReadyToPassing:   between(pods, timeline.ContainersReady, timeline.Passing),
		TerminatingToOut: between(pods, timeline.Terminating, timeline.Out),
		Dropped:          lost(pods),
	}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
