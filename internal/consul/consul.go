// Package consul makes the one client through which a Fairway process speaks
// to Consul, and translates Consul's errors into a few that the rest of
// Fairway can decide on.
//
// What is asked of Consul lives in the packages below: agentapi keeps a node's
// entries in its client agent, health proves what the servers tell clients.
package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// maxConns bounds the connections of a process to its agent. Consul answers
// 429 to a client address that holds more than 200 (http_max_conns_per_client),
// and other clients on the host share that address with us.
const maxConns = 64

// Config says how to reach Consul.
type Config struct {
	// Address is http://host:port, https://host:port or unix:///path.
	Address string
	// TokenFile holds the ACL token. It is read for every request, so that a
	// rotated token is used at once. Empty: requests carry no token.
	TokenFile string
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
	token *tokenSource
}

// New makes a client. It does not contact Consul, and the token file need not
// exist yet: until it does, requests fail with ErrDenied.
func New(cfg Config) (*Client, error) {
	scheme, host, ok := strings.Cut(cfg.Address, "://")
	if !ok || host == "" {
		return nil, fmt.Errorf("consul address %q: want http://host:port, https://host:port or unix:///path", cfg.Address)
	}
	dialer := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		DialContext:         dialer.DialContext,
		MaxConnsPerHost:     maxConns,
		MaxIdleConnsPerHost: maxConns,
		IdleConnTimeout:     90 * time.Second,
	}
	address := cfg.Address
	switch scheme {
	case "http":
	case "https":
		tls, err := api.SetupTLSConfig(&api.TLSConfig{
			Address: host, CAFile: cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile,
		})
		if err != nil {
			return nil, fmt.Errorf("consul TLS: %w", err)
		}
		transport.TLSClientConfig = tls
	case "unix":
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", host)
		}
		address = "http://consul.sock"
	default:
		return nil, fmt.Errorf("consul address %q: scheme %q is not http, https or unix", cfg.Address, scheme)
	}
	token := &tokenSource{file: cfg.TokenFile}
	client, err := api.NewClient(&api.Config{
		Address: address,
		HttpClient: &http.Client{
			Timeout:   cfg.Timeout,
			Transport: &roundTripper{next: transport, token: token, userAgent: cfg.UserAgent},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("consul client: %w", err)
	}
	return &Client{Client: client, token: token}, nil
}

// TokenGeneration counts the different tokens read from the token file so far.
// Zero means that no token is in use.
//
// A Consul agent keeps the token that a service was registered with and syncs
// the service with it forever. Who rotates tokens must therefore register
// again, and this number tells when.
func (c *Client) TokenGeneration() uint64 {
	_, generation, _ := c.token.read()
	return generation
}

// roundTripper adds the token and the user agent.
type roundTripper struct {
	next      http.RoundTripper
	token     *tokenSource
	userAgent string
}

// RoundTrip implements http.RoundTripper.
func (rt *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	token, _, err := rt.token.read()
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	req = req.Clone(req.Context())
	// The API client falls back on CONSUL_HTTP_TOKEN. There must be one way to
	// give Fairway a token, so that is taken out again.
	req.Header.Del("X-Consul-Token")
	if token != "" {
		req.Header.Set("X-Consul-Token", token)
	}
	if rt.userAgent != "" {
		req.Header.Set("User-Agent", rt.userAgent)
	}
	resp, err := rt.next.RoundTrip(req)
	if err == nil && resp.Header.Get(lastContact) == "" {
		// The API client reads nothing after this header if it is missing, as
		// it is in an agent's own answers; among the rest is the one that says
		// whether ACLs have filtered the answer.
		resp.Header.Set(lastContact, "0")
	}
	return resp, err
}

const lastContact = "X-Consul-Lastcontact"

// tokenSource reads a token file and counts its changes.
type tokenSource struct {
	file string

	mu         sync.Mutex
	token      string
	generation uint64
}

// errNoToken is what requests fail with before the token file can be read.
var errNoToken = errors.New("no usable ACL token")

// read returns the current token. Once a token was read, a file that is
// missing or empty for a moment does not take it away.
func (s *tokenSource) read() (string, uint64, error) {
	if s.file == "" {
		return "", 0, nil
	}
	data, err := os.ReadFile(s.file)
	token := strings.TrimSpace(string(data))

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case token != "" && token != s.token:
		s.token = token
		s.generation++
	case token == "" && s.token == "":
		if err == nil {
			err = fmt.Errorf("%s is empty", s.file)
		}
		return "", 0, fmt.Errorf("%w: %w", errNoToken, err)
	}
	return s.token, s.generation, nil
}
