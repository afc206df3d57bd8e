package health

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/service"
)

// longest is how long a question waits for news. Consul adds up to a sixteenth.
const longest = 5 * time.Minute

// Watcher follows what the servers hold of one Consul node.
type Watcher struct {
	client *consul.Client
	node   Node
}

// NewWatcher makes a Watcher. node is as for NewProver.
func NewWatcher(client *consul.Client, node Node) *Watcher {
	return &Watcher{client: client, node: node}
}

// Held is what the servers hold of a node.
type Held struct {
	// Health is that of each entry, by ID.
	Health map[string]service.Health
	// Disturbed is true if the node's lease is not as its agent keeps it.
	Disturbed bool
}

// Next returns what the servers hold of the node as soon as it differs from what
// it was at the index, and the new index. Index 0 is answered at once, by a
// consistent read. An error means that it is not known, and that the next
// question is to begin at 0.
func (w *Watcher) Next(ctx context.Context, index uint64) (Held, uint64, error) {
	node, err := w.node.NodeName(ctx)
	if err != nil {
		return Held{}, 0, fmt.Errorf("watch the servers: %w", err)
	}
	var checks []*api.HealthCheck
	opts := (&api.QueryOptions{RequireConsistent: index == 0, WaitIndex: index, WaitTime: longest}).WithContext(ctx)
	meta, err := w.client.Raw().Query("/v1/health/node/"+node, &checks, opts)
	if err == nil {
		err = consul.Proven(meta)
	}
	if err == nil && checks == nil {
		err = &consul.Error{Kind: consul.ErrUnusable}
	}
	if err != nil {
		return Held{}, 0, fmt.Errorf("watch the servers' view of node %s: %w", node, consul.Classify(err))
	}
	held := Held{Health: map[string]service.Health{}}
	for _, check := range checks {
		switch {
		case check == nil:
		case check.ServiceID != "" && check.CheckID == check.ServiceID:
			held.Health[check.ServiceID] = service.Health(check.Status)
		case check.CheckID == catalog.LeaseCheck && check.ServiceID == "":
			held.Disturbed = catalog.Disturbed(check)
		}
	}
	if meta.LastIndex < index {
		return Held{}, 0, fmt.Errorf("watch the servers' view of node %s: %w", node, &consul.Error{Kind: consul.ErrUnusable})
	}
	return held, meta.LastIndex, nil
}
