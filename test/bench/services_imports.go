package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/lab/cluster"
)

const (
	importsNamespace    = "bench-imports"
	importedServices    = 50
	instancesPerService = 3
)

func importedName(i int) string { return fmt.Sprintf("bench-import-%d", i) }

// registerInstance registers an instance of a service as what stands outside of
// the cluster, on a machine that has one of each.
func registerInstance(ctx context.Context, server *api.Client, i, machine int, health string) error {
	id := fmt.Sprintf("%s-%d", importedName(i), machine)
	_, err := server.Catalog().Register(&api.CatalogRegistration{
		Node: fmt.Sprintf("bench-vm-%d", machine), Address: fmt.Sprintf("192.0.2.%d", 1+machine),
		Service: &api.AgentService{ID: id, Service: importedName(i), Port: 8000 + i},
		Check:   &api.AgentCheck{CheckID: id, ServiceID: id, Name: "bench", Status: health},
	}, new(api.WriteOptions).WithContext(ctx))
	return err
}

// makeImports registers the services that are imported, and asks for them.
func makeImports(ctx context.Context, lab *cluster.Cluster) error {
	asked := v1alpha1.ConsulImport{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: "ConsulImport"},
		ObjectMeta: metav1.ObjectMeta{Namespace: importsNamespace, Name: "bench"},
	}
	server := lab.ConsulServers()[0]
	for i := range importedServices {
		asked.Spec.Source.Names = append(asked.Spec.Source.Names, importedName(i))
		for machine := range instancesPerService {
			if err := registerInstance(ctx, server, i, machine, api.HealthPassing); err != nil {
				return fmt.Errorf("register what is imported: %w", err)
			}
		}
	}
	manifest, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	return apply(ctx, lab, string(manifest))
}

// importWatch follows the EndpointSlices of imported services.
type importWatch struct {
	stop context.CancelFunc

	mu      sync.Mutex
	seen    map[string]imported // by service
	dropped int
	problem error
	changed chan struct{} // closed and replaced on each change
}

// imported is how many endpoints of a service are ready, and since when.
type imported struct {
	ready int
	at    time.Time
}

func watchImports(ctx context.Context, kube kubernetes.Interface) (*importWatch, error) {
	client := kube.DiscoveryV1().EndpointSlices(importsNamespace)
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	events, err := client.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		stop()
		return nil, err
	}
	w := &importWatch{stop: stop, seen: map[string]imported{}, changed: make(chan struct{})}
	for i := range list.Items {
		w.see(&list.Items[i], time.Now())
	}
	go func() {
		for event := range events.ResultChan() {
			now := time.Now()
			slice, ok := event.Object.(*discoveryv1.EndpointSlice)
			if !ok {
				w.fail(fmt.Errorf("watch EndpointSlices: %v", event.Object))
				return
			}
			w.see(slice, now)
		}
		w.fail(fmt.Errorf("watch EndpointSlices: it ended"))
	}()
	return w, nil
}

// see takes in a slice. A change is about one instance at a time, so that more that
// are not ready have been dropped.
func (w *importWatch) see(slice *discoveryv1.EndpointSlice, at time.Time) {
	ready := 0
	for _, endpoint := range slice.Endpoints {
		if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
			ready++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	name := slice.Labels[discoveryv1.LabelServiceName]
	if ready < instancesPerService-1 {
		w.dropped++
	}
	if w.seen[name].ready != ready {
		w.seen[name] = imported{ready, at}
	}
	w.tell()
}

func (w *importWatch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problem = err
	w.tell()
}

// tell wakes all who wait. The caller holds mu.
func (w *importWatch) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits until so many endpoints of a service are ready, and returns since when.
func (w *importWatch) await(ctx context.Context, name string, ready int) (time.Time, error) {
	for {
		w.mu.Lock()
		is, problem, changed := w.seen[name], w.problem, w.changed
		w.mu.Unlock()
		switch {
		case is.ready == ready:
			return is.at, nil
		case problem != nil:
			return time.Time{}, problem
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("wait for %d endpoints of %s, which has %d: %w", ready, name, is.ready, context.Cause(ctx))
		}
	}
}

// count is how many slices lacked what had not changed, since it was last asked.
func (w *importWatch) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.dropped
	w.dropped = 0
	return n
}
