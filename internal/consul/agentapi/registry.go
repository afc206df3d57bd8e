// Package agentapi keeps a node's entries in the Consul client agent of that
// node, through the agent's HTTP API.
//
// An entry is a service with one TTL check of the same ID. The TTL is long: a
// Fairway that is dead or being upgraded must not take healthy instances out,
// and the agent's own serfHealth already reports a dead node. The TTL is there
// so that what a Fairway left behind for good does not stay passing for ever.
//
// Facts about the agent (Consul 1.22) that this package is built on:
//   - Register and check updates push what changed to the servers before they
//     return, but report success even if the servers refused or are away. So
//     success here means that the agent has it. Package health tells the rest.
//   - Registering again what the agent holds writes nothing to the servers. It
//     does not change the status of an existing check either.
//   - A check update with the same status and output writes nothing. One with
//     only another output is written minutes later.
//   - The agent saves a TTL check's status only when it is updated, not when it
//     is registered. Unsaved, the check is critical after the agent's restart.
//     So what is registered must be renewed soon.
//   - The agent syncs a service with the token it was registered with, for
//     ever.
//   - The agent does not tell a check's TTL. It is written into the check's
//     notes, so that a changed one is seen, and one that another process set is
//     kept when the entry is only handed over.
//   - The agent adds tagged addresses for the family of the main address, lan
//     and wan, if the register names none.
package agentapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/txn"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// DefaultCheckTTL is Consul's own default for reaping a failed node, so that
// the two ways to end a ghost agree.
const DefaultCheckTTL = 72 * time.Hour

// renewParallel bounds the calls of one Renew.
const renewParallel = 8

// Options of a Registry.
type Options struct {
	Client   *consul.Client
	Identity *consul.Identity
	// CheckTTL is that of entries without one of their own. It is DefaultCheckTTL
	// if zero.
	CheckTTL time.Duration
}

// Registry is the set of Fairway's entries that a Consul agent holds.
// Its methods may be called at the same time for different entries.
type Registry struct {
	client   *consul.Client
	identity *consul.Identity
	ttl      time.Duration
	direct   *txn.Queue    // to the servers, past the agent
	calls    chan struct{} // has room for the calls of the agent at the same time

	mu sync.Mutex
	// held is what the last Observe saw and the Applies since then changed, as
	// the agent holds it: with the fields that Fairway does not use, too.
	held map[string]holding
}

// holding is one entry as the agent holds it.
type holding struct {
	definition api.AgentServiceRegistration
	status     service.Health
	output     string
	// generation of the token that this process registered it with; zero if
	// another process registered it, with a token we do not know.
	generation uint64
}

// New makes a Registry. It asks nothing yet.
func New(opts Options) (*Registry, error) {
	if opts.Client == nil || opts.Identity == nil {
		return nil, errors.New("agent registry: client and identity are required")
	}
	if opts.CheckTTL == 0 {
		opts.CheckTTL = DefaultCheckTTL
	}
	return &Registry{
		client:   opts.Client,
		identity: opts.Identity,
		ttl:      opts.CheckTTL,
		direct:   &txn.Queue{Client: opts.Client},
		calls:    make(chan struct{}, mostCalls),
		held:     map[string]holding{},
	}, nil
}

// Observe returns Fairway's entries that the agent holds, of all clusters. An
// error means that they are not known. It never means that there are none: an
// answer that is null, filtered by ACLs or not an agent's is an error.
func (r *Registry) Observe(ctx context.Context) ([]registration.Entry, error) {
	entries, err := r.observe(ctx)
	if err != nil {
		r.identity.Forget()
		return nil, fmt.Errorf("read the agent's entries: %w", err)
	}
	return entries, nil
}

func (r *Registry) observe(ctx context.Context) ([]registration.Entry, error) {
	if _, err := r.identity.NodeName(ctx); err != nil {
		return nil, err
	}
	var services map[string]*api.AgentService
	filter := fmt.Sprintf("%q in Meta", service.MetaCluster)
	if _, err := consul.Get(ctx, r.client, "/v1/agent/services", filter, &services); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	var checks map[string]*api.AgentCheck
	if _, err := consul.Get(ctx, r.client, "/v1/agent/checks", `ServiceID != ""`, &checks); err != nil {
		return nil, fmt.Errorf("checks: %w", err)
	}
	return r.take(services, checks)
}

