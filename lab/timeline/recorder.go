package timeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/service"
)

// Recorder follows the pods of one workload. Make it with Follow.
type Recorder struct {
	kube      kubernetes.Interface
	servers   []*api.Client
	namespace string
	selector  string
	service   string
	log       *slog.Logger

	mu      sync.Mutex
	pods    map[string]*Pod // by UID
	passing map[string]bool // UIDs that the servers return as passing
	changed chan struct{}   // closed and replaced on each change
	ready   chan string     // UIDs of pods just seen Ready
	onStage func(Change)
}

// Options says what to follow.
type Options struct {
	Kube kubernetes.Interface
	// Consul are clients of all Consul servers. The leader is asked.
	Consul    []*api.Client
	Namespace string
	Selector  string // label selector of the pods
	Service   string // service name in Consul
	// OnStage, if set, is called for each stage as it is reached, in order.
	OnStage func(Change)
	// Log gets what went wrong while following; nil discards it.
	Log *slog.Logger
}

// Follow records until ctx ends. It returns once both the API server and a
// Consul server have given their first complete answer, so that nothing that
// happens afterwards is missed.
func Follow(ctx context.Context, o Options) (*Recorder, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Recorder{
		kube: o.Kube, servers: o.Consul, namespace: o.Namespace, selector: o.Selector, service: o.Service, log: log,
		pods: map[string]*Pod{}, passing: map[string]bool{}, changed: make(chan struct{}), ready: make(chan string, 1000), onStage: o.OnStage,
	}
	version, err := r.list(ctx)
	if err != nil {
		return nil, err
	}
	leader, err := Leader(ctx, r.servers)
	if err != nil {
		return nil, fmt.Errorf("follow service %s: %w", r.service, err)
	}
	index, err := r.query(ctx, leader, 0)
	if err != nil {
		return nil, fmt.Errorf("follow service %s: %w", r.service, err)
	}
	go r.watchPods(ctx, version)
	go r.watchService(ctx, leader, index)
	go r.confirmReady(ctx)
	return r, nil
}

// Pods returns the timelines so far, oldest first.
func (r *Recorder) Pods() []Pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sorted(r.pods)
}

// Wait blocks until cond holds for the pods, or ctx ends. The error then tells
// the state in which the pods were.
func (r *Recorder) Wait(ctx context.Context, what string, cond func([]Pod) bool) error {
	for {
		r.mu.Lock()
		pods, changed := sorted(r.pods), r.changed
		r.mu.Unlock()
		if cond(pods) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w; pods:\n%s", what, context.Cause(ctx), Table(pods))
		}
	}
}

func (r *Recorder) list(ctx context.Context) (version string, err error) {
	pods, err := r.kube.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{LabelSelector: r.selector})
	if err != nil {
		return "", fmt.Errorf("list pods %s in %s: %w", r.selector, r.namespace, err)
	}
	now := time.Now()
	seen := map[string]bool{}
	for i := range pods.Items {
		seen[string(pods.Items[i].UID)] = true
		r.observePod(&pods.Items[i], now)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, p := range r.pods {
		if p.Reached(Created) && !seen[uid] {
			r.reach(p, Deleted, now)
		}
	}
	return pods.ResourceVersion, nil
}

// watchPods watches from version on and lists again whenever a watch breaks.
func (r *Recorder) watchPods(ctx context.Context, version string) {
	for ctx.Err() == nil {
		if err := r.watchOnce(ctx, version); err != nil && ctx.Err() == nil {
			r.log.Warn("watch of pods broke", "err", err)
		}
		for ctx.Err() == nil {
			v, err := r.list(ctx)
			if err == nil {
				version = v
				break
			}
			pause(ctx, 50*time.Millisecond)
		}
	}
}

func (r *Recorder) watchOnce(ctx context.Context, version string) error {
	w, err := r.kube.CoreV1().Pods(r.namespace).Watch(ctx, metav1.ListOptions{LabelSelector: r.selector, ResourceVersion: version})
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		now := time.Now()
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("watch event %s: %v", event.Type, event.Object)
		}
		r.observePod(pod, now)
		if event.Type == "DELETED" {
			r.mu.Lock()
			r.reach(r.pods[string(pod.UID)], Deleted, now)
			r.mu.Unlock()
		}
	}
	return nil
}

// watchService follows the passing set by blocking queries to the leader, and
// looks for the leader again when one fails.
func (r *Recorder) watchService(ctx context.Context, leader *api.Client, index uint64) {
	for ctx.Err() == nil {
		next, err := r.query(ctx, leader, index)
		if err == nil {
			index = next
			continue
		}
		r.log.Debug("query of a Consul server failed", "err", err)
		for ctx.Err() == nil {
			pause(ctx, 20*time.Millisecond)
			if now, err := Leader(ctx, r.servers); err == nil {
				leader, index = now, 0
				break
			}
		}
	}
}

