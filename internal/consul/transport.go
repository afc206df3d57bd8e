package consul

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// pool is the connections of a process, and how new ones are made.
type pool struct {
	*http.Transport
	dialer *dialer
}

// newPool also returns the address in the form that the API client takes.
func newPool(cfg Config, conns int) (*pool, string, error) {
	scheme, host, ok := strings.Cut(cfg.Address, "://")
	if !ok || host == "" {
		return nil, "", fmt.Errorf("consul address %q: want http://host:port, https://host:port or unix:///path", cfg.Address)
	}
	dialer := newDialer()
	transport := &http.Transport{
		DialContext:         dialer.dial,
		MaxConnsPerHost:     conns,
		MaxIdleConnsPerHost: conns,
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
			return nil, "", fmt.Errorf("consul TLS: %w", err)
		}
		transport.TLSClientConfig = tls
	case "unix":
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.net.DialContext(ctx, "unix", host)
		}
		address = "http://consul.sock"
	default:
		return nil, "", fmt.Errorf("consul address %q: scheme %q is not http, https or unix", cfg.Address, scheme)
	}
	return &pool{Transport: transport, dialer: dialer}, address, nil
}

// roundTripper adds the token and the user agent, and turns away from a server
// that fails.
type roundTripper struct {
	pool      *pool
	token     tokenSource
	tally     *tally
	userAgent string
}

// RoundTrip implements http.RoundTripper.
func (rt *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := rt.token.read(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		rt.count(0, nil, err)
		return nil, err
	}
	var server net.Conn
	req = req.Clone(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { server = info.Conn },
	}))
	// The API client falls back on CONSUL_HTTP_TOKEN. There must be one way to
	// give Fairway a token, so that is taken out again.
	req.Header.Del("X-Consul-Token")
	if token != "" {
		req.Header.Set("X-Consul-Token", token)
	}
	if rt.userAgent != "" {
		req.Header.Set("User-Agent", rt.userAgent)
	}
	resp, err := rt.pool.RoundTrip(req)
	if err != nil {
		if !errors.Is(err, context.Canceled) && server != nil {
			rt.pool.leave(server)
		}
		rt.count(0, nil, err)
		return nil, err
	}
	if err := rt.read(resp, token, server); err != nil {
		return nil, err
	}
	if resp.Header.Get(lastContact) == "" {
		// The API client reads nothing after this header if it is missing, as
		// it is in an agent's own answers; among the rest is the one that says
		// whether ACLs have filtered the answer.
		resp.Header.Set(lastContact, "0")
	}
	return resp, nil
}

// read looks at a refusal before the API client does, for what it means for
// the requests to come.
func (rt *roundTripper) read(resp *http.Response, token string, server net.Conn) error {
	if resp.StatusCode < http.StatusBadRequest {
		rt.count(resp.StatusCode, nil, nil)
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, longestRefusal))
	_ = resp.Body.Close()
	rt.count(resp.StatusCode, body, err)
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if isTokenUnknown(body) {
		rt.token.unknown(token)
	}
	if server != nil && (slowDown(resp.StatusCode) || leaderless(resp.StatusCode, body)) {
		rt.pool.leave(server)
	}
	return nil
}

// count counts a request. One that we gave up ourselves says nothing of Consul.
func (rt *roundTripper) count(status int, refusal []byte, err error) {
	if !errors.Is(err, context.Canceled) {
		rt.tally.add(outcomeOf(status, refusal, err))
	}
}

// isTokenUnknown tells whether Consul does not know the token of a request.
func isTokenUnknown(refusal []byte) bool { return bytes.Contains(refusal, []byte(tokenUnknown)) }

// leave makes the requests to come try another server first.
func (p *pool) leave(server net.Conn) {
	p.dialer.avoid(server.RemoteAddr().String())
	p.CloseIdleConnections()
	_ = server.Close() // it may not be idle yet
}

const (
	lastContact = "X-Consul-Lastcontact"
	// longestRefusal is more than Consul says of a transaction in which every
	// operation is at fault.
	longestRefusal = 1 << 20
)
