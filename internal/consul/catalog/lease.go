package catalog

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/txn"
	"fairway.dev/fairway/internal/service"
)

// Leases are the leases of a cluster's virtual nodes, for who can tell that a
// Kubernetes node is dead although its agent cannot say so any more.
//
// An agent at rest writes nothing, so the lease itself is no sign of life:
// whoever expires one needs other evidence, such as the node's Lease in
// Kubernetes, and can Ask the agent first. An agent that lives puts its lease
// right as soon as it sees that it is not. Its word is the last one.
type Leases struct {
	client  *consul.Client
	cluster string
}

// Lease is one virtual node and its lease, as of one moment.
type Lease struct {
	// Node is the Kubernetes node, ConsulNode the virtual one.
	Node, ConsulNode string
	// Status is passing as long as nobody has expired it. It is empty if there
	// is no lease: the node was made by hand, or is being made now.
	Status service.Health
	// Reason is why it was expired, in the words of who did; of a passing lease the
	// question that stands on it, see Ask.
	Reason string
	// Address is the Kubernetes node's.
	Address netip.Addr
	// Index changes with every write of the lease; zero if there is none.
	// NodeIndex is that of the virtual node's record.
	Index, NodeIndex uint64
}

// Asked tells whether a question stands that the agent has not answered.
func (l Lease) Asked() bool { return l.Status == service.Passing && l.Reason != "" }

// Placeless tells whether the virtual node stands for no machine. It has a lease only
// while somebody thinks that its cluster is dead.
func (l Lease) Placeless() bool { return strings.Contains(l.Node, "/") }

// with is the lease as a check holds it; nil is none.
func (l Lease) with(check *api.HealthCheck) Lease {
	l.Status, l.Reason, l.Index = "", "", 0
	if check != nil {
		l.Status, l.Reason, l.Index = service.Health(check.Status), check.Output, check.ModifyIndex
	}
	return l
}

// check is the lease in Consul's words.
func (l *Leases) check(lease Lease) api.HealthCheck {
	check := identity{cluster: l.cluster, node: lease.Node, name: lease.ConsulNode, placeless: lease.Placeless()}.lease()
	check.ModifyIndex = lease.Index
	return check
}

// NewLeases makes Leases. It asks nothing yet.
func NewLeases(client *consul.Client, cluster string) *Leases {
	return &Leases{client: client, cluster: cluster}
}

// List returns the leases of all virtual nodes of the cluster. An error means
// that they are not known, never that there are none (I1).
func (l *Leases) List(ctx context.Context) ([]Lease, error) {
	all, err := list(ctx, l.client, map[string]string{service.MetaCluster: l.cluster})
	if err != nil {
		return nil, fmt.Errorf("list leases of cluster %s: %w", l.cluster, err)
	}
	return slices.DeleteFunc(all[l.cluster], Lease.Placeless), nil
}

// ListAll returns, by cluster, the leases of all virtual nodes of all clusters, and
// the virtual nodes that stand for no machine: those have a lease only while somebody
// thinks that their cluster is dead. An error means that they are not known.
func ListAll(ctx context.Context, client *consul.Client) (map[string][]Lease, error) {
	all, err := list(ctx, client, nil)
	if err != nil {
		return nil, fmt.Errorf("list leases of all clusters: %w", err)
	}
	return all, nil
}

// list returns the leases of virtual nodes with that meta, by cluster.
func list(ctx context.Context, client *consul.Client, meta map[string]string) (map[string][]Lease, error) {
	opts := func(filter string) *api.QueryOptions {
		return (&api.QueryOptions{RequireConsistent: true, NodeMeta: meta, Filter: filter}).WithContext(ctx)
	}
	checks, answer, err := client.Health().State(api.HealthAny, opts(leaseOnly))
	if err := whole(answer, err, checks == nil || slices.Contains(checks, nil)); err != nil {
		return nil, fmt.Errorf("checks: %w", err)
	}
	nodes, answer, err := client.Catalog().Nodes(opts(fmt.Sprintf("%q in Meta", service.MetaCluster)))
	if err := whole(answer, err, nodes == nil || slices.Contains(nodes, nil)); err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	byNode := make(map[string]*api.HealthCheck, len(checks))
	for _, check := range checks {
		byNode[check.Node] = check
	}
	leases := map[string][]Lease{}
	for _, node := range nodes {
		cluster, name := node.Meta[service.MetaCluster], node.Meta[service.MetaNode]
		if node.Node != NodeName(cluster, name) {
			continue // it has our mark, but not our name
		}
		address, _ := netip.ParseAddr(node.Address) // the zero address is nobody's
		lease := Lease{Node: name, ConsulNode: node.Node, Address: address, NodeIndex: node.ModifyIndex}
		leases[cluster] = append(leases[cluster], lease.with(byNode[node.Node]))
	}
	return leases, nil
}

