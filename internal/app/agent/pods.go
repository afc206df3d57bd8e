package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/kubelet"
	"fairway.dev/fairway/internal/podset"
	"fairway.dev/fairway/internal/service"
)

// The names of the sources, as flags, logs and metrics have them.
const (
	sourceAuto     = "auto"
	sourcePodsAPI  = "podsapi"
	sourceInformer = "informer"
	sourceKubelet  = "kubelet"
)

// source is something that tells of the node's pods.
type source struct {
	name string
	run  func(ctx context.Context) error
	*kube.Store
}

// nodePods is the podSource of an agent: it makes one picture of what its
// sources say. It does not choose one of them once and for all. Both are read
// all the time, what each last said stands when it falls silent, and for each
// pod the word that counts is decided anew; see podset. So nothing changes
// because a source comes or goes.
type nodePods struct {
	live *source // has the live status; nil if there is none
	base source  // has what the API server says
	// needsLive is true if base alone does not do.
	needsLive bool
	// watchRestarts tells of restarts of the kubelet; nil if they do not matter.
	watchRestarts func(ctx context.Context, restarted func()) error
	confirm       func(ctx context.Context, pod service.PodRef) (found *service.Pod, why string, err error)
	absent        func(ctx context.Context, name service.PodRef) (absent bool, why string, err error)
	log           *slog.Logger

	restarts trigger

	mu          sync.Mutex
	shown       []service.Pod
	synced      bool
	replaced    map[string]string // see podset.View
	subscribers []trigger
}

// newNodePods makes the podSource that the options ask for.
func newNodePods(opts Options, client *kube.Client, log *slog.Logger) (*nodePods, error) {
	n := &nodePods{
		needsLive: opts.PodSource == sourcePodsAPI,
		watchRestarts: func(ctx context.Context, restarted func()) error {
			return kubelet.WatchRestarts(ctx, kubelet.HealthAddress, restarted)
		},
		confirm: func(ctx context.Context, pod service.PodRef) (*service.Pod, string, error) {
			return kube.Confirm(ctx, client, pod)
		},
		absent: func(ctx context.Context, name service.PodRef) (bool, string, error) {
			return kube.Absent(ctx, client, name, opts.NodeName)
		},
		log: log, restarts: newTrigger(),
	}
	if opts.PodSource == sourceKubelet {
		config, err := process.Kubernetes(opts.Kubeconfig, userAgent)
		if err != nil {
			return nil, fmt.Errorf("configuration for the kubelet: %w", err)
		}
		list, err := kubelet.NewPodList(config, opts.KubeletAddress)
		if err != nil {
			return nil, err
		}
		n.base = source{sourceKubelet, list.Run, list.Store}
		return n, nil
	}
	informer, err := kube.NewPodSource(client, opts.NodeName)
	if err != nil {
		return nil, err
	}
	n.base = source{sourceInformer, informer.Run, informer.Store}
	if opts.PodSource != sourceInformer {
		api, err := kubelet.NewPodsAPI(opts.PodsAPISocket)
		if err != nil {
			return nil, err
		}
		n.live = &source{sourcePodsAPI, api.Run, api.Store}
	}
	return n, nil
}

func (n *nodePods) sources() []source {
	if n.live == nil {
		return []source{n.base}
	}
	return []source{*n.live, n.base}
}

// Run reads the sources until ctx ends.
func (n *nodePods) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, source := range n.sources() {
		group.Go(func() error { return process.Part{Name: source.name, Do: source.run}.Run(ctx) })
	}
	if n.watchRestarts != nil {
		group.Go(func() error {
			return process.Part{Name: "kubelet's restarts", Do: func(ctx context.Context) error {
				return n.watchRestarts(ctx, n.restarts.fire)
			}}.Run(ctx)
		})
	}
	group.Go(func() error { return n.show(ctx) })
	return group.Wait()
}

// show makes the picture anew whenever a source has said something.
func (n *nodePods) show(ctx context.Context) error {
	var (
		live     <-chan struct{}
		settling podset.Settling
		problems = map[string]string{}
	)
	if n.live != nil {
		live = n.live.Changed()
	}
	settled := time.NewTimer(0)
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-live:
		case <-n.base.Changed():
		case <-settled.C:
		case <-n.restarts:
			settling = podset.Restarted(time.Now())
			n.log.Info("the kubelet restarts", "settled_in", podset.SettleFor.String())
		}
		n.report(problems)
		if again := n.look(&settling); !again.IsZero() {
			settled.Reset(time.Until(again))
		}
	}
}

