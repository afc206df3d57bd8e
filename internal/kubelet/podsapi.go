// Package kubelet speaks to the kubelet of the agent's own node, which knows
// how its pods are while nobody else can be asked.
//
// [PodsAPI] follows them over the kubelet's local socket: live, and without the
// API server. [PodList] polls the kubelet's /pods, which says what the API
// server has told the kubelet. [Watch] sees the kubelet restart.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	podsv1alpha1 "k8s.io/kubelet/pkg/apis/pods/v1alpha1"

	"fairway.dev/fairway/internal/kube"
)

const (
	// startTimeout bounds the first list of a watch.
	startTimeout = 10 * time.Second
	// listTimeout bounds each other list. A kubelet that exceeds it is silent.
	listTimeout = 5 * time.Second
	// settle is how long after the last event the list is read again. Events of
	// one pod can overtake each other, and one that was waiting when the watch
	// began may be older than the list that it began with; the list is right.
	settle = time.Second
	// relist is the longest time between two lists. It shows that a kubelet
	// that says nothing has nothing to say, and brings what is no event: an
	// edited annotation.
	relist = 30 * time.Second
	// firstRetry and longestRetry bound the wait before a broken watch is begun
	// again. They cost nothing: the socket is local.
	firstRetry   = 100 * time.Millisecond
	longestRetry = 2 * time.Second
	// largestAnswer is more than any node's pods.
	largestAnswer = 64 << 20
)

// PodsAPI is the node's pods as its kubelet shows them over its local socket
// (KEP-4188; on by default since Kubernetes 1.37). It has the live status, also
// while the API server is away.
//
// The kubelet's word that it is through with a life of a pod is proof of its
// end. That a pod is missing from a list is not: a kubelet of 1.36 that has
// just started lists what it has heard of so far.
type PodsAPI struct {
	socket string
	*kube.Store
}

// NewPodsAPI makes a PodsAPI for the socket of that path. It shows nothing
// before Run, and it does not matter if there is no socket yet.
func NewPodsAPI(socket string) (*PodsAPI, error) {
	if socket == "" {
		return nil, errors.New("kubelet's pods API: the path of its socket is required")
	}
	return &PodsAPI{socket: socket, Store: kube.NewStore()}, nil
}

// Run follows the kubelet until ctx ends, and begins again whenever it breaks.
func (p *PodsAPI) Run(ctx context.Context) error {
	conn, err := grpc.NewClient("unix:"+p.socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // who may connect is the socket's mode
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largestAnswer)),
	)
	if err != nil {
		return fmt.Errorf("kubelet's pods API at %s: %w", p.socket, err)
	}
	defer conn.Close()
	client := podsv1alpha1.NewPodsClient(conn)
	for wait := firstRetry; ctx.Err() == nil; wait = min(2*wait, longestRetry) {
		began := time.Now()
		err := p.follow(ctx, client)
		p.Silent(reason(err))
		if time.Since(began) > longestRetry {
			wait = firstRetry
		}
		conn.ResetConnectBackoff() // the next attempt is ours to time
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return ctx.Err()
}

// follow reads one watch until it breaks. It never returns nil.
func (p *PodsAPI) follow(ctx context.Context, client podsv1alpha1.PodsClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.WatchPods(ctx, &podsv1alpha1.WatchPodsRequest{})
	if err != nil {
		return err
	}
	events := make(chan *podsv1alpha1.WatchPodsEvent, 1000)
	broken := make(chan error, 1)
	go func() { // ends with the stream, and that with ctx
		for {
			event, err := stream.Recv()
			if err != nil {
				broken <- err
				return
			}
			select {
			case events <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	f := &following{store: p.Store, client: client, events: events, broken: broken}
	if err := f.start(ctx); err != nil {
		return err
	}
	return f.goOn(ctx)
}

// following is one watch.
type following struct {
	store  *kube.Store
	client podsv1alpha1.PodsClient
	events <-chan *podsv1alpha1.WatchPodsEvent
	broken <-chan error
}

// start takes the list with which the watch begins.
func (f *following) start(ctx context.Context) error {
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	var pods [][]byte
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return fmt.Errorf("no list of pods within %s", startTimeout)
		case err := <-f.broken:
			return err
		case event := <-f.events:
			if event.GetType() == podsv1alpha1.EventType_INITIAL_SYNC_COMPLETE {
				return f.replace(pods)
			}
			pods = append(pods, event.GetPod())
		}
	}
}

// goOn takes in events, and the list again after them.
func (f *following) goOn(ctx context.Context) error {
	next := time.NewTimer(settle)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-f.broken:
			return err
		case event := <-f.events:
			if err := hear(f.store, event); err != nil {
				return err
			}
			f.store.Answers()
			next.Reset(settle)
		case <-next.C:
			again, err := f.list(ctx)
			if err != nil {
				return err
			}
			next.Reset(again)
		}
	}
}

// list reads the list, and returns when to do so again. A list during which an
// event came may be older than that, and is left.
func (f *following) list(ctx context.Context) (again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	answer, err := f.client.ListPods(ctx, &podsv1alpha1.ListPodsRequest{})
	if err != nil {
		return 0, fmt.Errorf("list pods: %w", err)
	}
	if len(f.events) > 0 {
		return settle, nil
	}
	if err := f.replace(answer.GetPods()); err != nil {
		return 0, err
	}
	return relist, nil
}

// replace takes in a list if it can be complete.
func (f *following) replace(encoded [][]byte) error {
	pods, err := decodeList(encoded)
	if err != nil {
		return err
	}
	if err := f.store.Replace(pods, ""); err != nil {
		return err
	}
	f.store.Answers()
	return nil
}
