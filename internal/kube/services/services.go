// Package services speaks to the Kubernetes API server about a cluster's Services
// and what their instances in Consul depend on: EndpointSlices, nodes, and as far as
// they are asked for namespaces, Ingresses, routes and Gateways. It watches them,
// says what proves that one is no more, and asks for the proof that is lacking.
package services

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/export"
)

// Options say what else is watched beside Services, EndpointSlices and nodes. What
// is not watched needs no right, and is not in the View.
type Options struct {
	NamespaceLabels bool // namespaces
	Ingress         bool // Ingresses
	Gateway         bool // HTTPRoutes and Gateways of the Gateway API
}

// Source is a cluster's Services, as watches on the API server show them.
//
// What a list lacks is not proven to be gone (I1): it stays as it was last seen,
// marked as missing, until an event, a list or an answer says what became of it.
type Source struct {
	client  kubernetes.Interface
	changed chan struct{} // has room for one value

	// One lock for all, so that a View is of one moment.
	mu         sync.Mutex
	services   *store[export.Service]
	slices     *store[export.EndpointSlice]
	nodes      *store[export.Node]
	namespaces *store[export.Namespace]
	ingresses  *store[export.Ingress]
	routes     *store[export.HTTPRoute]
	gateways   *store[export.Gateway]
	watched    []watched // those that the options ask for, in this order

	gone      map[export.Object]string // what proves it
	goneShown bool                     // a View has gone: it must not be changed in place
	touched   map[export.Object]bool   // Services, since Changes
	all       bool                     // every Service may be touched
	news      bool                     // the reader of Changed is to be told
}

// watched is a store, of whatever kind.
type watched interface {
	of() string // the kind
	watch(ctx context.Context) error
	ask(ctx context.Context, object export.Object) error
	// standing is whether the picture can be relied on, and why the watch does not
	// answer. The caller holds the lock.
	standing() (synced bool, resource, problem string)
}

// New makes a Source. It shows nothing before Run. The dynamic client is needed for
// Options.Gateway alone.
func New(client kubernetes.Interface, custom dynamic.Interface, opts Options) *Source {
	s := &Source{
		client: client, changed: make(chan struct{}, 1),
		gone: map[export.Object]string{}, touched: map[export.Object]bool{},
	}
	s.services = newStore(s, serviceKind(client))
	s.slices = newStore(s, sliceKind(client))
	s.nodes = newStore(s, nodeKind(client))
	s.namespaces = newStore(s, namespaceKind(client))
	s.ingresses = newStore(s, ingressKind(client))
	s.routes = newStore(s, routeKind(custom))
	s.gateways = newStore(s, gatewayKind(custom))
	s.watched = []watched{s.services, s.slices, s.nodes}
	if opts.NamespaceLabels {
		s.watched = append(s.watched, s.namespaces)
	}
	if opts.Ingress {
		s.watched = append(s.watched, s.ingresses)
	}
	if opts.Gateway {
		s.watched = append(s.watched, s.routes, s.gateways)
	}
	return s
}

// Run watches until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range s.watched {
		group.Go(func() error { return w.watch(ctx) })
	}
	return group.Wait()
}

// Changed gets a value after something has changed that shows in View; many changes
// make one value. It is for one reader.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// View is the cluster as of one moment.
type View struct {
	// Cluster is not to be changed. Its lists are in no order.
	Cluster export.Cluster
	// Synced is true once there was a complete list of each kind that is watched.
	// Before, nothing may be decided. A cluster that does not have the Gateway API
	// has no routes, and is Synced without them.
	Synced bool
	// Problem says which watches do not answer, and why; empty if all do. What they
	// said before stands.
	Problem string
}

// View returns the cluster as it is now. It costs next to nothing; a change after it
// costs a copy of the list that it is in.
func (s *Source) View() View {
	s.mu.Lock()
	defer s.mu.Unlock()
	view := View{Synced: true, Cluster: export.Cluster{
		Services: s.services.show(), Slices: s.slices.show(), Nodes: s.nodes.show(), Namespaces: s.namespaces.show(),
		Ingresses: s.ingresses.show(), Routes: s.routes.show(), Gateways: s.gateways.show(), Gone: s.gone,
	}}
	s.goneShown = true
	var problems []string
	silent := map[string][]string{} // by problem, what does not answer
	for _, w := range s.watched {
		synced, resource, problem := w.standing()
		view.Synced = view.Synced && synced
		if problem != "" {
			if silent[problem] == nil {
				problems = append(problems, problem)
			}
			silent[problem] = append(silent[problem], resource)
		}
	}
	for i, problem := range problems {
		problems[i] = strings.Join(silent[problem], ", ") + ": " + problem
	}
	view.Problem = strings.Join(problems, "; ")
	return view
}

// Changes returns the Services that were touched since the last call, by changes of
// their own or of their EndpointSlices, whether they are there or not. If all is
// true, so may be any other. A View that is taken after Changes shows all that
// Changes has told of. It is for one reader.
func (s *Source) Changes() (services []export.Object, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	services, all = slices.Collect(maps.Keys(s.touched)), s.all
	s.all = false
	clear(s.touched)
	return services, all
}

// Forget drops the proofs that keep does not ask for, so that the set stays small.
// One that is needed after all can be found again by Ask. keep must not call the
// Source.
func (s *Source) Forget(keep func(export.Object) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for object := range s.gone {
		if !keep(object) {
			s.ownGone()
			delete(s.gone, object)
		}
	}
}

// prove notes what proves that an object is gone. The caller holds mu.
func (s *Source) prove(object export.Object, why string) {
	s.ownGone()
	s.gone[object] = why
}

// disprove forgets that an object is gone: it was seen. The caller holds mu.
func (s *Source) disprove(object export.Object) {
	if _, proven := s.gone[object]; proven {
		s.ownGone()
		delete(s.gone, object)
	}
}

func (s *Source) ownGone() {
	if s.goneShown {
		s.gone, s.goneShown = maps.Clone(s.gone), false
	}
}

// touch notes that a Service is to be looked at again, or all if it has no name. The
// caller holds mu.
func (s *Source) touch(service export.Object) {
	if service == (export.Object{}) {
		s.all = true
	} else {
		s.touched[service] = true
	}
	s.news = true
}

// unlock releases mu, and tells the reader of Changed if there is anything new: once,
// so that it does not look for the rest of what it has seen.
func (s *Source) unlock() {
	if s.news {
		s.news = false
		select {
		case s.changed <- struct{}{}:
		default: // it has yet to look, and will see this change too
		}
	}
	s.mu.Unlock()
}

// whySilent is why the API server does not answer, without the address that was
// asked: it is another for each watch.
func whySilent(err error) string {
	if at, ok := errors.AsType[*url.Error](err); ok {
		return at.Err.Error()
	}
	return err.Error()
}
