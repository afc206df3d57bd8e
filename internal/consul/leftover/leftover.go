// Package leftover finds entries at the Consul servers that nobody may keep any
// more, and takes them out.
package leftover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/txn"
	"fairway.dev/fairway/internal/purge"
	"fairway.dev/fairway/internal/service"
)

const (
	serfHealth = "serfHealth" // the check of a node that a Consul agent keeps
	// badFilter is how Consul begins to say what is wrong with a filter, as a failure
	// of its own.
	badFilter = "Failed to create boolean expression evaluator"
	// parallel is how many questions or writes are under way at once.
	parallel = 16
)

// Query says which entries are meant. One of Cluster and Node is given.
type Query struct {
	Cluster string // those under the virtual nodes of Fairway in this cluster
	Node    string // those under this Consul node
	// Filter is an expression of Consul's over a service, such as
	// Service == "web". The servers apply it. Empty is all.
	Filter string
}

// Found is what the servers hold, as of one moment.
type Found struct {
	Asked, Others []purge.Entry
	// Empty are the Consul nodes of Kubernetes, where all of a node or a cluster is meant,
	// that hold nothing, and on which nobody keeps a lease: the last entries went without
	// them.
	Empty []string

	nodes   []*api.Node // whose entries were asked for
	entries map[key]*api.ServiceEntry
}

type key struct{ node, id string }

