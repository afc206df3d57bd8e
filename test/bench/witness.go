package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// witness follows pods that are instances of several services. A pod passes
// when the servers return it for all of its services, and is out when they do
// for none.
type witness struct {
	began     time.Time
	recorders [][]*timeline.Recorder // by app, one for each of its services
	stop      context.CancelFunc

	mu      sync.Mutex
	reached map[arrival]int // in how many services
	waiting map[arrival]chan struct{}
}

// arrival is one pod that comes to one stage.
type arrival struct {
	uid   string
	stage timeline.Stage
}

// follow makes a witness that sees all that happens to the apps' pods after it
// returns.
func follow(ctx context.Context, kube kubernetes.Interface, servers []*api.Client, apps []workload.App) (*witness, error) {
	ctx, stop := context.WithCancel(ctx)
	w := &witness{stop: stop, recorders: make([][]*timeline.Recorder, len(apps)), reached: map[arrival]int{}, waiting: map[arrival]chan struct{}{}}
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, app := range apps {
		group.Go(func() error {
			for _, name := range servicesOf(app) {
				r, err := timeline.Follow(ctx, timeline.Options{
					Kube: kube, Consul: servers, Namespace: app.Namespace, Selector: app.Selector(), Service: name,
					OnStage: func(c timeline.Change) { w.note(arrival{c.Pod.UID, c.Stage}) },
				})
				if err != nil {
					return err
				}
				w.recorders[i] = append(w.recorders[i], r)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		stop()
		return nil, err
	}
	w.began = time.Now()
	return w, nil
}

func (w *witness) note(a arrival) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reached[a]++
	if w.reached[a] == servicesPerPod {
		close(w.channel(a))
	}
}

// channel is closed when the pod has come to the stage. The caller holds mu.
func (w *witness) channel(a arrival) chan struct{} {
	c, ok := w.waiting[a]
	if !ok {
		c = make(chan struct{})
		w.waiting[a] = c
	}
	return c
}

// await waits until the pods have come to the stage, in all services.
func (w *witness) await(ctx context.Context, stage timeline.Stage, uids ...string) error {
	for _, uid := range uids {
		w.mu.Lock()
		c := w.channel(arrival{uid, stage})
		w.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return fmt.Errorf("wait until pod %s of %d is %s: %w", uid, len(uids), stage, context.Cause(ctx))
		}
	}
	return nil
}

// until waits for something that the API server shows of the pods of the only
// app.
func (w *witness) until(ctx context.Context, what string, cond func([]timeline.Pod) bool) error {
	return w.recorders[0][0].Wait(ctx, what, cond)
}

// pods are the timelines of all pods, with the later of the times at which their
// services reached a stage. Of pods that were there before the witness, the
// stages that it cannot have seen are left out.
func (w *witness) pods() []timeline.Pod {
	var pods []timeline.Pod
	for _, recorders := range w.recorders {
		pods = append(pods, joined(recorders)...)
	}
	for i := range pods {
		if pods[i].At[timeline.Created].Before(w.began) {
			pods[i].At[timeline.ContainersReady] = time.Time{}
		}
	}
	return pods
}

// joined are the pods of one app.
func joined(recorders []*timeline.Recorder) []timeline.Pod {
	pods := recorders[0].Pods()
	for _, r := range recorders[1:] {
		others := map[string]timeline.Pod{}
		for _, p := range r.Pods() {
			others[p.UID] = p
		}
		for i := range pods {
			other := others[pods[i].UID]
			pods[i].Flaps += other.Flaps
			pods[i].NodeFlaps += other.NodeFlaps
			pods[i].NodeOut = pods[i].NodeOut || other.NodeOut
			for _, stage := range []timeline.Stage{timeline.Passing, timeline.Out} {
				pods[i].At[stage] = later(pods[i].At[stage], other.At[stage])
			}
		}
	}
	return pods
}

// later is the later of two times, none if either is.
func later(a, b time.Time) time.Time {
	if a.IsZero() || b.IsZero() {
		return time.Time{}
	}
	return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare)
}

// lost counts the pods that the servers dropped although they were healthy and
// their gates open. Here nothing parts Consul's members, so a node that they take
// for dead counts as well.
func lost(pods []timeline.Pod) (n int) {
	for _, p := range pods {
		if p.Dropped() || p.NodeOut || p.NodeFlaps > 0 {
			n++
		}
	}
	return n
}
