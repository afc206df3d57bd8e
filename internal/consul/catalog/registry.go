// Package catalog keeps a node's entries in the catalog of the Consul servers,
// without a Consul agent on the node.
//
// The entries stand under one virtual Consul node for each Kubernetes node. An
// entry is a service with one check of the same ID. Whether the node lives at
// all is said by one more check of the virtual node, the lease: this package
// keeps it passing, and [Leases] lets a controller turn it critical.
//
// Facts about the servers (Consul 1.22) that this package is built on:
//   - A transaction (/v1/txn) of up to 128 operations and 512 KiB is one entry
//     in Consul's log. It is carried out whole or not at all, and if not, all
//     operations that are at fault are named, except for faults of its form.
//   - Check-and-set (cas, delete-cas) compares the index at which a record was
//     last changed; index 0 means that it must not exist. Writing what is there
//     already keeps the index, but costs an entry in the log.
//   - The record of an absent node reads as null with status 200. A node that the
//     ACLs hide reads the same, but the answer says that it was filtered.
//   - The index of an answer about a node's services moves on with every write of
//     the node or of one of them, and with others' in some versions of Consul.
//   - The index of an answer about checks is that of the last write of any
//     check, so it is never lower than that of a check that was written.
//
// A virtual node stays when its last entry has gone, and so does its lease: the
// next pod is then one write, the node record is small, and there is no moment
// at which one agent removes what another process has just come to use. To
// remove the nodes of machines that are gone for good is up to the controller,
// which knows that they are.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/txn"
	"fairway.dev/fairway/internal/registration"
)

// Options of a Registry. All are required, but for what says otherwise.
type Options struct {
	Client *consul.Client
	// Cluster and Node name the Kubernetes node whose entries these are.
	Cluster, Node string
	// Address is the Kubernetes node's own, shown for the virtual node.
	Address netip.Addr
	// Placeless is true instead if Node is none of the cluster's, and has a '/' in
	// its name to show it. What stands there lives as long as the cluster does, so
	// the virtual node has no lease.
	Placeless bool
}

// Registry is the set of entries under one virtual node. No other process may
// write them at the same time for long: what one writes makes the writes of the
// other fail with ErrConflict, until it has read again.
type Registry struct {
	client *consul.Client
	id     identity

	mu      sync.Mutex
	picture picture
	written uint64 // the highest index at which a check was seen or written

	queue *txn.Queue
}

// New makes a Registry. It asks nothing yet.
func New(opts Options) (*Registry, error) {
	if opts.Client == nil || opts.Cluster == "" || opts.Node == "" || opts.Placeless == opts.Address.IsValid() ||
		opts.Placeless != strings.Contains(opts.Node, "/") {
		return nil, errors.New("catalog registry: client, cluster, node and its address are required, or that it has none")
	}
	if opts.Placeless {
		opts.Address = netip.MustParseAddr(noPlace)
	}
	r := &Registry{client: opts.Client, id: identity{
		cluster: opts.Cluster,
		node:    opts.Node,
		name:    NodeName(opts.Cluster, opts.Node),
		address: opts.Address.Unmap(), placeless: opts.Placeless,
	}}
	r.queue = &txn.Queue{Client: opts.Client, Lead: r.lead, Learn: r.learn}
	return r, nil
}

// lead is what puts the virtual node right before its entries are written.
func (r *Registry) lead() api.TxnOps {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.picture.read {
		return nil
	}
	return r.id.nodeOps(r.picture)
}

func (r *Registry) learn(sent api.TxnOps, results api.TxnResults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.picture.learn(sent, results)
	r.written = max(r.written, r.picture.index())
}

// ops are what an op takes; none for a renewal, which is about the node alone.
func (r *Registry) ops(op *registration.Op) (api.TxnOps, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.picture.read:
		return nil, &consul.Error{Kind: consul.ErrConflict, Err: errors.New("the entries have not been read yet")}
	case op == nil:
		return nil, nil
	}
	return r.id.ops(r.picture, *op)
}

// NodeName is the name of the virtual node.
func (r *Registry) NodeName(context.Context) (string, error) { return r.id.name, nil }

// MostWrites is how many calls of Apply and Renew are worth making at the same
// time: some transactions full, because they gather while one is on its way.
func (r *Registry) MostWrites() int { return 256 }

// MostBackground is the same: they share the transactions.
func (r *Registry) MostBackground() int { return r.MostWrites() }

// Observe returns the entries under the virtual node, whoever wrote them. An
// error means that they are not known. It never means that there are none:
// that is only believed of a consistent and unfiltered answer with an index no
// lower than what was there before.
//
// Where nothing was written since the last time, it takes two small answers.
func (r *Registry) Observe(ctx context.Context) ([]registration.Entry, error) {
	if _, err := r.look(ctx); err != nil {
		return nil, err
	}
	return r.entries(), nil
}

