// Package nodes speaks to the Kubernetes API server about the cluster's nodes: it
// watches them and the Leases by which their kubelets say that they live, proves
// that a Node no longer exists, and writes Events on Nodes.
package nodes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/nodelease"
)

// Source is the cluster's nodes, as watches on the API server show them.
//
// A Node that was deleted, or is missing from a list, is no longer listed. That
// is no proof that it does not exist: Confirm asks.
type Source struct {
	client  kubernetes.Interface
	changed chan struct{} // has room for one value

	mu       sync.Mutex
	nodes    map[string]state
	deleted  map[string]time.Time // since when it is proven
	kubelets nodelease.Kubelets
	synced   [2]bool // nodes, leases
}

// state is what a Node says of itself.
type state struct{ outOfService, lost bool }

// New makes a Source. It shows nothing before Run.
func New(client kubernetes.Interface) *Source {
	return &Source{client: client, changed: make(chan struct{}, 1), nodes: map[string]state{}, deleted: map[string]time.Time{}}
}

// Run watches until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	watch := func(client rest.Interface, resource, namespace string, of runtime.Object, into cache.ReflectorStore) {
		lw := cache.NewListWatchFromClient(client, resource, namespace, fields.Everything())
		group.Go(func() error { return kube.Watch(ctx, resource, lw, of, into) })
	}
	watch(s.client.CoreV1().RESTClient(), "nodes", metav1.NamespaceAll, &corev1.Node{}, (*nodeStore)(s))
	watch(s.client.CoordinationV1().RESTClient(), "leases", corev1.NamespaceNodeLease, &coordinationv1.Lease{}, (*leaseStore)(s))
	return group.Wait()
}

// Changed gets a value after something has changed that is more than a kubelet's
// sign of life; many changes make one value. It is for one reader.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// View is the nodes as of one moment.
type View struct {
	// Synced is true once there was a complete list of nodes and of Leases.
	// Before, nothing may be decided.
	Synced bool
	// Observed and News are what the kubelets' Leases say of the observer.
	Observed bool
	News     time.Time
	// Nodes are those that are listed and those that are proven deleted, by name.
	// What is not Kubernetes' to say is left empty.
	Nodes map[string]nodelease.Node
}

// View returns the nodes as they are now. What is proven deleted is forgotten if
// keep does not name it.
func (s *Source) View(keep func(node string) bool, now time.Time) View {
	s.mu.Lock()
	defer s.mu.Unlock()
	view := View{
		Synced: s.synced[0] && s.synced[1], Observed: s.kubelets.Observed(now), News: s.kubelets.News(),
		Nodes: make(map[string]nodelease.Node, len(s.nodes)),
	}
	known := func(name string) bool {
		_, listed := s.nodes[name]
		return listed || keep(name)
	}
	s.kubelets.Retain(known)
	for name, node := range s.nodes {
		view.Nodes[name] = nodelease.Node{
			Name: name, Listed: true, OutOfService: node.outOfService, Lost: node.lost, Kubelet: s.kubelets.Of(name),
		}
	}
	for name, since := range s.deleted {
		if !known(name) {
			delete(s.deleted, name)
			continue
		}
		view.Nodes[name] = nodelease.Node{Name: name, Deleted: since, Kubelet: s.kubelets.Of(name)}
	}
	return view
}

// Confirm asks the API server whether there is a Node of that name. That there is
// none is proven by a quorum read alone, and held until one is seen. An error
// means that it could not be found out.
func (s *Source) Confirm(ctx context.Context, name string) (deleted bool, err error) {
	// No resourceVersion: the answer must be as of now, not from a cache.
	node, err := s.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case kube.NotFound(err, "nodes", name):
		if _, listed := s.nodes[name]; listed {
			return false, nil // the watch has seen it since, or will tell of its end
		}
		if _, proven := s.deleted[name]; !proven {
			s.deleted[name] = time.Now()
			s.notify()
		}
		return true, nil
	case err == nil && (node.Name != name || node.UID == ""):
		err = errors.New("the answer is not that node")
	}
	delete(s.deleted, name)
	if err != nil {
		return false, fmt.Errorf("get node %s: %w", name, err)
	}
	return false, nil
}

// notify tells the reader of Changed. The caller holds mu.
func (s *Source) notify() {
	select {
	case s.changed <- struct{}{}:
	default: // it has yet to look, and will see this change too
	}
}

// nodeStore is cache.ReflectorStore for Nodes.
type nodeStore Source

// Add takes in a Node.
func (s *nodeStore) Add(object any) error { return s.Update(object) }

// Update takes in a Node as it is now.
func (s *nodeStore) Update(object any) error {
	node, err := asNode(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, listed := s.nodes[node.Name]
	if now := stateOf(node); !listed || now != before {
		s.nodes[node.Name] = now
		delete(s.deleted, node.Name)
		(*Source)(s).notify()
	}
	return nil
}

// Delete takes in that the watch has reported a deletion.
func (s *nodeStore) Delete(object any) error {
	node, err := asNode(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, node.Name)
	(*Source)(s).notify()
	return nil
}

// Replace takes in a whole list.
func (s *nodeStore) Replace(objects []any, _ string) error {
	nodes := make(map[string]state, len(objects))
	for _, object := range objects {
		node, err := asNode(object)
		if err != nil {
			return err
		}
		nodes[node.Name] = stateOf(node)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range nodes {
		delete(s.deleted, name)
	}
	s.nodes, s.synced[0] = nodes, true
	(*Source)(s).notify()
	return nil
}

// Resync is not used.
func (s *nodeStore) Resync() error { return nil }

func asNode(object any) (*corev1.Node, error) {
	node, ok := object.(*corev1.Node)
	if !ok || node.Name == "" || node.UID == "" {
		return nil, fmt.Errorf("a watch of nodes brought a %T without identity", object)
	}
	return node, nil
}

func stateOf(node *corev1.Node) (s state) {
	for _, taint := range node.Spec.Taints {
		s.outOfService = s.outOfService || taint.Key == corev1.TaintNodeOutOfService
	}
	for _, condition := range node.Status.Conditions {
		s.lost = s.lost || condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionUnknown
	}
	return s
}

// leaseStore is cache.ReflectorStore for the kubelets' Leases.
type leaseStore Source

// Add takes in a Lease.
func (s *leaseStore) Add(object any) error { return s.Update(object) }

// Update takes in a Lease as it is now.
func (s *leaseStore) Update(object any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take(object, time.Now())
}

// Delete leaves the last sign of life as it was.
func (s *leaseStore) Delete(any) error { return nil }

// Replace takes in a whole list. What is missing from it has not been renewed.
func (s *leaseStore) Replace(objects []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, object := range objects {
		if err := s.take(object, now); err != nil {
			return err
		}
	}
	if !s.synced[1] {
		s.synced[1] = true
		(*Source)(s).notify()
	}
	return nil
}

// Resync is not used.
func (s *leaseStore) Resync() error { return nil }

// take takes in a Lease. The caller holds mu.
func (s *leaseStore) take(object any, now time.Time) error {
	lease, ok := object.(*coordinationv1.Lease)
	if !ok || lease.Name == "" {
		return fmt.Errorf("a watch of Leases brought a %T without identity", object)
	}
	if lease.Spec.RenewTime == nil {
		return nil // made, and never renewed
	}
	var good time.Duration
	if seconds := lease.Spec.LeaseDurationSeconds; seconds != nil {
		good = time.Duration(*seconds) * time.Second
	}
	s.kubelets.Renewed(lease.Name, lease.Spec.RenewTime.UTC().Format(time.RFC3339Nano), good, now)
	return nil
}
