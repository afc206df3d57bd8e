package health

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
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

// Next returns the health of each entry of the node at the servers, by ID, as
// soon as it differs from what it was at the index, and the new index. Index 0
// is answered at once, by a consistent read. An error means that it is not
// known, and that the next question is to begin at 0.
func (w *Watcher) Next(ctx context.Context, index uint64) (map[string]service.Health, uint64, error) {
	node, err := w.node.NodeName(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("watch the servers: %w", err)
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
		return nil, 0, fmt.Errorf("watch the servers' view of node %s: %w", node, consul.Classify(err))
	}
	held := map[string]service.Health{}
	for _, check := range checks {
		if check != nil && check.ServiceID != "" && check.CheckID == check.ServiceID {
			held[check.ServiceID] = service.Health(check.Status)
		}
	}
	if meta.LastIndex < index {
		return nil, 0, fmt.Errorf("watch the servers' view of node %s: %w", node, &consul.Error{Kind: consul.ErrUnusable})
	}
	return held, meta.LastIndex, nil
}
