package controller

import (
	"context"
	"net/netip"
	"time"

	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/kube/nodes"
)

// nodeSource is the cluster's nodes as the API server shows them.
type nodeSource interface {
	Run(ctx context.Context) error
	Changed() <-chan struct{}
	View(keep func(node string) bool, now time.Time) nodes.View
	// Confirm asks whether there is no Node of that name. An error means that it
	// could not be found out.
	Confirm(ctx context.Context, node string) (deleted bool, err error)
}

// leases are those of the virtual nodes. An error of List or Read means that they
// are not known. The writes fail if a lease has changed since it was read.
type leases interface {
	List(ctx context.Context) ([]catalog.Lease, error)
	Read(ctx context.Context, lease catalog.Lease) (catalog.Lease, error)
	Ask(ctx context.Context, lease catalog.Lease, question string) error
	Expire(ctx context.Context, lease catalog.Lease, reason string) error
	Remove(ctx context.Context, lease catalog.Lease) error
}

// agents are the nodes' agents, at their ports.
type agents interface {
	Answer(ctx context.Context, cluster, node string, address netip.Addr) bool
}

// events tells people of a Node.
type events interface {
	Note(node, reason, message string)
	Warn(node, reason, message string)
}