// Refresh is Observe for who keeps in mind what was returned last, by either, and
// what was applied since: where that is how it is, it is not changed, and there are
// no entries.
func (r *Registry) Refresh(ctx context.Context) (entries []registration.Entry, changed bool, err error) {
	if changed, err = r.look(ctx); err != nil || !changed {
		return nil, false, err
	}
	return r.entries(), true, nil
}

func (r *Registry) entries() []registration.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.picture.list(len(r.id.nodeOps(r.picture)) > 0)
}

// look brings the picture up to date, and tells whether it has changed.
func (r *Registry) look(ctx context.Context) (changed bool, err error) {
	picture, changed, err := r.read(ctx)
	if err != nil {
		return false, fmt.Errorf("read the entries of Consul node %s: %w", r.id.name, err)
	}
	if changed {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.picture = picture
	}
	return changed, nil
}

// read reads the entries, if they may have changed since they were last read.
func (r *Registry) read(ctx context.Context) (p picture, changed bool, err error) {
	r.mu.Lock()
	last := r.picture.at
	r.mu.Unlock()
	if last != (indexes{}) {
		now, _, _, err := r.answers(ctx, noCheck, noService)
		if err != nil || now == last {
			return picture{}, false, err
		}
	}
	now, checks, node, err := r.answers(ctx, "", "")
	if err != nil {
		return picture{}, false, err
	}
	p, err = newPicture(r.id, node, checks)
	p.at = now
	return p, true, err
}

// These filters let nothing pass: what is left of an answer is its index.
const (
	noCheck   = `CheckID == ""`
	noService = `ID == ""`
)

// answers reads those checks and services of the virtual node that filters let pass.
func (r *Registry) answers(ctx context.Context, ofChecks, ofServices string) (at indexes, checks api.HealthChecks, node *api.CatalogNode, err error) {
	if at.checks, err = r.get(ctx, "/v1/health/node/"+r.id.name, ofChecks, &checks); err != nil {
		return at, nil, nil, fmt.Errorf("checks: %w", err)
	}
	if checks == nil {
		return at, nil, nil, fmt.Errorf("checks: %w", consul.Unusable("not a list"))
	}
	if err := r.advance(at.checks); err != nil {
		return at, nil, nil, err
	}
	if at.node, err = r.get(ctx, "/v1/catalog/node/"+r.id.name, ofServices, &node); err != nil {
		return at, nil, nil, fmt.Errorf("services: %w", err)
	}
	return at, checks, node, nil
}

// get reads path from the leader and returns the index of the answer.
func (r *Registry) get(ctx context.Context, path, filter string, out any) (uint64, error) {
	meta, err := r.client.Raw().Query(path, out, (&api.QueryOptions{RequireConsistent: true, Filter: filter}).WithContext(ctx))
	if err != nil {
		return 0, consul.Classify(err)
	}
	return meta.LastIndex, consul.Proven(meta)
}

// advance refuses an answer that is older than what this process has seen or
// written (I1). Servers that were restored from a backup give lower indexes
// for ever, so it forgets what it knew: the next answer is believed, as it
// would be by a new process.
func (r *Registry) advance(index uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index < r.written {
		before := r.written
		r.written, r.picture.at = 0, indexes{}
		return consul.Unusable("its index %d is below %d, which was there before", index, before)
	}
	r.written = index
	return nil
}

// Apply carries out one op. Nil means that the servers hold what the op asks
// for. Calls at the same time share a transaction; one that Consul refuses
// fails alone. It fails with ErrConflict, and writes nothing, if the entry was
// changed by somebody else since the last Observe.
func (r *Registry) Apply(ctx context.Context, op registration.Op) error {
	var deed string
	switch op.Kind {
	case registration.Register:
		deed = "register"
	case registration.SetHealth:
		deed = "set health of"
	case registration.Deregister:
		deed = "deregister"
	default:
		return fmt.Errorf("apply %s: no such kind of op: %q", op.Instance.ID, op.Kind)
	}
	write := txn.Write{Ops: func() (api.TxnOps, error) { return r.ops(&op) }, Urgent: op.Leaves}
	if err := r.queue.Commit(ctx, write); err != nil {
		return fmt.Errorf("%s %s: %w", deed, op.Instance.ID, err)
	}
	return nil
}

// Renew puts the virtual node and its lease right, if they are not as they
// should be: the lease is critical when the node was taken for dead. It writes
// nothing if all is well, or if there are no entries.
func (r *Registry) Renew(ctx context.Context, entries []registration.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	write := txn.Write{Ops: func() (api.TxnOps, error) { return r.ops(nil) }}
	if err := r.queue.Commit(ctx, write); err != nil {
		return fmt.Errorf("renew the lease of Consul node %s: %w", r.id.name, err)
	}
	return nil
}

// Push has nothing to do: the entries are at the servers themselves.
func (r *Registry) Push(context.Context, registration.Entry) error { return nil }