// Find asks the servers for the entries that are meant and all others under their
// names. An error means that they are not known, never that there are none (I1).
func Find(ctx context.Context, client *consul.Client, q Query) (*Found, error) {
	found := &Found{entries: map[key]*api.ServiceEntry{}}
	var err error
	if found.nodes, err = nodes(ctx, client, q); err != nil {
		return nil, err
	}
	asked, names, err := askedFor(ctx, client, found.nodes, q.Filter)
	if err != nil {
		return nil, err
	}
	if q.Filter == "" {
		if found.Empty, err = empty(ctx, client, found.nodes, asked); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, name := range names {
		group.Go(func() error {
			entries, err := listed(ctx, client, name)
			if err != nil {
				return fmt.Errorf("look up service %s: %w", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, entry := range entries {
				at := key{entry.Node.Node, entry.Service.ID}
				found.entries[at] = entry
				if asked[at] {
					found.Asked = append(found.Asked, entryOf(entry))
				} else {
					found.Others = append(found.Others, entryOf(entry))
				}
			}
			return nil
		})
	}
	return found, group.Wait()
}

func nodes(ctx context.Context, client *consul.Client, q Query) ([]*api.Node, error) {
	opts := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
	if q.Cluster != "" {
		opts.NodeMeta = map[string]string{service.MetaCluster: q.Cluster}
	} else {
		opts.Filter = fmt.Sprintf("Node == %q", q.Node)
	}
	nodes, meta, err := client.Catalog().Nodes(opts)
	if err := whole(meta, err, nodes == nil || slices.Contains(nodes, nil)); err != nil {
		return nil, fmt.Errorf("list the nodes of Consul: %w", err)
	}
	return nodes, nil
}

// askedFor are the entries that are meant, and their names in order.
func askedFor(ctx context.Context, client *consul.Client, nodes []*api.Node, filter string) (map[key]bool, []string, error) {
	asked, names, mu := map[key]bool{}, map[string]bool{}, sync.Mutex{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, node := range nodes {
		group.Go(func() error {
			services, err := under(ctx, client, node.Node, filter)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, svc := range services {
				asked[key{node.Node, svc.ID}], names[svc.Service] = true, true
			}
			return nil
		})
	}
	err := group.Wait()
	return asked, slices.Sorted(maps.Keys(names)), err
}

// empty are the nodes that hold nothing of what was asked for, and that nobody keeps.
func empty(ctx context.Context, client *consul.Client, nodes []*api.Node, asked map[key]bool) (names []string, err error) {
	holds := map[string]bool{}
	for at := range asked {
		holds[at.node] = true
	}
	for _, node := range nodes {
		if holds[node.Node] || node.Meta[service.MetaSource] != "kubernetes" {
			continue
		}
		kept, err := kept(ctx, client, node.Node)
		if err != nil {
			return nil, err
		}
		if !kept {
			names = append(names, node.Node)
		}
	}
	slices.Sort(names)
	return names, nil
}

// kept tells whether somebody keeps a lease on a node.
func kept(ctx context.Context, client *consul.Client, node string) (bool, error) {
	checks, meta, err := client.Health().Node(node, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	if err := whole(meta, err, checks == nil || slices.Contains(checks, nil)); err != nil {
		return false, fmt.Errorf("read the checks of Consul node %s: %w", node, err)
	}
	return slices.ContainsFunc(checks, func(c *api.HealthCheck) bool { return c.Status == api.HealthPassing }), nil
}

// under are the services under a Consul node that a filter lets through.
func under(ctx context.Context, client *consul.Client, node, filter string) ([]*api.AgentService, error) {
	opts := (&api.QueryOptions{RequireConsistent: true, Filter: filter}).WithContext(ctx)
	list, meta, err := client.Catalog().NodeServiceList(node, opts)
	if status, ok := errors.AsType[api.StatusError](err); ok && filter != "" && strings.Contains(status.Body, badFilter) {
		_, why, _ := strings.Cut(status.Body, badFilter)
		return nil, &consul.Error{Kind: consul.ErrInvalid, Err: fmt.Errorf("filter %s%s", filter, strings.TrimSpace(why))}
	}
	if err := whole(meta, err, list == nil || slices.Contains(list.Services, nil)); err != nil {
		return nil, fmt.Errorf("list the services of Consul node %s: %w", node, err)
	}
	return list.Services, nil
}

func listed(ctx context.Context, client *consul.Client, name string) ([]*api.ServiceEntry, error) {
	entries, meta, err := client.Health().Service(name, "", false, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	incomplete := entries == nil || slices.ContainsFunc(entries, func(e *api.ServiceEntry) bool {
		return e == nil || e.Service == nil || e.Node == nil || slices.Contains(e.Checks, nil)
	})
	return entries, whole(meta, err, incomplete)
}

func whole(meta *api.QueryMeta, err error, incomplete bool) error {
	switch {
	case err != nil:
		return consul.Classify(err)
	case incomplete:
		return consul.Unusable("not a whole list")
	}
	return consul.Proven(meta)
}

func entryOf(e *api.ServiceEntry) purge.Entry {
	return purge.Entry{
		ConsulNode: e.Node.Node, ID: e.Service.ID, Service: e.Service.Service,
		Address: cmp.Or(e.Service.Address, e.Node.Address), Port: e.Service.Port,
		Health:     service.Health(e.Checks.AggregatedStatus()),
		Kubernetes: e.Service.Meta[service.MetaSource] == "kubernetes",
		Agent:      slices.ContainsFunc(e.Checks, func(c *api.HealthCheck) bool { return c.CheckID == serfHealth }),
	}
}

// Remove takes out the entries for which remove is true, several at a time, and
// then those of their nodes that have nothing left, and the Empty ones. It returns what
// went wrong, by the entry's position. An entry that has changed since it was found
// stays.
func (f *Found) Remove(ctx context.Context, client *consul.Client, decisions []purge.Decision) (failed map[int]error, nodesRemoved []string, err error) {
	queue := &txn.Queue{Client: client}
	failed = map[int]error{}
	emptied := map[string]bool{}
	var group errgroup.Group
	group.SetLimit(8 * parallel) // they share transactions
	var mu sync.Mutex
	for i, d := range decisions {
		if !d.Remove {
			continue
		}
		ops := removal(f.entries[key{d.Entry.ConsulNode, d.Entry.ID}])
		group.Go(func() error {
			err := queue.Commit(ctx, txn.Write{Ops: func() (api.TxnOps, error) { return ops, nil }})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[i] = err
			} else {
				emptied[d.Entry.ConsulNode] = true
			}
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	for _, node := range f.nodes {
		if !emptied[node.Node] && !slices.Contains(f.Empty, node.Node) {
			continue
		}
		gone, removeErr := removeEmpty(ctx, client, node)
		if gone {
			nodesRemoved = append(nodesRemoved, node.Node)
		}
		err = errors.Join(err, removeErr)
	}
	return failed, nodesRemoved, err
}

// removal takes out an entry with its checks, if neither has changed.
func removal(e *api.ServiceEntry) api.TxnOps {
	var ops api.TxnOps
	for _, check := range e.Checks {
		if check.ServiceID == e.Service.ID {
			ops = append(ops, &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckDeleteCAS, Check: api.HealthCheck{
				Node: e.Node.Node, CheckID: check.CheckID, ModifyIndex: check.ModifyIndex,
			}}})
		}
	}
	return append(ops, &api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceDeleteCAS, Node: e.Node.Node, Service: api.AgentService{
		ID: e.Service.ID, Service: e.Service.Service, ModifyIndex: e.Service.ModifyIndex,
	}}})
}

// removeEmpty takes out a node that has no services left and has not changed, unless
// somebody keeps a lease there: who does may be about to register more.
func removeEmpty(ctx context.Context, client *consul.Client, node *api.Node) (gone bool, err error) {
	services, err := under(ctx, client, node.Node, "")
	if err != nil || len(services) > 0 {
		return false, err
	}
	if kept, err := kept(ctx, client, node.Node); err != nil || kept {
		return false, err
	}
	_, faults, err := txn.Exchange(ctx, client, api.TxnOps{&api.TxnOp{Node: &api.NodeTxnOp{
		Verb: api.NodeDeleteCAS, Node: api.Node{Node: node.Node, ModifyIndex: node.ModifyIndex},
	}}})
	if err == nil && len(faults) > 0 {
		err = txn.Refusal(faults[0].What)
	}
	if err != nil {
		return false, fmt.Errorf("remove the empty Consul node %s: %w", node.Node, err)
	}
	return true, nil
}