// Read returns a lease as it is now. An error means that it is not known.
func (l *Leases) Read(ctx context.Context, lease Lease) (Lease, error) {
	checks, meta, err := l.client.Health().Node(lease.ConsulNode, (&api.QueryOptions{
		RequireConsistent: true, Filter: leaseOnly,
	}).WithContext(ctx))
	if err := whole(meta, err, checks == nil || len(checks) > 1 || slices.Contains(checks, nil)); err != nil {
		return Lease{}, fmt.Errorf("read the lease of %s: %w", lease.ConsulNode, err)
	}
	if len(checks) == 0 {
		return lease.with(nil), nil
	}
	return lease.with(checks[0]), nil
}

// leaseOnly selects the leases among the checks.
const leaseOnly = `CheckID == "` + LeaseCheck + `"`

func whole(meta *api.QueryMeta, err error, incomplete bool) error {
	switch {
	case err != nil:
		return consul.Classify(err)
	case incomplete:
		return consul.Unusable("not a whole list")
	}
	return consul.Proven(meta)
}

// Ask puts a question to the node's agent, as the output of its passing lease:
// clients are given the node's entries as before. An agent that lives and
// reaches Consul takes it back at once. It fails with ErrConflict, and writes
// nothing, if the lease has changed since it was read.
func (l *Leases) Ask(ctx context.Context, lease Lease, question string) error {
	if lease.Asked() {
		return nil
	}
	return l.write(ctx, "ask the agent of", lease, service.Passing, question)
}

// Expire turns a lease critical, which hides all entries of the node from
// clients in one write. It fails with ErrConflict, and writes nothing, if the
// lease has changed since it was read. A lease that is expired already stays
// as it is, without a write (I6).
func (l *Leases) Expire(ctx context.Context, lease Lease, reason string) error {
	if lease.Status == service.Critical {
		return nil
	}
	return l.write(ctx, "expire the lease of", lease, service.Critical, reason)
}

func (l *Leases) write(ctx context.Context, deed string, lease Lease, status service.Health, output string) error {
	var err error = &consul.Error{Kind: consul.ErrNotFound}
	if lease.Index != 0 || lease.Placeless() {
		check := l.check(lease)
		check.Status, check.Output = string(status), output
		err = l.exchange(ctx, checkOp(api.CheckCAS, check))
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", deed, lease.ConsulNode, err)
	}
	return nil
}

// Remove takes a virtual node out, with all that is under it. It fails with
// ErrConflict, and writes nothing, if its lease is not critical any more, or was
// changed in any way since it was listed.
func (l *Leases) Remove(ctx context.Context, lease Lease) error {
	if lease.Index == 0 || lease.NodeIndex == 0 || lease.Status != service.Critical {
		return fmt.Errorf("remove %s: %w", lease.ConsulNode, &consul.Error{Kind: consul.ErrConflict})
	}
	err := l.exchange(ctx,
		checkOp(api.CheckDeleteCAS, l.check(lease)), // fails, and all with it, if the agent is back
		&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeDeleteCAS, Node: api.Node{Node: lease.ConsulNode, ModifyIndex: lease.NodeIndex}}})
	if err != nil {
		return fmt.Errorf("remove %s: %w", lease.ConsulNode, err)
	}
	return nil
}

func (l *Leases) exchange(ctx context.Context, ops ...*api.TxnOp) error {
	_, faults, err := txn.Exchange(ctx, l.client, ops)
	if err == nil && len(faults) > 0 {
		err = txn.Refusal(faults[0].What)
	}
	return err
}
