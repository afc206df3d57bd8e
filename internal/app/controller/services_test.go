package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/kube/services"
	"fairway.dev/fairway/internal/service"
)

// kubernetes is an API server's Services, as a serviceSource shows them. What is
// there is one thing, what of it is seen another.
type fakeKubernetes struct {
	changed chan struct{}

	mu       sync.Mutex
	synced   bool
	problem  string
	services map[string]export.Service // by name
	slices   map[string]export.EndpointSlice
	hidden   map[string]bool // names of objects that lists lack
	away     bool            // no question is answered
	gone     map[export.Object]string
	touched  map[export.Object]bool
	all      bool
	events   []string
	allowed  string

	slowly            time.Duration // what a question takes
	asked             int
	asking, mostAsked int
}

func newFakeKubernetes() *fakeKubernetes {
	return &fakeKubernetes{
		changed: make(chan struct{}, 1), synced: true, services: map[string]export.Service{}, slices: map[string]export.EndpointSlice{},
		hidden: map[string]bool{}, gone: map[export.Object]string{}, touched: map[export.Object]bool{}, all: true,
	}
}

// another is what another replica sees of it.
func (k *fakeKubernetes) another() *fakeKubernetes {
	k.mu.Lock()
	defer k.mu.Unlock()
	other := newFakeKubernetes()
	other.services, other.slices, other.hidden = maps.Clone(k.services), maps.Clone(k.slices), maps.Clone(k.hidden)
	return other
}

func (k *fakeKubernetes) change(do func()) {
	k.mu.Lock()
	do()
	k.mu.Unlock()
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func (k *fakeKubernetes) touch(name string) { k.touched[serviceNamed(name)] = true }

func serviceNamed(name string) export.Object {
	return export.Object{Kind: export.KindService, Namespace: "shop", Name: name}
}

// set makes a Service with an EndpointSlice of n ready pods.
func (k *fakeKubernetes) set(name string, n int, change ...func(*export.Service)) {
	svc := export.Service{
		Namespace: "shop", Name: name, UID: name + "-uid", Type: export.TypeClusterIP, HasSelector: true,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("198.19.0.9")}, Ports: []service.Port{{Name: "http", Port: 80, Protocol: "TCP"}},
		Annotations: map[string]string{"fairway.dev/service-sync": "true"},
	}
	for _, c := range change {
		c(&svc)
	}
	k.change(func() {
		k.services[name] = svc
		k.slices[name+"-a"] = sliceOf(name, "a", 0, n)
		delete(k.gone, svc.Object())
		k.touch(name)
	})
}

// sliceOf is an EndpointSlice of a Service with ready pods of these numbers.
func sliceOf(name, suffix string, from, to int) export.EndpointSlice {
	slice := export.EndpointSlice{
		Namespace: "shop", Name: name + "-" + suffix, Service: name, AddressType: export.IPv4,
		Ports: []export.EndpointPort{{Name: "http", Port: new(uint16(8080))}},
	}
	for i := from; i < to; i++ {
		slice.Endpoints = append(slice.Endpoints, export.Endpoint{
			Addresses: []string{fmt.Sprintf("198.18.%d.%d", 64+i/250, 1+i%250)}, Ready: new(true),
			Target: export.Target{Kind: "Pod", Name: fmt.Sprintf("%s-%d", name, i), UID: fmt.Sprintf("%s-%d", name, i)},
		})
	}
	return slice
}

// put changes an EndpointSlice, as an event shows it.
func (k *fakeKubernetes) put(slice export.EndpointSlice) {
	k.change(func() { k.slices[slice.Name] = slice; k.touch(slice.Service) })
}

// removeWeb deletes the Service web and its slices, and lets that be seen.
func (k *fakeKubernetes) removeWeb() {
	const name = "web"
	k.change(func() {
		for id, slice := range k.slices {
			if slice.Service == name {
				delete(k.slices, id)
				k.gone[slice.Object()] = "its deletion was seen"
			}
		}
		delete(k.services, name)
		k.gone[serviceNamed(name)] = "its deletion was seen"
		k.touch(name)
	})
}

func (k *fakeKubernetes) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (k *fakeKubernetes) Changed() <-chan struct{} { return k.changed }

func (k *fakeKubernetes) Changes() ([]export.Object, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	touched, all := slices.Collect(maps.Keys(k.touched)), k.all
	k.touched, k.all = map[export.Object]bool{}, false
	return touched, all
}

func (k *fakeKubernetes) View() services.View {
	k.mu.Lock()
	defer k.mu.Unlock()
	view := services.View{Synced: k.synced, Problem: k.problem, Cluster: export.Cluster{Gone: maps.Clone(k.gone)}}
	for name, svc := range k.services {
		if !k.hidden[name] {
			view.Cluster.Services = append(view.Cluster.Services, svc)
		}
	}
	for name, slice := range k.slices {
		if !k.hidden[name] {
			view.Cluster.Slices = append(view.Cluster.Slices, slice)
		}
	}
	return view
}

func (k *fakeKubernetes) Ask(_ context.Context, object export.Object) error {
	k.mu.Lock()
	k.asked++
	k.asking++
	k.mostAsked = max(k.mostAsked, k.asking)
	slowly := k.slowly
	k.mu.Unlock()
	if slowly > 0 {
		<-time.After(slowly)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asking--
	_, service := k.services[object.Name]
	_, slice := k.slices[object.Name]
	switch {
	case k.away:
		return errors.New("the API server does not answer")
	case service || slice:
		delete(k.hidden, object.Name)
		if slice {
			k.touch(k.slices[object.Name].Service)
		} else {
			k.touch(object.Name)
		}
	default:
		k.gone[object] = "the API server does not know it"
	}
	return nil
}

func (k *fakeKubernetes) Confirm(_ context.Context, svc export.Object) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away {
		return false, errors.New("the API server does not answer")
	}
	_, exists := k.services[svc.Name]
	return !exists || !k.hidden[svc.Name], nil
}

func (k *fakeKubernetes) Forget(keep func(export.Object) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.gone, func(object export.Object, _ string) bool { return !keep(object) })
}

func (k *fakeKubernetes) Note(svc export.Object, _, reason, _ string) { k.event("Normal", svc, reason) }

func (k *fakeKubernetes) Warn(svc export.Object, _, reason, _ string) {
	k.event("Warning", svc, reason)
}

func (k *fakeKubernetes) event(kind string, svc export.Object, reason string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, kind+" "+svc.Name+" "+reason)
}

func (k *fakeKubernetes) allowance(context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.allowed, nil
}

// told are the Events so far.
func (k *fakeKubernetes) told() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.events)
}

// allow has a person say until when removals may pass.
func (k *fakeKubernetes) allow(until string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.allowed = until
}

func inSomeMinutes() string { return time.Now().Add(5 * time.Minute).Format(time.RFC3339) }
