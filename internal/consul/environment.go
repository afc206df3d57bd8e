package consul

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"
)

// FromEnvironment makes a client for a person's shell: it reads the environment
// (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and the others) as the consul command
// does. What cfg has set wins. It does not contact Consul. AuthMethod is not for
// people and ignored.
func FromEnvironment(cfg Config) (*Client, error) { return fromEnvironment(cfg, maxConns) }

// fromEnvironment makes a client with so many connections of its own at most.
func fromEnvironment(cfg Config, conns int) (*Client, error) {
	config := api.DefaultConfig()
	config.Transport.MaxConnsPerHost = conns
	for _, set := range []struct {
		to    *string
		value string
	}{
		{&config.Address, cfg.Address},
		{&config.TLSConfig.CAFile, cfg.CAFile},
		{&config.TLSConfig.CertFile, cfg.CertFile},
		{&config.TLSConfig.KeyFile, cfg.KeyFile},
		{&config.TokenFile, cfg.TokenFile},
	} {
		if set.value != "" {
			*set.to = set.value
		}
	}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("consul client: %w", err)
	}
	if cfg.UserAgent != "" {
		client.AddHeader("User-Agent", cfg.UserAgent)
	}
	apart := func(conns int) (*Client, error) { return fromEnvironment(cfg, conns) }
	return &Client{Client: client, apart: apart, token: &tokenFile{file: config.TokenFile}}, nil
}

// Leader asks who leads the servers, empty if nobody does, and how many servers
// there are.
func (c *Client) Leader(ctx context.Context) (leader string, servers int, err error) {
	opts := (&api.QueryOptions{}).WithContext(ctx)
	if leader, err = c.Status().LeaderWithQueryOptions(opts); err != nil {
		return "", 0, fmt.Errorf("ask for the leader: %w", Classify(err))
	}
	peers, err := c.Status().PeersWithQueryOptions(opts)
	if err != nil {
		return "", 0, fmt.Errorf("ask for the servers: %w", Classify(err))
	}
	return leader, len(peers), nil
}