// query asks for the instances once, blocking until they differ from those of
// index. It asks for all, so that an answer also says why one is not passing. An
// answer without a leader behind it is an error: it says nothing. So does the
// default read of a server that leads only just, and has not applied its log yet;
// the first question is therefore a consistent one.
func (r *Recorder) query(ctx context.Context, server *api.Client, index uint64) (uint64, error) {
	// Consul adds up to a sixteenth to the wait.
	ctx, cancel := context.WithTimeout(ctx, blocks+blocks/16+prompt)
	defer cancel()
	entries, meta, err := server.Health().Service(r.service, "", false, Blocking(ctx, index))
	if err != nil {
		return 0, err
	}
	now := time.Now()
	if !meta.KnownLeader {
		return 0, errors.New("server knows no leader")
	}
	r.observeService(entries, now)
	if meta.LastIndex < index {
		return 0, nil
	}
	return meta.LastIndex, nil
}

// confirmReady asks the servers for each pod that was just seen Ready. What a
// read begun after that moment says does not depend on which of two watches is
// faster.
func (r *Recorder) confirmReady(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case uid := <-r.ready:
			for server := 0; ctx.Err() == nil; server = (server + 1) % len(r.servers) {
				q := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
				entries, _, err := r.servers[server].Health().Service(r.service, "", true, q)
				if err == nil {
					r.confirm(uid, entries, time.Now())
					break
				}
				pause(ctx, 20*time.Millisecond)
			}
		}
	}
}

func (r *Recorder) confirm(uid string, entries []*api.ServiceEntry, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pod(uid)
	for _, e := range entries {
		if e.Service.Meta[service.MetaPodUID] == uid {
			r.reach(p, Confirmed, now)
			return
		}
	}
	p.Denied++
	r.notify()
}

func (r *Recorder) observeService(entries []*api.ServiceEntry, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	passing, nodeOut := map[string]bool{}, map[string]bool{}
	for _, e := range entries {
		uid := e.Service.Meta[service.MetaPodUID]
		if uid == "" {
			continue
		}
		switch amiss := notPassing(e.Checks); {
		case len(amiss) == 0:
			passing[uid] = true
		case len(amiss) == 1 && amiss[0] == nodeHealth:
			nodeOut[uid] = true
		}
	}
	for uid := range passing {
		p := r.pod(uid)
		if p.Reached(Out) {
			p.At[Out] = time.Time{}
			if p.NodeOut {
				p.NodeFlaps++
			} else {
				p.Flaps++
			}
			r.notify()
		}
		r.reach(p, Passing, now)
	}
	for uid := range r.passing {
		if !passing[uid] {
			p := r.pod(uid)
			p.LastOut, p.NodeOut = now, nodeOut[uid]
			r.reach(p, Out, now)
		}
	}
	for uid, p := range r.pods {
		p.NodeOut = p.NodeOut && nodeOut[uid]
	}
	r.passing = passing
}

// nodeHealth is the check by which Consul's members say whether a node lives.
const nodeHealth = "serfHealth"

// notPassing are the IDs of the checks that keep an instance from clients: with
// one of them it is not in the servers' passing set.
func notPassing(checks api.HealthChecks) (ids []string) {
	for _, check := range checks {
		if check.Status != api.HealthPassing {
			ids = append(ids, check.CheckID)
		}
	}
	return ids
}

func (r *Recorder) observePod(pod *corev1.Pod, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pod(string(pod.UID))
	p.Namespace, p.Name, p.Node, p.IP = pod.Namespace, pod.Name, pod.Spec.NodeName, pod.Status.PodIP
	p.Revision = pod.Labels["pod-template-hash"]
	r.reach(p, Created, now)
	for _, c := range pod.Status.Conditions {
		open := c.Status == corev1.ConditionTrue
		switch c.Type {
		case corev1.ContainersReady:
			if open {
				r.reach(p, ContainersReady, now)
			} else if pod.DeletionTimestamp == nil {
				p.At[ContainersReady] = time.Time{}
			}
		case service.GateReachable:
			p.GateReason, p.GateMessage = c.Reason, c.Message
			if open {
				r.reach(p, GateOpen, now)
			}
		case corev1.PodReady:
			if open && !p.Reached(Ready) {
				r.reach(p, Ready, now)
				r.ready <- p.UID
			}
		}
	}
	if pod.DeletionTimestamp != nil {
		r.reach(p, Terminating, now)
	}
	r.notify()
}

// pod returns the record of uid, which need not be known to the API yet. The
// caller holds the lock.
func (r *Recorder) pod(uid string) *Pod {
	p, ok := r.pods[uid]
	if !ok {
		p = &Pod{UID: uid}
		r.pods[uid] = p
	}
	return p
}

// reach records the first time of a stage. The caller holds the lock.
func (r *Recorder) reach(p *Pod, s Stage, now time.Time) {
	if p.Reached(s) {
		return
	}
	p.At[s] = now
	if r.onStage != nil {
		r.onStage(Change{Pod: *p, Stage: s})
	}
	r.notify()
}

func (r *Recorder) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