// look makes the picture and returns when to do so again without news, zero if
// there is no need.
func (n *nodePods) look(settling *podset.Settling) (again time.Time) {
	base, live := n.base.State(), kube.State{}
	if n.live != nil {
		live = n.live.State()
	}
	view := podset.Join(live.Side, base.Side)
	now := time.Now()
	*settling = settling.Heard(live.Live || base.Live, now)
	n.mu.Lock()
	defer n.mu.Unlock()
	shown := make(map[string]service.Pod, len(n.shown))
	for _, pod := range n.shown {
		shown[pod.Ref.UID] = pod
	}
	n.shown, again = podset.Settle(shown, view.Pods, *settling, now, live.Live) // one that has this API remembers
	n.replaced = view.Replaced
	n.synced = live.Synced || base.Synced && !n.needsLive
	for _, subscriber := range n.subscribers {
		subscriber.fire()
	}
	return again
}

// report says once when a source answers, and when it does not any more.
func (n *nodePods) report(problems map[string]string) {
	for _, s := range n.sources() {
		state := s.State()
		before, known := problems[s.name]
		problems[s.name] = state.Problem
		switch {
		case state.Problem == "" && (!known || before != ""):
			n.log.Info("a source of pods answers", "source", s.name, "pods", len(state.Pods))
		case state.Problem != "" && known && before == "":
			n.log.Warn("a source of pods does not answer; what it said last stands", "source", s.name, "reason", state.Problem)
		}
	}
}

// Snapshot returns the pods, and whether they are a complete picture.
func (n *nodePods) Snapshot() ([]service.Pod, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.synced {
		return nil, false
	}
	return slices.Clone(n.shown), true
}

// Subscribe returns a channel that gets a value after a change.
func (n *nodePods) Subscribe() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	subscriber := newTrigger()
	n.subscribers = append(n.subscribers, subscriber)
	return subscriber
}

// Gone returns, by UID, what proves that pods no longer exist. It forgets those
// that neither keep nor a source names.
func (n *nodePods) Gone(keep map[string]bool) map[string]string {
	keep = maps.Clone(keep)
	for _, s := range n.sources() {
		for _, pod := range s.State().Pods {
			keep[pod.Pod.Ref.UID] = true
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	gone := maps.Clone(n.replaced)
	if gone == nil {
		gone = map[string]string{}
	}
	maps.DeleteFunc(gone, func(uid, _ string) bool { return !keep[uid] })
	for _, s := range n.sources() {
		maps.Copy(gone, s.Gone(keep))
	}
	return gone
}

// Running returns, by UID, the pods that a kubelet which answers runs.
func (n *nodePods) Running() map[string]bool {
	if n.live == nil {
		return nil
	}
	state := n.live.State()
	if !state.Live || !state.Synced {
		return nil
	}
	running := make(map[string]bool, len(state.Pods))
	for _, pod := range state.Pods {
		health, _ := pod.Pod.Status(annotation.Parse(pod.Pod).Excluded...)
		running[pod.Pod.Ref.UID] = health != service.Critical
	}
	return running
}

// Confirm asks the API server for the pod, and keeps the proof that it is gone,
// or drops an earlier one of the API server's if it is not.
func (n *nodePods) Confirm(ctx context.Context, pod service.PodRef) (*service.Pod, string, error) {
	found, why, err := n.confirm(ctx, pod)
	switch {
	case err != nil:
	case found == nil:
		n.base.Prove(pod.UID, why)
	default:
		n.base.Disprove(pod.UID)
	}
	return found, why, err
}

// Absent asks the API server whether this node has no pod of that name.
func (n *nodePods) Absent(ctx context.Context, name service.PodRef) (bool, string, error) {
	return n.absent(ctx, name)
}

// Describe says in words what the sources are and how far they can be relied
// on.
func (n *nodePods) Describe(now time.Time) string {
	var texts []string
	for _, s := range n.sources() {
		state := s.State()
		text := fmt.Sprintf("%s: %d pods", s.name, len(state.Pods))
		if !state.Synced {
			text = s.name + ": no complete list yet"
		}
		if !state.Heard.IsZero() {
			text += fmt.Sprintf(", as of %s ago", now.Sub(state.Heard).Round(100*time.Millisecond))
		}
		if state.Problem != "" {
			text += ", does not answer: " + state.Problem
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "\n")
}
