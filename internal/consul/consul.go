// Package consul makes the one client through which a Fairway process speaks
// to Consul, and translates Consul's errors into a few that the rest of
// Fairway can decide on.
//
// What is asked of Consul lives in the packages below: agentapi keeps a node's
// entries in its client agent, catalog keeps them at the servers, health proves
// what the servers tell clients.
package consul

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"
)

// maxConns bounds the connections of a client to Consul. Consul answers
// 429 to a client address that holds more than 200 (http_max_conns_per_client),
// and other clients on the host share that address with us.
const maxConns = 64

// Config says how to reach Consul.
type Config struct {
	// Address is http://host:port, https://host:port or unix:///path. A host
	// name may stand for several servers: one that cannot be reached, answers
	// too late, knows no leader or asks to slow down is left for another.
	Address string
	// TokenFile holds the ACL token. It is read for every request, so that a
	// rotated token is used at once. Empty: requests carry no token.
	TokenFile string
	// AuthMethod, if set, is the auth method that gives the token instead, in
	// exchange for the bearer token in BearerTokenFile.
	AuthMethod, BearerTokenFile string
	// CAFile, CertFile and KeyFile are for https; the last two are optional.
	CAFile, CertFile, KeyFile string
	// Timeout bounds every request. Zero leaves that to the context.
	Timeout time.Duration
	// UserAgent names the process in Consul's logs.
	UserAgent string
}

// Client is Consul's own client over one pooled transport.
type Client struct {
	*api.Client
	apart func(conns int) (*Client, error) // see Apart
	token tokenSource
	tally *tally
}

// New makes a client. It does not contact Consul, and the token file need not
// exist yet: until it does, requests fail with ErrDenied.
func New(cfg Config) (*Client, error) {
	pool, address, err := newPool(cfg, maxConns)
	if err != nil {
		return nil, err
	}
	return newClient(cfg, pool, address)
}

// Apart makes a client with the same token that has connections of its own, so
// many at most. It is for questions that are held open for long, which would take
// the connections from all others; Config.Timeout does not hold for it, only the
// context of each.
func (c *Client) Apart(conns int) (*Client, error) { return c.apart(conns) }

// rawClient is Consul's own client over a pool.
func rawClient(cfg Config, pool *pool, address string, token tokenSource, tally *tally) (*api.Client, error) {
	client, err := api.NewClient(&api.Config{
		Address: address,
		HttpClient: &http.Client{
			Timeout:   cfg.Timeout,
			Transport: &roundTripper{pool: pool, token: token, tally: tally, userAgent: cfg.UserAgent},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("consul client: %w", err)
	}
	return client, nil
}

func newClient(cfg Config, pool *pool, address string) (*Client, error) {
	var token tokenSource = &tokenFile{file: cfg.TokenFile}
	if cfg.AuthMethod != "" {
		anonymous, err := rawClient(cfg, pool, address, &tokenFile{}, newTally())
		if err != nil {
			return nil, err
		}
		token = newLogin(anonymous, cfg.AuthMethod, cfg.BearerTokenFile)
	}
	return withToken(cfg, pool, address, token, newTally())
}

// withToken makes a client whose token and tally others may use, too.
func withToken(cfg Config, pool *pool, address string, token tokenSource, tally *tally) (*Client, error) {
	raw, err := rawClient(cfg, pool, address, token, tally)
	if err != nil {
		return nil, err
	}
	cfg.Timeout = 0 // a question that is held open outlives it
	apart := func(conns int) (*Client, error) {
		pool, address, err := newPool(cfg, conns)
		if err != nil {
			return nil, err
		}
		return withToken(cfg, pool, address, token, tally)
	}
	return &Client{Client: raw, apart: apart, token: token, tally: tally}, nil
}

// TokenGeneration counts the different tokens used so far. Zero means that no
// token is in use.
//
// A Consul agent keeps the token that a service was registered with and syncs
// the service with it forever. Who rotates tokens must therefore register
// again, and this number tells when.
func (c *Client) TokenGeneration() uint64 { return c.token.generation() }

// Logout destroys the token that an auth method has given. It is for clients
// of servers: a client agent goes on using the token of what it was given to
// register, and must be left to it.
func (c *Client) Logout(ctx context.Context) error {
	if l, ok := c.token.(*login); !ok || !l.held() {
		return nil
	}
	_, err := c.ACL().Logout((&api.WriteOptions{}).WithContext(ctx))
	return Classify(err)
}
