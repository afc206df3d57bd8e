package consul

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// identityFor is how long an agent's name is believed without asking again.
const identityFor = 30 * time.Second

// Identity knows which Consul node the client's agent is. Asking for it is
// also how we know that what answers on the address is a Consul agent at all,
// and not, say, a proxy that answers everything with an empty object.
type Identity struct {
	client *Client

	mu    sync.Mutex
	name  string
	asked time.Time
}

// NewIdentity makes an Identity; it asks nothing yet.
func NewIdentity(client *Client) *Identity { return &Identity{client: client} }

// NodeName is the agent's node name in the catalog.
func (i *Identity) NodeName(ctx context.Context) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.name != "" && time.Since(i.asked) < identityFor {
		return i.name, nil
	}
	var self struct {
		Config struct{ NodeName string }
	}
	if _, err := Get(ctx, i.client, "/v1/agent/self", "", &self); err != nil {
		i.name = ""
		return "", fmt.Errorf("ask the agent who it is: %w", err)
	}
	i.name, i.asked = self.Config.NodeName, time.Now()
	if i.name == "" {
		return "", fmt.Errorf("ask the agent who it is: %w", &Error{Kind: ErrUnusable})
	}
	return i.name, nil
}

// Forget makes the next NodeName ask again.
func (i *Identity) Forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.name = ""
}

// Get reads path, which belongs to the agent itself, into out. An answer that
// the ACLs made incomplete is an error.
func Get(ctx context.Context, client *Client, path, filter string, out any) (*api.QueryMeta, error) {
	meta, err := client.Raw().Query(path, out, (&api.QueryOptions{Filter: filter}).WithContext(ctx))
	if err != nil {
		return nil, Classify(err)
	}
	if meta.ResultsFilteredByACLs {
		return nil, &Error{Kind: ErrFiltered}
	}
	return meta, nil
}
