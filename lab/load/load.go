// Package load is a client outside the cluster: it discovers the instances of
// a service through the Consul servers, as clients do, and calls them without
// a pause. It never retries a call, so that every failure is counted.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// Options says what to call and how.
type Options struct {
	// Consul are clients of the Consul servers; the next is asked when one
	// does not answer. While none answers the last known instances are called.
	Consul  []*api.Client
	Service string
	// Dial makes connections from the place where the client stands.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Workers call at the same time; at least 1.
	Workers int
	// Every worker waits this long between two calls.
	Interval time.Duration
	// Timeout bounds one call.
	Timeout time.Duration
}

// Report is what the client has seen so far.
type Report struct {
	Requests int
	Failures int
	// Failed are the first failures, at most 10,000.
	Failed []Failure
	// ByPod counts the answers by pod, as the pods name themselves.
	ByPod map[string]int
	// NoInstances counts the times when discovery gave no instance to call.
	// Each also counts as a request and a failure.
	NoInstances int
}

// Failure is one call that failed.
type Failure struct {
	Began   time.Time
	Address string // host:port, empty if discovery gave none
	Err     error
}

// Host is the address without its port.
func (f Failure) Host() string {
	host, _, _ := net.SplitHostPort(f.Address)
	return host
}

// String is the failure in words.
func (f Failure) String() string {
	return fmt.Sprintf("%s %s: %v", f.Began.Format("15:04:05.000"), f.Address, f.Err)
}

// Client calls until it is stopped. Make it with Start.
type Client struct {
	opts   Options
	http   *http.Client
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu        sync.Mutex
	addresses []string
	report    Report
}

// Start discovers the service, which must have at least one passing instance,
// and begins to call.
func Start(ctx context.Context, o Options) (*Client, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &Client{opts: o, cancel: cancel, report: Report{ByPod: map[string]int{}}}
	c.http = &http.Client{
		Timeout:   o.Timeout,
		Transport: &http.Transport{DialContext: o.Dial, MaxIdleConnsPerHost: o.Workers, IdleConnTimeout: 5 * time.Second},
	}
	index, err := c.first(ctx)
	if err == nil && len(c.addresses) == 0 {
		err = errors.New("no passing instance")
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("discover %s: %w", o.Service, err)
	}
	c.done.Go(func() { c.follow(ctx, index) })
	for range o.Workers {
		c.done.Go(func() { c.call(ctx) })
	}
	return c, nil
}

// Report returns what the client has seen so far.
func (c *Client) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report
	r.Failed = slices.Clone(r.Failed)
	r.ByPod = maps.Clone(r.ByPod)
	return r
}

// Stop ends the calls after those in flight and returns the final report.
func (c *Client) Stop() Report {
	c.cancel()
	c.done.Wait()
	c.http.CloseIdleConnections()
	return c.Report()
}

// first takes over the answer of the first server that has one. One of them may have
// lost sight of the leader, as after a moment in which nobody heard of that.
func (c *Client) first(ctx context.Context) (index uint64, err error) {
	for _, server := range c.opts.Consul {
		var failed error
		if index, failed = c.discover(ctx, server, 0); failed == nil {
			return index, nil
		}
		err = errors.Join(err, failed)
	}
	return 0, err
}

func (c *Client) follow(ctx context.Context, index uint64) {
	for server := 0; ctx.Err() == nil; {
		next, err := c.discover(ctx, c.opts.Consul[server], index)
		if err != nil {
			server, next = (server+1)%len(c.opts.Consul), 0
			wait(ctx, 20*time.Millisecond)
		}
		index = next
	}
}

// prompt is how long a server may take for a question that waits for no news. One
// that knows no leader holds it for up to 7 seconds (rpc_hold_timeout), and would
// for so long keep the client from asking another, which may know better.
const prompt = 500 * time.Millisecond

// discover takes over one answer of the servers, by a consistent read: in the
// default mode a server that has just become leader answers before it has
// applied its log, and after all servers were down that is an empty catalog.
func (c *Client) discover(ctx context.Context, server *api.Client, index uint64) (uint64, error) {
	if index == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, prompt)
		defer cancel()
	}
	q := (&api.QueryOptions{WaitIndex: index, WaitTime: 30 * time.Second, RequireConsistent: true}).WithContext(ctx)
	entries, meta, err := server.Health().Service(c.opts.Service, "", true, q)
	if err != nil {
		return 0, err
	}
	addresses := make([]string, 0, len(entries))
	for _, e := range entries {
		addresses = append(addresses, net.JoinHostPort(e.Service.Address, strconv.Itoa(e.Service.Port)))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addresses = addresses
	if meta.LastIndex < index {
		return 0, nil
	}
	return meta.LastIndex, nil
}

func (c *Client) call(ctx context.Context) {
	for ctx.Err() == nil {
		// A call that has begun is ended by its timeout alone: cutting it when
		// the client stops would count as a failure of the service.
		began := time.Now()
		address, pod, err := c.once(context.WithoutCancel(ctx))
		c.record(pod, Failure{Began: began, Address: address, Err: err})
		wait(ctx, c.opts.Interval)
	}
}

var errNoInstances = errors.New("discovery returns no instance")

func (c *Client) once(ctx context.Context) (address, pod string, err error) {
	c.mu.Lock()
	addresses := c.addresses
	c.mu.Unlock()
	if len(addresses) == 0 {
		return "", "", errNoInstances
	}
	address = addresses[rand.IntN(len(addresses))]
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return address, "", err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return address, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err != nil {
		return address, "", fmt.Errorf("read answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return address, "", fmt.Errorf("answered %s", response.Status)
	}
	return address, string(body), nil
}

// mostFailures bounds what is remembered of failures.
const mostFailures = 10_000

func (c *Client) record(pod string, f Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Requests++
	if f.Err == nil {
		c.report.ByPod[pod]++
		return
	}
	c.report.Failures++
	if errors.Is(f.Err, errNoInstances) {
		c.report.NoInstances++
	}
	if len(c.report.Failed) < mostFailures {
		c.report.Failed = append(c.report.Failed, f)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