// take makes what the agent answered the picture of its entries, unless that
// cannot be one.
func (r *Registry) take(services map[string]*api.AgentService, checks map[string]*api.AgentCheck) ([]registration.Entry, error) {
	if services == nil || checks == nil {
		return nil, &consul.Error{Kind: consul.ErrUnusable}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	generation := r.client.TokenGeneration()
	held := make(map[string]holding, len(services))
	entries := make([]registration.Entry, 0, len(services))
	for id, svc := range services {
		if svc == nil || svc.ID != id {
			return nil, consul.Unusable("service %q is not what was asked for", id)
		}
		entry, holding := r.entry(svc, checks[id])
		holding.generation = r.held[id].generation
		// The agent syncs it with a token that may not be the current one.
		entry.Lapsed = holding.generation != generation
		held[id] = holding
		entries = append(entries, entry)
	}
	r.held = held
	return entries, nil
}

// mostCalls is how many calls of Apply the agent gets at the same time. It does
// them one by one; the others fill the time on the wire.
const mostCalls = 16

// MostWrites is how many calls of Apply and Renew are worth making at the same
// time: enough for the transactions that go past the agent.
func (r *Registry) MostWrites() int { return 512 }

// MostBackground leaves at least half of the agent's calls to what clients wait
// for. More would not be faster, and what is not begun can still be decided anew:
// a pod that has become ready since is registered as passing.
func (r *Registry) MostBackground() int { return mostCalls / 2 }

// Apply carries out one op. Nil means that the agent holds what the op asks
// for, see the package comment on what that is worth.
func (r *Registry) Apply(ctx context.Context, op registration.Op) error {
	wait := r.shortcut(ctx, op)
	defer wait()
	r.calls <- struct{}{} // each call is bounded by its context
	defer func() { <-r.calls }()
	id := op.Instance.ID
	switch op.Kind {
	case registration.Register:
		if err := r.put(ctx, id, r.definition(op.Instance)); err != nil {
			return fmt.Errorf("register %s: %w", id, err)
		}
	case registration.SetHealth:
		if err := r.setHealth(ctx, op.Instance); err != nil {
			return fmt.Errorf("set health of %s: %w", id, err)
		}
	case registration.Deregister:
		if err := r.deregister(ctx, id); err != nil {
			return fmt.Errorf("deregister %s: %w", id, err)
		}
	default:
		return fmt.Errorf("apply %s: no such kind of op: %q", id, op.Kind)
	}
	return nil
}

// Renew restarts the TTL of the entries and changes nothing that clients see. On
// the way the agent saves their health, learns the current token, and pushes
// to the servers what it has not been able to push before.
func (r *Registry) Renew(ctx context.Context, entries []registration.Entry) error {
	var (
		group errgroup.Group
		mu    sync.Mutex
		errs  []error
	)
	group.SetLimit(renewParallel)
	for _, entry := range entries {
		id := entry.Instance.ID
		held, ok := r.holding(id)
		if !ok || !entry.HasCheck {
			continue
		}
		group.Go(func() error {
			if err := r.renew(ctx, id, held); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("renew %s: %w", id, err))
			}
			return nil // one entry must not stop the others
		})
	}
	_ = group.Wait()
	return errors.Join(errs...)
}

func (r *Registry) renew(ctx context.Context, id string, held holding) error {
	if err := r.handOver(ctx, id, held); err != nil {
		return err
	}
	return r.update(ctx, id, held.status, held.output)
}

func (r *Registry) setHealth(ctx context.Context, in service.Instance) error {
	held, ok := r.holding(in.ID)
	if ok {
		if err := r.handOver(ctx, in.ID, held); err != nil {
			return err
		}
	}
	return r.update(ctx, in.ID, in.Health, in.Notes)
}

// handOver makes the agent sync the entry with our current token, if it may be
// using another, by registering again what it holds.
func (r *Registry) handOver(ctx context.Context, id string, held holding) error {
	if held.generation == r.client.TokenGeneration() {
		return nil
	}
	return r.put(ctx, id, held.definition)
}

// put registers a definition and remembers it.
func (r *Registry) put(ctx context.Context, id string, definition api.AgentServiceRegistration) error {
	generation := r.client.TokenGeneration()
	opts := api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx)
	if err := r.client.Agent().ServiceRegisterOpts(&definition, opts); err != nil {
		return consul.Classify(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.held[id]
	if held.status == "" { // the check is new, and has the status it came with
		held.status = service.Health(definition.Check.Status)
	}
	held.definition, held.generation = definition, generation
	r.held[id] = held
	return nil
}

// update sets the status and output of the entry's check and restarts its TTL.
func (r *Registry) update(ctx context.Context, id string, status service.Health, output string) error {
	opts := (&api.QueryOptions{}).WithContext(ctx)
	if err := r.client.Agent().UpdateTTLOpts(id, output, string(status), opts); err != nil {
		return consul.Classify(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if held, ok := r.held[id]; ok {
		held.status, held.output = status, output
		r.held[id] = held
	}
	return nil
}

func (r *Registry) deregister(ctx context.Context, id string) error {
	err := consul.Classify(r.client.Agent().ServiceDeregisterOpts(id, (&api.QueryOptions{}).WithContext(ctx)))
	if err != nil && !errors.Is(err, consul.ErrNotFound) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.held, id)
	return nil
}

func (r *Registry) holding(id string) (holding, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held, ok := r.held[id]
	return held, ok
}
