// Package katalogsync reads katalog-sync's entries in the node's Consul client
// agent, and removes single ones that katalog-sync has left behind.
//
// Facts about katalog-sync (v0.0.20) and Consul's agent that it is built on:
//   - katalog-sync marks its services in their meta, and gives each one TTL check
//     of the service's ID. It renews that at the latest after half the TTL, which
//     is 11 s unless an annotation says more. It takes nothing out when it stops.
//   - When a TTL has run out, the agent turns the check critical and begins its
//     output with words of its own. It says so whatever the status was before.
//     Those words are the proof that nobody has renewed it. An agent that was
//     restarted meanwhile says them one TTL after its start.
package katalogsync

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

// ErrRenewed means that katalog-sync has renewed the entry since it was read.
var ErrRenewed = errors.New("katalog-sync has renewed the entry meanwhile")

// Entries are katalog-sync's in one Consul agent.
type Entries struct {
	client   *consul.Client
	identity *consul.Identity
}

// New makes Entries. It asks nothing yet. identity is that of the client's agent.
func New(client *consul.Client, identity *consul.Identity) *Entries {
	return &Entries{client: client, identity: identity}
}

// Observe returns katalog-sync's entries that the agent holds, by ID. An error
// means that they are not known, never that there are none.
func (e *Entries) Observe(ctx context.Context) ([]succession.Entry, error) {
	if _, err := e.identity.NodeName(ctx); err != nil {
		return nil, err
	}
	entries, err := e.read(ctx, strconv.Quote(succession.MetaSource)+" in Meta", `ServiceID matches "^katalog-sync_"`)
	if err != nil {
		return nil, fmt.Errorf("read katalog-sync's entries: %w", err)
	}
	slices.SortFunc(entries, func(a, b succession.Entry) int { return strings.Compare(a.ID, b.ID) })
	return entries, nil
}

// Remove removes an entry that nobody renews, or whose pod is over. It looks once
// more before: whoever has come back to a pod that is not keeps it.
func (e *Entries) Remove(ctx context.Context, id string, over bool) error {
	quoted := strconv.Quote(id)
	entries, err := e.read(ctx, "ID == "+quoted, "ServiceID == "+quoted)
	switch {
	case err != nil:
		return fmt.Errorf("remove %s: %w", id, err)
	case len(entries) == 0:
		return nil // somebody else has removed it
	case !entries[0].Expired && !over:
		return fmt.Errorf("remove %s: %w", id, ErrRenewed)
	}
	err = consul.Classify(e.client.Agent().ServiceDeregisterOpts(id, (&api.QueryOptions{}).WithContext(ctx)))
	if err != nil && !errors.Is(err, consul.ErrNotFound) {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	return nil
}

func (e *Entries) read(ctx context.Context, services, checks string) ([]succession.Entry, error) {
	var found map[string]*api.AgentService
	if _, err := consul.Get(ctx, e.client, "/v1/agent/services", services, &found); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	var checked map[string]*api.AgentCheck
	if _, err := consul.Get(ctx, e.client, "/v1/agent/checks", checks, &checked); err != nil {
		return nil, fmt.Errorf("checks: %w", err)
	}
	if found == nil || checked == nil {
		return nil, &consul.Error{Kind: consul.ErrUnusable}
	}
	var entries []succession.Entry
	for id, svc := range found {
		if svc == nil || svc.ID != id {
			return nil, consul.Unusable("service %q is not what was asked for", id)
		}
		if svc.Meta[succession.MetaSource] == succession.Source {
			entries = append(entries, entry(svc, checked[id]))
		}
	}
	return entries, nil
}

// entry is what the agent holds, with the check of the service's ID if there is
// one.
func entry(svc *api.AgentService, check *api.AgentCheck) succession.Entry {
	e := succession.Entry{
		ID:      svc.ID,
		Service: svc.Service,
		Pod:     service.PodRef{Namespace: svc.Meta[service.MetaNamespace], Name: svc.Meta[service.MetaPod]},
	}
	if address, err := netip.ParseAddr(svc.Address); err == nil {
		e.Address = address
	}
	if svc.Port > 0 && svc.Port <= 65535 {
		e.Port = uint16(svc.Port)
	}
	if check != nil && check.ServiceID == svc.ID {
		e.Health = service.Health(check.Status)
		e.Expired = check.Type == "ttl" && succession.Expired(e.Health, check.Output)
	}
	return e
}
