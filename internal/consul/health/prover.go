// Package health asks the Consul servers what they give to clients. Its
// answers are the proof that gates open on.
//
// The question goes to the leader, through the node's agent or another server:
// a consistent read is one that no stale or cut-off server can answer. It is
// made the way clients make it, through the health endpoint, so that whatever
// hides an instance from them (its own check, its node's, someone else's, an
// address that is not the pod's) hides it here too.
package health

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/service"
)

// parallel bounds the queries of one Prove.
const parallel = 8

// serfHealth is the check by which Consul says whether a node's agent lives.
// A virtual node has its lease instead.
const serfHealth = "serfHealth"

// Node knows under which Consul node the instances are registered.
type Node interface {
	NodeName(ctx context.Context) (string, error)
}

// Prover proves instances that are registered under one Consul node.
type Prover struct {
	client *consul.Client
	node   Node
}

// NewProver makes a Prover. node is the identity of the client's agent, or a
// virtual node.
func NewProver(client *consul.Client, node Node) *Prover {
	return &Prover{client: client, node: node}
}

// Prove asks about instances and returns a proof for each, by instance ID.
// There is no error: what could not be found out is Unknown, and says why.
func (p *Prover) Prove(ctx context.Context, instances []service.Instance) map[string]gate.Proof {
	byName := map[string][]service.Instance{}
	for _, in := range instances {
		byName[in.Name] = append(byName[in.Name], in)
	}
	proofs := make(map[string]gate.Proof, len(instances))
	node, err := p.node.NodeName(ctx)
	if err != nil {
		addAll(proofs, instances, unknown(err))
		return proofs
	}

	var (
		group errgroup.Group
		mu    sync.Mutex
	)
	group.SetLimit(parallel)
	for name, sought := range byName {
		group.Go(func() error {
			found := p.proveService(ctx, name, node, sought)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(proofs, found)
			return nil
		})
	}
	_ = group.Wait()
	return proofs
}

// proveService asks for the passing instances of one service on the node, and
// if some are missing, once more for all, to say why.
func (p *Prover) proveService(ctx context.Context, name, node string, sought []service.Instance) map[string]gate.Proof {
	proofs := make(map[string]gate.Proof, len(sought))
	passing, index, err := p.query(ctx, name, node, sought, true)
	if err != nil {
		addAll(proofs, sought, unknown(err))
		return proofs
	}
	now := time.Now()
	var missing []service.Instance
	for _, in := range sought {
		entry, ok := passing[in.ID]
		if !ok {
			missing = append(missing, in)
			continue
		}
		proof := gate.Proof{Finding: gate.Passing, Index: index, At: now}
		if detail := difference(in, entry); detail != "" {
			proof.Finding, proof.Detail = gate.Different, detail
		}
		proofs[in.ID] = proof
	}
	if len(missing) == 0 {
		return proofs
	}

	all, index, err := p.query(ctx, name, node, missing, false)
	if err != nil {
		addAll(proofs, missing, unknown(err))
		return proofs
	}
	now = time.Now()
	for _, in := range missing {
		proofs[in.ID] = gate.Proof{Finding: gate.Absent, Detail: whyAbsent(all[in.ID]), Index: index, At: now}
	}
	return proofs
}

// query returns the service's entries on the node by ID, at least those sought,
// all if none is,
// and the index of the answer.
func (p *Prover) query(ctx context.Context, name, node string, sought []service.Instance, passing bool) (map[string]*api.ServiceEntry, uint64, error) {
	entries, index, err := query(ctx, p.client, name, filter(node, sought), passing)
	if err != nil {
		return nil, 0, err
	}
	byID := make(map[string]*api.ServiceEntry, len(entries))
	for _, entry := range entries {
		byID[entry.Service.ID] = entry
	}
	return byID, index, nil
}

// query returns the service's entries, and the index of the answer. It is an
// error if the answer is not the leader's own and whole.
func query(ctx context.Context, client *consul.Client, name, filter string, passing bool) ([]*api.ServiceEntry, uint64, error) {
	opts := (&api.QueryOptions{RequireConsistent: true, Filter: filter}).WithContext(ctx)
	entries, meta, err := client.Health().Service(name, "", passing, opts)
	if err != nil {
		return nil, 0, consul.Classify(err)
	}
	if err := consul.Proven(meta); err != nil {
		return nil, 0, err
	}
	if entries == nil {
		return nil, 0, &consul.Error{Kind: consul.ErrUnusable}
	}
	for _, entry := range entries {
		if entry == nil || entry.Service == nil || entry.Node == nil || slices.Contains(entry.Checks, nil) {
			return nil, 0, &consul.Error{Kind: consul.ErrUnusable}
		}
	}
	return entries, meta.LastIndex, nil
}

// mostNamed is how many entries a question names. Of more it is all on the node.
const mostNamed = 8

// filter leaves out what was not asked about: a service may have a hundred
// entries on the node, each of which is some kilobyte to write and to read.
func filter(node string, sought []service.Instance) string {
	text := "Node.Node == " + strconv.Quote(node)
	if len(sought) == 0 || len(sought) > mostNamed {
		return text
	}
	var ids []string
	for _, in := range sought {
		ids = append(ids, "Service.ID == "+strconv.Quote(in.ID))
	}
	return text + " and (" + strings.Join(ids, " or ") + ")"
}

// difference says in what the servers' entry is not the instance, or nothing
// if it is. A client that is given another address does not reach the pod.
func difference(in service.Instance, entry *api.ServiceEntry) string {
	got := entry.Service
	switch {
	case got.Meta[service.MetaPodUID] != in.Pod.UID:
		return "the servers' entry is of another life of the pod"
	case got.Address != in.Address.String():
		return fmt.Sprintf("the servers give address %q instead of %s", got.Address, in.Address)
	case got.Port != int(in.Port):
		return fmt.Sprintf("the servers give port %d instead of %d", got.Port, in.Port)
	}
	return ""
}

// whyAbsent says why the servers keep an entry from clients. Only states go
// into the text, no outputs of checks: those change all the time.
func whyAbsent(entry *api.ServiceEntry) string {
	if entry == nil {
		return "not in the servers' catalog"
	}
	var reasons []string
	for _, check := range entry.Checks {
		if check.Status == api.HealthPassing {
			continue
		}
		name := fmt.Sprintf("check %q", check.Name)
		switch check.CheckID {
		case entry.Service.ID:
			name = "its own check"
		case serfHealth, catalog.LeaseCheck:
			name = "the node's " + check.CheckID
		}
		reasons = append(reasons, name+" is "+check.Status)
	}
	if len(reasons) == 0 {
		return "it has only just become passing"
	}
	slices.Sort(reasons)
	return strings.Join(slices.Compact(reasons), ", ")
}

func unknown(err error) gate.Proof {
	return gate.Proof{Finding: gate.Unknown, Detail: consul.Reason(err), At: time.Now()}
}

func addAll(proofs map[string]gate.Proof, instances []service.Instance, proof gate.Proof) {
	for _, in := range instances {
		proofs[in.ID] = proof
	}
}
