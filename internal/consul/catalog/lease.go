package catalog

import (
	"context"
	"fmt"
	"slices"
	"strconv"

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
// Kubernetes. An agent that lives makes its lease passing again within its
// --resync. Its word is the last one, and a dispute shows as a lease that flips.
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
	// Reason is why it was expired, in the words of who did.
	Reason string

	check *api.HealthCheck
}

// NewLeases makes Leases. It asks nothing yet.
func NewLeases(client *consul.Client, cluster string) *Leases {
	return &Leases{client: client, cluster: cluster}
}

// List returns the leases of all virtual nodes of the cluster. An error means
// that they are not known, never that there are none (I1).
func (l *Leases) List(ctx context.Context) ([]Lease, error) {
	opts := func(filter string) *api.QueryOptions {
		return (&api.QueryOptions{
			RequireConsistent: true,
			NodeMeta:          map[string]string{service.MetaCluster: l.cluster},
			Filter:            filter,
		}).WithContext(ctx)
	}
	checks, meta, err := l.client.Health().State(api.HealthAny, opts("CheckID == "+strconv.Quote(LeaseCheck)))
	if err := whole(meta, err, checks == nil || slices.Contains(checks, nil)); err != nil {
		return nil, fmt.Errorf("list leases of cluster %s: checks: %w", l.cluster, err)
	}
	nodes, meta, err := l.client.Catalog().Nodes(opts(""))
	if err := whole(meta, err, nodes == nil || slices.Contains(nodes, nil)); err != nil {
		return nil, fmt.Errorf("list leases of cluster %s: nodes: %w", l.cluster, err)
	}
	byNode := make(map[string]*api.HealthCheck, len(checks))
	for _, check := range checks {
		byNode[check.Node] = check
	}
	var leases []Lease
	for _, node := range nodes {
		name := node.Meta[service.MetaNode]
		if node.Node != NodeName(l.cluster, name) {
			continue // it has our mark, but not our name
		}
		lease := Lease{Node: name, ConsulNode: node.Node, check: byNode[node.Node]}
		if lease.check != nil {
			lease.Status, lease.Reason = service.Health(lease.check.Status), lease.check.Output
		}
		leases = append(leases, lease)
	}
	return leases, nil
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

// Expire turns a lease critical, which hides all entries of the node from
// clients in one write. It fails with ErrConflict, and writes nothing, if the
// lease has changed since it was listed. A lease that is expired already stays
// as it is, without a write (I6).
func (l *Leases) Expire(ctx context.Context, lease Lease, reason string) error {
	switch {
	case lease.Status == service.Critical:
		return nil
	case lease.check == nil:
		return fmt.Errorf("expire the lease of %s: %w", lease.ConsulNode, &consul.Error{Kind: consul.ErrNotFound})
	}
	check := *lease.check
	check.Status, check.Output = string(service.Critical), reason
	_, faults, err := txn.Exchange(ctx, l.client, api.TxnOps{checkOp(api.CheckCAS, check)})
	if err == nil && len(faults) > 0 {
		err = txn.Refusal(faults[0].What)
	}
	if err != nil {
		return fmt.Errorf("expire the lease of %s: %w", lease.ConsulNode, err)
	}
	return nil
}
